"""The report in headless Chromium; needs the extra `docs` and Chromium, as .ci/docs has them."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_study import ARMS, made_study

from debiasctl.comparison.report import report_of
from debiasctl.reporting.report.render import write_report

pytest.importorskip("playwright")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
FLAGS = ["--disable-background-networking", "--disable-component-update", "--disable-gpu", "--no-sandbox"]
LONG = "w" * 400
HOSTILE = "<img src=x onerror=alert(1)></script><script>document.title='broken'</script>"
# relative luminance of the text and of what lies behind it, by WCAG 2
CONTRAST = """() => {
  const numbers = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = (rgb) => rgb.slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const rgb = numbers(getComputedStyle(one).backgroundColor);
      if (rgb.length === 3 || rgb[3] > 0) return rgb;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || element.closest("script")) continue;
    const style = getComputedStyle(element);
    const colour = element.closest("svg") ? style.fill : style.color;
    const [a, b] = [light(numbers(colour)), light(behind(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) found.push(`${ratio.toFixed(1)} ${walker.currentNode.textContent.trim().slice(0, 40)}`);
  }
  return [...new Set(found)];
}"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    study = made_study((*ARMS[:2], LONG, HOSTILE), seeds=(0, 1))
    write_report(
        path, report_of(study, [], command="debiasctl compare a b", drawing="debiasctl compare --picture {}".format)
    )
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        launched = play.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield launched
        launched.close()


class Opened:
    """The page in one context, with what it logged and asked for."""

    def __init__(self, browser: Any, path: Path, **view: Any) -> None:
        self.problems: list[str] = []
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | view)
        self.page = self.context.new_page()
        self.page.set_default_timeout(10_000)
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("dialog", lambda dialog: self.problems.append(dialog.message))
        address = path.as_uri()
        allowed = (address, "data:", "blob:")
        self.page.on("request", lambda asked: asked.url.startswith(allowed) or self.problems.append(asked.url))
        self.page.goto(address)


@pytest.fixture
def opened(browser: Any, written: Path) -> Iterator[Opened]:
    one = Opened(browser, written)
    yield one
    one.context.close()
    assert one.problems == []


def test_the_answer_stands_first_and_every_figure_is_drawn(opened: Opened) -> None:
    page = opened.page
    top = page.locator(".answer").bounding_box()
    assert top["y"] + top["height"] < 500
    assert "is better than constant" in page.locator(".answer").inner_text()
    assert page.title() == "4 arms on digits"
    figures = page.locator("figure").all()
    assert [one.get_attribute("id") for one in figures] == ["verdicts", "training", "steps", "colours"]
    for figure in figures:
        box = figure.locator(".drawing:not(.narrow) svg").bounding_box()
        assert box["width"] > 500
        assert box["height"] > 100
        assert figure.locator("path, use").count() > 10
        assert HOSTILE[:12] in figure.inner_text() or HOSTILE[:12] in figure.locator("svg").first.text_content()
    data = json.loads(page.locator("#training--data").text_content())
    assert {line["arm"] for line in data[0]["lines"]} == {*ARMS[:2], LONG, HOSTILE}


def test_tables_are_sorted_by_click_and_by_keyboard(opened: Opened) -> None:
    page = opened.page
    table = page.locator("#figures")
    head = table.locator("th", has_text="constant").first
    number = head.evaluate("one => one.cellIndex")

    def column() -> list[float]:
        return table.evaluate(
            "(one, n) => [...one.tBodies[0].rows].map(row => Number(row.cells[n].dataset.sort))", number
        )

    before = column()
    head.locator("button").click()
    assert column() == sorted(before)
    assert head.get_attribute("aria-sort") == "ascending"
    head.locator("button").focus()
    page.keyboard.press("Enter")
    assert column() == sorted(before, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert head.get_attribute("aria-sort") is None
    assert table.locator("th[aria-sort=ascending]").count() == 1
    assert "Sorted by" in page.locator("[role=status]").inner_text()


def test_cells_without_a_figure_are_sorted_last(opened: Opened) -> None:
    page = opened.page
    button = page.locator("#figures th", has_text="Real images").locator("button")
    for _ in range(2):
        button.click()
        shown = page.locator("#figures tbody tr td:last-child").all_inner_texts()
        filled = [bool(text.strip()) for text in shown]
        assert filled == sorted(filled, reverse=True)


def test_a_theme_is_chosen_and_kept(opened: Opened) -> None:
    page = opened.page
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    button = page.get_by_role("button", name="Switch to a dark page")
    button.press("Enter")
    dark = page.evaluate(background)
    assert sum(map(int, dark[4:-1].split(","))) < 3 * 64 < sum(map(int, light[4:-1].split(",")))
    page.reload()
    assert page.evaluate(background) == dark
    page.get_by_role("button", name="Switch to a light page").click()
    assert page.evaluate(background) == light


def test_a_page_without_storage_still_works(browser: Any, written: Path) -> None:
    one = Opened(browser, written)
    one.page.add_init_script("Object.defineProperty(window, 'localStorage', {get() { throw new Error('no storage') }})")
    one.page.reload()
    one.page.get_by_role("button", name="Switch to a dark page").click()
    assert one.page.evaluate("document.documentElement.dataset.theme") == "dark"
    one.context.close()
    assert one.problems == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_text_can_be_read_and_the_page_is_no_wider_than_its_window(
    browser: Any, written: Path, scheme: str, width: int
) -> None:
    one = Opened(browser, written, viewport={"width": width, "height": 844}, color_scheme=scheme)
    one.page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert one.page.evaluate("document.documentElement.scrollWidth") == width
    assert one.page.evaluate(CONTRAST) == []
    narrow, wide = one.page.locator(".drawing.narrow").first, one.page.locator(".drawing.wide").first
    assert (narrow.is_visible(), wide.is_visible()) == ((True, False) if width == 390 else (False, True))
    one.context.close()
    assert one.problems == []


def test_the_keyboard_reaches_everything_from_the_skip_link_on(opened: Opened) -> None:
    page = opened.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the answer"
    assert page.locator(".skip").bounding_box()["y"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    seen = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        kind = page.evaluate("document.activeElement.tagName")
        seen.add(kind)
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
        assert kind == "BODY" or outline != "0px"
    assert {"BUTTON", "SUMMARY"} <= seen


def test_a_figures_command_is_copied_and_its_data_saved(browser: Any, written: Path, tmp_path: Path) -> None:
    one = Opened(browser, written, permissions=["clipboard-read", "clipboard-write"], accept_downloads=True)
    figure = one.page.locator("#verdicts")
    figure.locator("summary").press("Enter")
    figure.get_by_role("button", name="Copy").click()
    expected = "debiasctl compare --picture verdicts"
    assert one.page.evaluate("navigator.clipboard.readText()") == expected
    for name, ending in (("Save the data (JSON)", "json"), ("Save the figure (SVG)", "svg")):
        with one.page.expect_download() as waiting:
            figure.get_by_role("button", name=name).click()
        waiting.value.save_as(tmp_path / ending)
        assert waiting.value.suggested_filename == f"verdicts.{ending}"
    saved = json.loads((tmp_path / "json").read_text())
    assert saved["command"] == expected
    assert saved["data"] == json.loads(one.page.locator("#verdicts--data").text_content())
    assert saved["environment"]["Measured"]["sampler"] == "ddim"
    assert "<svg" in (tmp_path / "svg").read_text()
    one.context.close()
    assert one.problems == []


def test_print_shows_all_tables_on_white_and_none_of_the_controls(browser: Any, written: Path) -> None:
    one = Opened(browser, written, color_scheme="dark")
    one.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    one.page.emulate_media(media="print")
    assert one.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not one.page.locator(".bar").is_visible()
    assert not one.page.locator("[data-copy]").first.is_visible()
    assert one.page.locator("#evidence").is_visible()
    assert one.page.locator(".drawing.wide").first.is_visible()
    one.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert not one.page.locator("#evidence").is_visible()
    one.context.close()
    assert one.problems == []
