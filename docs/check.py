"""Open every built page in headless Chromium: python docs/check.py [--screenshots FOLDER]

Each page is opened on a desktop and at a phone's width, light and dark. The exit status is 1 where a page logs an
error, asks for something that does not come or that is not the site's own, is wider than its window, shows Markdown's
marks, or links to a page or an anchor that is not there.
Build first: sphinx-build -W -n --keep-going -b html docs docs/_build/html
"""

import argparse
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urldefrag

from playwright.sync_api import BrowserContext, Page, Request, sync_playwright

BUILT = Path(__file__).with_name("_build") / "html"
DOWNLOADS = "_downloads/"  # files that pages offer, among them reports, which are no pages of the site
FLAGS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",
]

MARKS = r"""() => {
  const found = [], walker = document.createTreeWalker(document.querySelector("article"), NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent, within = walker.currentNode.parentElement;
    if (!within.closest("pre, code, .sig, script, style") && /`|\*\*|\]\(|\$\S*\\/.test(text)) found.push(text.trim());
  }
  return found;
}"""  # what Markdown should have read as code, bold, a link or a formula, and shows as it was typed


@dataclass(frozen=True)
class View:
    """One way of looking at a page."""

    name: str
    width: int
    height: int
    scheme: Literal["light", "dark"]


VIEWS = (
    View("light", 1280, 900, "light"),
    View("dark", 1280, 900, "dark"),
    View("phone", 390, 844, "light"),
    View("phone-dark", 390, 844, "dark"),
)


@dataclass
class Findings:
    """What is wrong, and what is needed to judge links when all pages have been seen."""

    problems: list[str] = field(default_factory=list)
    anchors: dict[str, set[str]] = field(default_factory=dict)
    links: list[tuple[str, str]] = field(default_factory=list)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of each request."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The folder's address on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()


def look(page: Page, name: str, view: View, *, site: str, findings: Findings, screenshots: Path | None) -> None:
    """Open one page in one view and note what is wrong with it."""
    response = page.goto(f"{site}{name}", wait_until="load")
    if response is None or not response.ok:
        findings.problems.append(f"{name} ({view.name}): cannot be opened")
        return
    background = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)")
    if (sum(background) < 3 * 128) != (view.scheme == "dark"):
        findings.problems.append(f"{name} ({view.name}): the background is {background}")
    wide = page.evaluate("document.documentElement.scrollWidth")
    if wide > view.width:
        findings.problems.append(f"{name} ({view.name}): {wide} pixels wide, and the window is {view.width}")
    shown = page.evaluate(MARKS)
    findings.problems += [f"{name} ({view.name}): is shown as it was typed: {text[:80]}" for text in shown]
    if screenshots is not None:
        page.screenshot(path=screenshots / f"{name.removesuffix('.html').replace('/', '-')}-{view.name}.png")
    findings.anchors[name] = set(page.evaluate("[...document.querySelectorAll('[id]')].map(one => one.id)"))
    links = page.evaluate("[...document.querySelectorAll('a[href]')].map(one => one.href)")
    findings.links += [(name, link) for link in links]


def _unanswered(request: Request) -> bool:
    """Whether a request failed other than by the browser's own leaving of the page, whose icon was still on its way."""
    return request.failure != "net::ERR_ABORTED"


def listen(context: BrowserContext, view: View, *, site: str, findings: Findings) -> None:
    """Note errors and requests of every page of a context."""

    def say(page: Page | None, what: str) -> None:
        where = "" if page is None else page.url.removeprefix(site)
        findings.problems.append(f"{where} ({view.name}): {what}")

    context.on("console", lambda message: message.type == "error" and say(message.page, message.text))
    context.on("weberror", lambda error: say(error.page, str(error.error)))
    context.on(
        "requestfailed", lambda asked: _unanswered(asked) and say(asked.frame.page, f"no answer from {asked.url}")
    )
    context.on("response", lambda got: got.status >= 400 and say(got.frame.page, f"{got.status} for {got.url}"))
    context.on("request", lambda asked: _foreign(asked.url, site) and say(asked.frame.page, f"asks {asked.url}"))


def broken_links(findings: Findings, *, site: str) -> list[str]:
    """Links within the site that lead nowhere."""
    broken = []
    for page, link in sorted(set(findings.links)):
        if _foreign(link, site):
            continue
        target, anchor = urldefrag(link.removeprefix(site))
        target = "index.html" if not target else f"{target}index.html" if target.endswith("/") else target
        if target.endswith(".html") and not target.startswith(DOWNLOADS):
            anchors = findings.anchors.get(target)
            if anchors is None:
                broken.append(f"{page}: {target} is not there")
            elif anchor and unquote(anchor) not in anchors:
                broken.append(f"{page}: {target} has no #{unquote(anchor)}")
        elif not (BUILT / unquote(target)).is_file():
            broken.append(f"{page}: {target} is not there")
    return broken


def _foreign(url: str, site: str) -> bool:
    return not url.startswith((site, "data:", "blob:", "about:"))


def main() -> int:
    """Look at every page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--screenshots", type=Path, metavar="FOLDER", help="write a picture of each page and view")
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="the browser (default: %(default)s)")
    options = parser.parse_args()
    built = sorted(path.relative_to(BUILT).as_posix() for path in BUILT.rglob("*.html"))
    pages = [name for name in built if not name.startswith(DOWNLOADS)]
    if not pages:
        parser.error("nothing is built. First: sphinx-build -W -n --keep-going -b html docs docs/_build/html")
    if options.screenshots is not None:
        options.screenshots.mkdir(parents=True, exist_ok=True)
    findings = Findings()
    with served(BUILT) as site, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=options.chromium, args=FLAGS)
        for view in VIEWS:
            size = {"width": view.width, "height": view.height}
            context = browser.new_context(viewport=size, color_scheme=view.scheme)
            listen(context, view, site=site, findings=findings)
            page = context.new_page()
            for name in pages:
                look(page, name, view, site=site, findings=findings, screenshots=options.screenshots)
            context.close()
        browser.close()
        findings.problems += broken_links(findings, site=site)
    for problem in findings.problems:
        print(problem, file=sys.stderr)
    print(f"{len(pages)} pages in {len(VIEWS)} views: {len(findings.problems) or 'no'} problems")
    return int(bool(findings.problems))


if __name__ == "__main__":
    sys.exit(main())
