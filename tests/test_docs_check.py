"""docs/check.py finds what is wrong with a page; needs the extra `docs` and Chromium, as .ci/docs has them."""

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("playwright")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")

GOOD = """<!DOCTYPE html><html><head><meta name="color-scheme" content="light dark"><title>t</title>
<link rel="icon" href="data:,"><style>@media (prefers-color-scheme: dark) {{ body {{ background: #111 }} }}
body {{ background-color: light-dark(#fff, #111) }}</style></head>
<body><article><h1 id="top">Title</h1><a href="#top">up</a><code>`**`</code>{more}</article></body></html>"""


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path = Path(__file__).parents[1] / "docs" / "check.py"
    spec = importlib.util.spec_from_file_location("docs_check", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "docs_check", module)  # where dataclasses look their annotations up
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "BUILT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["check.py", "--chromium", str(BROWSER)])
    return module


def test_a_good_site_passes_and_is_pictured(
    check: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.html").write_text(
        GOOD.format(more='<a href="b.html#top">b</a><a href="https://example.org/">out</a>')
    )
    (tmp_path / "b.html").write_text(GOOD.format(more=""))
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--screenshots", str(tmp_path / "shots")])
    assert check.main() == 0, capsys.readouterr().err
    shots = {path.name for path in (tmp_path / "shots").iterdir()}
    assert shots == {f"{page}-{view.name}.png" for page in "ab" for view in check.VIEWS}


FAULTS = {
    "bug": ("<script>no_such_function()</script>", "bug.html (light): no_such_function is not defined"),
    "log": ("<script>console.error('oh dear')</script>", "log.html (light): oh dear"),
    "lost": ('<img src="no-such.png">', "lost.html (light): 404 for"),
    "foreign": ('<img src="http://127.0.0.2:9/x.png">', "foreign.html (light): asks http://127.0.0.2:9/x.png"),
    "wide": ('<div style="width: 600px">wide</div>', "wide.html (phone): 6"),
    "page": ('<a href="b.html">b</a>', "page.html: b.html is not there"),
    "anchor": ('<a href="#nowhere">b</a>', "anchor.html: anchor.html has no #nowhere"),
    "file": ('<a href="missing.zip">b</a>', "file.html: missing.zip is not there"),
    "mark": ("<p>a `mark</p>", "mark.html (light): is shown as it was typed: a `mark"),
    "night": ("<style>body { background: #fff !important }</style>", "night.html (dark): the background is"),
}


def test_every_fault_is_found(check: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, (more, _) in FAULTS.items():
        (tmp_path / f"{name}.html").write_text(GOOD.format(more=more))
    assert check.main() == 1
    said = capsys.readouterr().err
    missed = [message for _, message in FAULTS.values() if message not in said]
    assert missed == [], said
    assert "wide.html (light)" not in said
