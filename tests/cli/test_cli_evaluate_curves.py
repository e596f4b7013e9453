"""Figures of several checkpoints, and of a run against something else than its own data."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny import error_of, succeed

from debiasctl.runs.store import find_run

DRAWN = ("--num", "8", "--features", "pixels:dimension=4", "--metrics", "fd_pixels")


def evaluate(*arguments: str | Path) -> list[dict]:
    return json.loads(succeed("evaluate", *arguments, "--json").out)["evaluations"]


def test_every_checkpoint_and_every_number_of_steps(evaluated: Path) -> None:
    steps = find_run("a").checkpoint_steps()
    assert len(steps) > 1
    records = evaluate("a", *DRAWN, "--checkpoints", "all", "--steps", "2,3")
    assert [(one["checkpoint"], one["measured"]["steps"]) for one in records] == [(s, k) for s in steps for k in (2, 3)]
    assert [one["images_seen"] for one in records] == [8 * s for s in steps for _ in range(2)]
    alone = evaluate("a", *DRAWN, "--checkpoint", str(steps[0]), "--steps", "2")
    assert alone == records[:1]
    assert evaluate("a", *DRAWN, "--checkpoints", f"{steps[0]}, {steps[0]}", "--steps", "2") == alone
    out = succeed("evaluate", "a", *DRAWN, "--checkpoints", "all", "--steps", "2").out
    assert f"checkpoints {', '.join(map(str, steps))} " in out
    assert "images seen" in out


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_plot(evaluated: Path, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"curve.{ending}"
    more = ("--checkpoints", "all", "--steps", "2") if ending == "png" else ("--steps", "2,3")
    succeed("evaluate", "a", *DRAWN, *more, "--plot", path)
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG" if ending == "png" else b"<?xml")
    succeed("evaluate", "a", *DRAWN, *more, "--plot", path)
    assert path.read_bytes() == data


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--checkpoints", "0", "--checkpoint", "0"], "Give one of them"),
        (["--checkpoints", "x"], "--checkpoints 'x': give steps, separated by commas"),
        (["--plot", "a.png"], "give several --steps"),
        (["--plot", "{folder}", "--steps", "2,3"], "folder.png is a folder"),
        (["--checkpoints", "4,77"], "run 'a' has no checkpoint '77'"),
        (["--plot", "a.jpg", "--steps", "2,3"], "choose one of .png, .svg"),
    ],
)
def test_what_cannot_be_meant(evaluated: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "folder.png").mkdir()
    given = [text.format(folder=tmp_path / "folder.png") for text in arguments]
    assert message in error_of("evaluate", "a", *DRAWN, *given, code=2)


@pytest.mark.parametrize("what", ["evaluations", "--plot", "--export-reference", "--samples"])
def test_a_place_that_cannot_be_written_is_refused_before_any_work(
    evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr("debiasctl.evaluation.evaluate.load_data", None)
    monkeypatch.setattr("debiasctl.evaluation.evaluate.open_images", None)
    (tmp_path / "file").write_text("x")
    place = tmp_path / "file"
    given: list[str | Path] = ["a", *DRAWN, "--steps", "2,3"]
    if what == "evaluations":
        place = find_run("a").evaluations_dir
        shutil.rmtree(place)
        place.write_text("x")
    elif what == "--samples":
        place = evaluated / "evaluations"
        place.write_text("x")
        given = ["--samples", tmp_path, "--reference", "digits"]
    else:
        given += [what, place / ("x.png" if what == "--plot" else "x.npz")]
    message = error_of("evaluate", *given, code=1)
    assert message.startswith("cannot write ")
    assert f"{place} is not a folder" in message


def test_what_names_show_is_refused_without_torch(evaluated: Path) -> None:
    """In a process of its own, for this one has imported everything."""
    code = """
import json, sys
from debiasctl.cli.app import main
wrong = (["--metrics", "fid"], ["--features", "x"], ["--checkpoint", "77"], ["--checkpoints", "77"], ["--sampler", "x"],
         ["--reference", "x"], ["--export-reference", "x.pt"])
commands = [["evaluate", "a", *one] for one in wrong]
commands += [["evaluate", "--samples", "gone", "--reference", "digits"],
             ["evaluate", "--samples", ".", "--reference", "digits", "--metrics", "x"],
             ["likelihood", "a", "--checkpoint", "77"], ["sample", "a", "--checkpoint", "77"],
             ["sample", "a", "--sampler", "x"]]
for command in commands:
    sys.argv = ["debiasctl", *command]
    try:
        main()
    except SystemExit as end:
        assert end.code == 2, command
    else:
        raise AssertionError(command)
    loaded = [name for name in ("torch", "scipy", "sklearn", "matplotlib") if name in sys.modules]
    assert not loaded, (command, loaded)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_all_checkpoints_of_a_run_without_one(evaluated: Path) -> None:
    shutil.rmtree(find_run("a").path / "checkpoints")
    message = error_of("evaluate", "a", *DRAWN, "--checkpoints", "all", code=1)
    assert "run 'a' has no checkpoint. Train it first" in message
    assert message == error_of("evaluate", "a", *DRAWN, code=1)


def test_features_of_the_samples_are_kept(evaluated: Path) -> None:
    folder = find_run("a").evaluations_dir
    (record,) = evaluate("a", *DRAWN, "--steps", "2")
    with np.load(folder / record["features_file"]) as kept:
        assert kept["features"].shape == (8, 5)  # four components, and the length of the rest
        assert str(kept["identity"]) == record["measured"]["features_identity"]
    names = {path.name for path in folder.glob("*.npz")}
    whole = (folder / record["features_file"]).read_bytes()
    (folder / record["features_file"]).write_bytes(whole[:-50])
    (other,) = evaluate("a", "--num", "8", "--features", "pixels:dimension=4", "--steps", "2")
    assert other["features_file"] == record["features_file"]
    assert {path.name for path in folder.glob("*.npz")} == names
    assert (folder / record["features_file"]).read_bytes() == whole


def test_a_run_against_statistics_and_another_data_set(evaluated: Path, tmp_path: Path) -> None:
    own, file = ("a", *DRAWN, "--steps", "2"), tmp_path / "reference.npz"
    (first,) = evaluate(*own, "--export-reference", file)
    (second,) = evaluate(*own, "--reference", file)
    figure = second["metrics"]["fd_pixels"]
    assert figure["value"] == pytest.approx(first["metrics"]["fd_pixels"]["value"], rel=1e-9)
    assert figure["floor"] is None
    assert second["measured"]["reference"] == "statistics"
    (third,) = evaluate(*own, "--reference", "digits")
    assert third["metrics"] == first["metrics"]
    assert third["measured"] == first["measured"]
    assert "the images are RGB and the reference's grey" in error_of(
        "evaluate", "colour-a", "--num", "8", "--steps", "2", "--reference", "digits", code=1
    )


def test_an_exported_run_takes_its_features_along(evaluated: Path, tmp_path: Path) -> None:
    succeed("runs", "export", "a", "--out", tmp_path / "a.tar")
    succeed("runs", "import", tmp_path / "a.tar", "--name", "again")
    kept = [{path.name for path in find_run(name).evaluations_dir.iterdir()} for name in ("a", "again")]
    assert kept[0] == kept[1]
    assert any(name.endswith(".features.npz") for name in kept[0])
