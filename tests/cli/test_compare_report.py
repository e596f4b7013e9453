"""`compare --html`, `--picture` and `--plot` of arms, on real runs made tiny."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from html_page import Page
from tiny import OPTIONS, error_of, succeed

from debiasctl.analysis.weight_curves import weight_curves
from debiasctl.cli.compare_report import comparison_command
from debiasctl.comparison.run_sources import MOST_IMAGES, read_sources
from debiasctl.comparison.study import study_of
from debiasctl.runs.store import Run, find_run, read_metrics


@pytest.fixture
def runs() -> list[Run]:
    """Two arms of two seeds, each measured by two numbers of steps."""
    for weighting in ("constant", "debiased"):
        for seed in ("0", "1"):
            name = f"d-{weighting}-{seed}"
            succeed(
                "train", "digits", "--weighting", weighting, "--seed", seed, "--name", name, "--steps", "4", *OPTIONS
            )
            succeed("evaluate", name, "--steps", "2,3", "--num", "40", "--features", "pixels")
    return [find_run(f"d-{weighting}-{seed}") for weighting in ("constant", "debiased") for seed in (0, 1)]


def test_a_study_of_runs_is_drawn_in_files_and_in_the_terminal(runs: list[Run], tmp_path: Path) -> None:
    html = tmp_path / "new" / "report.html"
    html.parent.mkdir()
    outcome = succeed("compare", "d-*", "--html", html, "--json")
    assert f"report: {html}" in outcome.err
    study = json.loads(outcome.out)
    page = Page(html.read_text())
    assert study["answer"] in page.words
    assert page.data("steps--data")[0]["x"] == "network evaluations (NFE)"
    figures = [attributes["id"] for tag, attributes in page.elements if tag == "figure"]
    assert {"steps", "samples", "colours", "weights", "heldout"} <= set(figures)
    assert [path.name for path in html.parent.iterdir()] == ["report.html"]
    assert "debiasctl compare 'd-*' --picture weights --plot weights.svg" in page.words
    assert f"debiasctl compare 'd-*' --html {html}" in page.words
    assert _checks_sources(runs) is None

    for ending in (".png", ".svg", ".pdf"):
        succeed("compare", "d-*", "--plot", tmp_path / f"steps{ending}")
    assert b"constant (n = 2)" in (tmp_path / "steps.svg").read_bytes()  # arms, and a band over their seeds
    succeed("compare", "d-*", "--picture", "samples", "--plot", tmp_path / "samples.svg", "--width", "column")
    assert (tmp_path / "samples.svg").read_text().count("<image") == 2
    assert "A constant" in succeed("compare", "d-*", "--picture", "weights").out
    assert "relative to the reference" in succeed("compare", "d-*", "--picture", "heldout").out
    one_each = ("compare", "d-constant-0", "d-debiased-0", "--plot", tmp_path / "pair.svg")
    succeed(*one_each)
    assert b"d-constant-0" in (tmp_path / "pair.svg").read_bytes()  # a curve for each run, as ever

    message = error_of("compare", "d-*", "--picture", "training", code=1)
    assert "no picture 'training'" in message
    assert "steps" in message
    damaged = runs[0].metrics_path
    damaged.write_text("{}\n" + damaged.read_text())
    before = html.read_bytes()
    assert str(damaged) in error_of("compare", "d-*", "--html", html, code=1)
    assert html.read_bytes() == before
    succeed("compare", "d-*", "--html", html, "--skip-damaged")
    assert any(str(damaged) in word for word in Page(html.read_text()).words)


def _checks_sources(runs: list[Run]) -> None:
    """What the pictures are drawn from is what the runs hold."""
    sources = read_sources(study_of(runs), runs)
    rows = {row.arm: row.images for row in sources.samples}
    assert rows.keys() == {"constant", "debiased"}
    assert sources.samples_seed == 0
    assert "sampling seed 0" in sources.samples_where
    assert sources.nfe == {2: 2, 3: 3}
    stored = [np.load(path)["images"] for path in runs[2].samples_dir.glob("*/images.npz")]
    assert any(np.array_equal(rows["debiased"], images[:MOST_IMAGES]) for images in stored)
    last = [record for record in read_metrics(runs[1]) if record.kind == "heldout"][-1]
    line = next(line for line in sources.heldout if (line.arm, line.seed) == ("constant", 1))
    known = [getattr(one, sources.heldout_unit) for one in last.bins if one.num]
    assert sorted(line.y) == sorted(known)
    assert list(line.x) == sorted(line.x)
    spec = runs[0].spec()
    weights = next(line for line in sources.weights if line.arm == "constant")
    reference = str(spec.loss.weighting.ref)
    curves = weight_curves(
        [reference], schedule=str(spec.diffusion.schedule.ref), prediction=spec.model.prediction, normalize="mean",
        timesteps=str(spec.loss.timesteps.ref),
    )  # fmt: skip
    expected = (curves.density * curves.weights[reference][sources.weights_unit]).tolist()
    assert set(weights.y) <= set(expected)
    stored = {run: (run.path / "spec.json").read_text() for run in runs[2:]}
    for run, text in stored.items():  # a weight of Huber losses has no form on the squared error of another unit
        (run.path / "spec.json").write_text(text.replace('"metric": "mse"', '"metric": "huber"'))
    sources = read_sources(study_of(runs), runs)
    assert len(sources.weights) == 1
    assert any("is not drawn: its loss is huber" in note for note in sources.notes)
    for run, text in stored.items():
        (run.path / "spec.json").write_text(text)
    _checks_units(runs)


def _checks_units(runs: list[Run]) -> None:
    """Held-out errors are in the unit of the prediction, or in v where a run has none of it, as older ones of flow."""
    stored = {path: path.read_text() for run in runs for path in (run.path / "spec.json", run.metrics_path)}
    for run in runs:
        spec = json.loads(stored[run.path / "spec.json"])
        spec["model"]["prediction"] = "flow"
        (run.path / "spec.json").write_text(json.dumps(spec))
    assert read_sources(study_of(runs), runs).heldout_unit == "flow"
    older = re.sub(r', "flow(_std)?": [^,}]+', "", stored[runs[1].metrics_path])
    runs[1].metrics_path.write_text(older)
    assert read_sources(study_of(runs), runs).heldout_unit == "v"
    for path, text in stored.items():
        path.write_text(text)


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (("--html", "a.txt"), "choose one of .html, .htm"),
        (("--html", "missing/a/b.html", "--picture", "forest"), "is no picture"),
        (("--picture", "vedicts"), "Did you mean 'verdicts'?"),
        (("--open",), "--html report.html"),
        (("--picture", "samples"), "--plot samples.png"),
        (("--picture", "steps", "--json"), "--plot steps.png"),
        (("--picture", "steps", "--csv", "-"), "to which another result goes"),
        (("--width", "column"), "--plot"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_any_work(arguments: tuple[str, ...], expected: str) -> None:
    assert expected in error_of("compare", "a", "b", *arguments, code=2)


def test_a_page_is_opened_only_where_there_is_a_display(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    message = error_of("compare", "a", "b", "--html", tmp_path / "a.html", "--open", code=2)
    assert "there is no display" in message
    assert not (tmp_path / "a.html").exists()


def test_a_report_names_options_as_they_are_typed(tmp_path: Path) -> None:
    rows = [f"{arm},{seed},fid,{10 + seed / 10 + (arm == 'b')}" for arm in "ab" for seed in range(3)]
    (tmp_path / "figures.csv").write_text("\n".join(["arm,seed,metric,value", *rows]))
    succeed("compare", "--figures", tmp_path / "figures.csv", "--html", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "declare one before you look, with --primary" in page
    assert "`primary`" not in page


def test_the_command_of_a_report_is_the_comparison_without_what_it_writes() -> None:
    typed = [
        "compare",
        "a b",
        "--primary",
        "fd@50",
        "--html",
        "x.html",
        "--open",
        "--plot=y.svg",
        "--by",
        "steps",
        "--json",
    ]
    assert comparison_command(typed) == "debiasctl compare 'a b' --primary fd@50 --by steps"
