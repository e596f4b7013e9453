"""`debiasctl analyze` with parts that measure next to nothing."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from html_page import Page
from tiny import OPTIONS, debiasctl, error_of, succeed
from toy_parts import UNITS, Stitched, Toy, toys

from debiasctl.analysis import analyze
from debiasctl.analysis.parts import catalogue
from debiasctl.cli.analysis_page import cell
from debiasctl.comparison.analyses.means import Figure
from debiasctl.paths import runs_dir


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Runs of two arms with two seeds each, and one of another schedule."""
    folder = tmp_path_factory.mktemp("analyze")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEBIASCTL_HOME", str(folder))
        for weighting in ("constant", "debiased"):
            for seed in ("0", "1"):
                name = f"{weighting}-{seed}"
                succeed("train", "digits", "--weighting", weighting, "--seed", seed, *OPTIONS, "--steps", "2",
                        "--name", name)  # fmt: skip
        yield folder


@pytest.fixture
def runs(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The runs, without any analysis, and the toys in place of the parts."""
    import shutil

    monkeypatch.setenv("DEBIASCTL_HOME", str(home))
    monkeypatch.setattr(catalogue, "PARTS", toys())
    yield home / "runs"
    for folder in runs_dir().glob("*/analyses"):
        shutil.rmtree(folder)


def analyzed(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(succeed("analyze", *arguments, "--json").out)
    return found


def test_a_run_is_measured_once_and_then_read(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    units: list[str] = []
    monkeypatch.setattr(catalogue, "PARTS", toys(existence=Toy(units.append)))
    first, again = analyzed("constant-0"), analyzed("constant-0")
    assert len(units) == UNITS
    assert first == again
    (part,) = first["parts"]
    (record,) = part["records"]
    assert record["findings"]
    assert record["network"]["run"] == "constant-0"
    assert Path(record["path"]).parent == runs / "constant-0" / "analyses"
    assert sorted(path.suffix for path in Path(record["path"]).parent.iterdir()) == [".json", ".npz"]
    (figures,) = part["arms"]
    assert figures["figures"][0]["over"] == "images"
    assert first["skipped"] == [
        "stitching: it is made of two runs that differ in more than the seed: debiasctl analyze RUN OTHER"
    ]


def test_a_record_is_found_where_other_runs_stand_beside_it(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    units: list[str] = []
    monkeypatch.setattr(catalogue, "PARTS", toys(existence=Toy(units.append)))
    analyzed("constant-0", "--only", "existence")
    analyzed("constant-0", "debiased-0", "--only", "existence")
    assert units == [*(f"constant-0.{n}" for n in range(UNITS)), *(f"debiased-0.{n}" for n in range(UNITS))]


def test_arms_are_averaged_over_seeds_and_paired_by_them(runs: Path) -> None:
    found = analyzed("constant-*", "debiased-*")
    assert [arm["seeds"] for arm in found["arms"]] == [[0, 1], [0, 1]]
    assert [part["name"] for part in found["parts"]] == ["existence", "stitching"]
    part, stitched = found["parts"]
    values = {
        (record["network"]["arm"], record["seed"]): record["quantities"][0]["value"] for record in part["records"]
    }
    first = part["arms"][0]["figures"][0]
    mean = (values["constant", 0] + values["constant", 1]) / 2
    half = 12.706204736432095 * abs(values["constant", 0] - values["constant", 1]) / 2
    assert (first["value"], first["low"], first["over"]) == (
        pytest.approx(mean), pytest.approx(mean - half), "seeds",
    )  # fmt: skip
    (apart,) = part["differences"]
    assert apart["figures"][0]["value"] == pytest.approx(
        sum(values["debiased", seed] - values["constant", seed] for seed in (0, 1)) / 2
    )
    assert part["findings"] == [
        "'debiased' against 'constant': no figure can be told apart over 2 training seeds (paired, corrected for 2 "
        "figures)."
    ]
    assert [(one["network"]["run"], one["others"][0]["run"]) for one in stitched["records"]] == [
        ("constant-0", "debiased-0"), ("constant-1", "debiased-1"),
    ]  # fmt: skip
    assert stitched["differences"] == []


def test_a_part_that_a_run_is_refused_for_is_left_out_and_named(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "PARTS", toys(existence=Toy(refused="debiased-1")))
    found = analyzed("constant-*", "debiased-*")
    assert found["skipped"] == [
        "existence of debiased-1: it has no images that it was not trained on. Hold some out"
    ]  # fmt: skip
    assert len(found["parts"][0]["records"]) == 3
    monkeypatch.setattr(catalogue, "PARTS", toys(existence=Toy(refused="d"), stitching=Stitched(refused="d")))
    assert "nothing could be measured" in error_of("analyze", "debiased-0", code=2)
    assert "no images" in error_of("analyze", "debiased-0", "--only", "existence", code=2)


def test_a_name_is_refused_only_if_none_of_its_parts_can_be_made(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Alone(Toy):
        name = "impact"

    monkeypatch.setattr(catalogue, "PARTS", {"impact": Alone(), "stitching": Stitched(refused="constant")})
    found = analyzed("constant-0", "debiased-0", "--only", "impact")
    assert [part["name"] for part in found["parts"]] == ["impact"]
    assert [text.partition(":")[0] for text in found["skipped"]] == ["stitching of constant-0 with debiased-0"]


def test_what_was_measured_before_a_stop_is_kept(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    units: list[str] = []

    def stop(name: str) -> None:
        units.append(name)
        if len(units) == 3:
            raise KeyboardInterrupt(2)

    monkeypatch.setattr(catalogue, "PARTS", toys(existence=Toy(stop)))
    outcome = debiasctl("analyze", "constant-0")
    assert outcome.code == 130
    assert "what was measured of part 'existence' is kept; repeat the command to resume" in outcome.err
    analyzed("constant-0")
    assert units == [f"constant-0.{number}" for number in (0, 1, 2, 2, 3)]
    assert not list((runs / "constant-0" / "analyses").glob(".*"))


def test_what_another_command_measures_meanwhile_is_waited_for(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    units, real = list[str](), analyze.file_lock

    @contextmanager
    def lock(path: Path, *, waiting: str) -> Iterator[None]:  # another command has it, and finishes
        monkeypatch.setattr(analyze, "file_lock", real)
        analyzed("constant-0")
        with real(path, waiting=waiting):
            yield

    monkeypatch.setattr(catalogue, "PARTS", toys(existence=Toy(units.append)))
    monkeypatch.setattr(analyze, "file_lock", lock)
    analyzed("constant-0")
    assert len(units) == UNITS
    assert not list((runs / "constant-0" / "analyses").glob(".*"))


def test_a_damaged_record_is_named_and_never_overwritten(runs: Path) -> None:
    path = Path(analyzed("constant-0")["parts"][0]["records"][0]["path"])
    path.write_text(path.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    message = error_of("analyze", "constant-0", code=1)
    assert str(path) in message
    assert "Remove that file to measure it again" in message
    path.unlink()
    analyzed("constant-0")


def test_pictures_whose_arrays_are_gone_are_named(runs: Path) -> None:
    path = Path(analyzed("constant-0")["parts"][0]["records"][0]["path"])
    path.with_suffix(".npz").write_bytes(b"no arrays")
    assert f"{path.with_suffix('.npz')} are damaged or gone" in error_of("analyze", "constant-0", code=1)
    np.savez(path.with_suffix(".npz"), samples=np.zeros((2, 3), dtype=np.float32))
    assert "'samples' is no set of images" in error_of("analyze", "constant-0", code=1)


def test_the_page_has_each_part_its_figures_and_its_commands(runs: Path, tmp_path: Path) -> None:
    page = tmp_path / "analysis.html"
    outcome = succeed("analyze", "constant-*", "debiased-*", "--html", page)
    text = page.read_text(encoding="utf-8")
    assert "report: " in outcome.err
    for said in (
        "Existence: a toy", "Stitching: a toy", "no figure can be told apart", "mean_shift[r]",
        "--picture existence-seeds --plot existence-seeds.svg", "Intervals cover images, not seeds: more with --num",
    ):  # fmt: skip
        assert said in text
    assert Page(text).data("existence-samples--data") == {"constant-0": [2, 1, 8, 8], "debiased-0": [2, 1, 8, 8]}


def test_pictures_are_written_one_by_one_and_all_together(runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "pictures"
    succeed("analyze", "constant-0", "--plot", folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "existence-samples.json", "existence-samples.png", "existence-samples.svg",
    ]  # fmt: skip
    succeed("analyze", "constant-0", "--plot", tmp_path / "one.pdf")
    succeed("analyze", "constant-*", "--picture", "existence-seeds", "--plot", tmp_path / "seeds.png")
    assert (tmp_path / "one.pdf").is_file()
    assert (tmp_path / "seeds.png").is_file()
    assert "Name one: --picture existence-samples" in error_of(
        "analyze", "constant-*", "--plot", tmp_path / "two.png", code=2
    )
    assert "drift" in succeed("analyze", "constant-*", "--picture", "existence-seeds").out
    assert "cannot be drawn with characters" in error_of(
        "analyze", "constant-0", "--picture", "existence-samples", code=2
    )


@pytest.mark.parametrize(
    "arguments, said",
    [
        ([], "name one run or more: debiasctl analyze RUN"),
        (["constant-0", "--only", ", "], "--only ', ' names no part. Choose from existence, impact"),
        (["constant-0", "--only", "existense"], "Did you mean 'existence'? Choose from existence, impact, validation"),
        (["constant-0", "--counterfactual", "debias"], "unknown weighting 'debias'"),
        (["constant-0", "--trajectories", "2;3"], "--trajectories '2;3': give whole numbers from 1"),
        (["constant-0", "--sampler", "dimm"], "unknown sampler 'dimm'"),
        (["constant-0", "--reference", "x"], "is no arm. The arms are: constant"),
        (["constant-0", "--plot", "a.gif"], "choose one of .png, .svg, .pdf"),
        (["constant-0", "--open"], "--open opens a report"),
        (["constant-0", "--json", "--picture", "x"], "to which another result goes"),
        (["constant-0", "--plot", "folder", "--picture", "x"], "to which all pictures are written"),
        (["constant-0", "--checkpoint", "7"], "has no checkpoint '7'. It has: 0, 2"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(runs: Path, arguments: list[str], said: str) -> None:
    assert said in error_of("analyze", *arguments, code=2)


def test_validation_is_made_of_all_runs_where_it_is_asked_for(runs: Path) -> None:
    (part,) = analyzed("constant-*", "debiased-*", "--only", "validation")["parts"]
    (record,) = part["records"]
    assert part["arms"][0]["figures"][0]["over"] == "runs"
    assert [record["network"]["run"], *(one["run"] for one in record["others"])] == [
        "constant-0", "constant-1", "debiased-0", "debiased-1",
    ]  # fmt: skip
    assert "validation" in [one["name"] for one in analyzed("constant-0", "debiased-0", "--validation")["parts"]]


def test_a_page_for_the_terminal_has_findings_and_figures(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for columns in ("60", "120"):
        monkeypatch.setenv("COLUMNS", columns)
        out = succeed("analyze", "constant-*", "debiased-*").out
        assert max(map(len, out.splitlines())) <= int(columns)
        for said in ("Existence: a toy", "The weights have a mean of", "mean_shift[r]", "debiased - constant"):
            assert said in out


def test_an_analysis_is_shown_exported_and_found_under_another_name(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    units: list[str] = []
    monkeypatch.setattr(catalogue, "PARTS", toys(existence=Toy(units.append)))
    path = Path(analyzed("constant-0")["parts"][0]["records"][0]["path"])
    shown = json.loads(succeed("runs", "show", "constant-0", "--json").out)
    assert shown["analyses"] == [{"key": path.stem, "part": "existence"}]
    assert shown["disk"]["analyses"] == sum(one.stat().st_size for one in path.parent.iterdir())
    succeed("runs", "export", "constant-0", "--out", tmp_path / "a.tar")
    succeed("runs", "import", tmp_path / "a.tar", "--name", "other")
    again = analyzed("other")
    assert len(units) == UNITS
    assert again["parts"][0]["records"][0]["network"]["run"] == "other"
    (runs / "other" / "analyses" / path.name).write_text("{", encoding="utf-8")
    outcome = succeed("runs", "show", "other")
    assert "damaged" in outcome.out
    assert path.name in outcome.err
    succeed("runs", "rm", "other", "--yes")
    assert not (runs / "other").exists()


def test_a_comparisons_report_has_the_analyses_that_its_runs_stored(runs: Path, tmp_path: Path) -> None:
    for name in ("constant-0", "constant-1", "debiased-0", "debiased-1"):
        succeed("evaluate", name, "--num", "8", "--steps", "2", "--features", "pixels:dimension=2", "--metrics",
                "spectrum_distance")  # fmt: skip
    page = tmp_path / "report.html"
    succeed("compare", "constant-*", "debiased-*", "--html", page)
    assert "Existence: a toy" not in page.read_text(encoding="utf-8")
    analyzed("constant-*", "debiased-*", "--num", "4")
    analyzed("constant-0")  # another way of measuring, of fewer runs
    succeed("compare", "constant-*", "debiased-*", "--html", page)
    text = page.read_text(encoding="utf-8")
    command = "debiasctl analyze constant-0 constant-1 debiased-0 debiased-1 --only existence"
    assert f"{command} --picture existence-samples --plot existence-samples.svg --num 4" in text
    assert "Stitching: a toy" in text
    path = next((runs / "constant-1" / "analyses").glob("*.json"))
    path.write_text("{", encoding="utf-8")
    assert str(path) in error_of("compare", "constant-*", "debiased-*", "--html", page, code=1)
    succeed("compare", "constant-*", "debiased-*", "--html", page, "--skip-damaged")
    assert path.name in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "value, low, high, said",
    [
        (1.00138, 1.00126, 1.0015, "1.00138 ± 0.00012"),
        (0.122, 0.118, 0.126, "0.1220 ± 0.0040"),
        (-0.5, -0.9, 0.3, "−0.50 (−0.90 to 0.30)"),
        (133.4, 121.4, 145.4, "133 ± 12"),
        (3551.0, 3101.0, 4001.0, "3,550 ± 450"),
        (0.99994912, 0.9999489, 0.99994934, "0.99994912 ± 0.00000022"),
        (3.0, None, None, "3"),
        (2.0, 2.0, 2.0, "2"),
    ],
)
def test_a_figure_has_the_digits_that_its_interval_allows(
    value: float, low: float | None, high: float | None, said: str
) -> None:
    assert cell(Figure("a", "", "", value, low, high, "seeds", {})) == said


def test_a_figure_that_some_seeds_lack_says_how_many_have_it() -> None:
    figure = Figure("a", "", "", 0.5, 0.1, 0.9, "seeds", {0: 0.5, 2: 0.5})
    assert cell(figure, of=3) == "0.50 ± 0.40 (2 of 3 seeds)"
