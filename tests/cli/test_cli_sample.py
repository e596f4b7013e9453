import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import OPTIONS, error_of, succeed

from debiasctl.runs.store import find_run

DRAW = ("--num", "5", "--steps", "3", "--seed", "7")


def sample(*arguments: str | Path) -> dict:
    return json.loads(succeed("sample", *arguments, "--json").out)


def test_images_stay_with_the_run_and_are_reused(evaluated: Path) -> None:
    outcome = succeed("sample", "a", *DRAW)
    first, second = outcome.out.splitlines()
    assert first == "run 'a': 5 images, ddim, 3 steps (3 NFE), checkpoint 4, ema weights"
    assert Path(second).is_relative_to(evaluated / "runs" / "a" / "samples")
    assert ", drawn before" in succeed("sample", "a", *DRAW).out
    found = sample("a", *DRAW, "--batch-size", "2")
    assert found["reused"] is True
    assert (found["nfe"], found["num"], found["num_steps"], found["out"]) == (3, 5, 3, None)
    assert Path(found["folder"], "images.npz") == Path(second)


def test_evaluations_use_what_sample_drew(evaluated: Path) -> None:
    found = sample("a", "--num", "8", "--steps", "2")
    assert found["reused"] is True  # `evaluate` drew them


def test_evaluations_say_in_which_precision_was_drawn(evaluated: Path) -> None:
    options = ("--num", "8", "--steps", "2", "--features", "pixels:dimension=4", "--json")
    for precision in ("bf16", "fp32"):
        (record,) = json.loads(succeed("evaluate", "colour-a", *options, "--precision", precision).out)["evaluations"]
        assert record["measured"]["precision"] == precision
    assert "--batch-size x: give a whole" in error_of("evaluate", "colour-a", "--batch-size", "x", code=2)


def test_an_npz(evaluated: Path, tmp_path: Path) -> None:
    found = sample("a", *DRAW, "--out", tmp_path / "new" / "x.npz")
    assert found["out"] == str(tmp_path / "new" / "x.npz")
    with np.load(tmp_path / "new" / "x.npz") as arrays, np.load(Path(found["folder"], "images.npz")) as kept:
        assert (arrays["images"].shape, arrays["images"].dtype) == ((5, 8, 8, 1), np.uint8)
        assert (arrays["labels"].shape, arrays["labels"].dtype) == ((5,), np.int64)
        assert all(np.array_equal(arrays[name], kept[name]) for name in ("images", "labels"))


def test_a_grid_and_a_folder_hold_the_same_images(evaluated: Path, tmp_path: Path) -> None:
    found = sample("a", *DRAW, "--out", tmp_path / "grid.png")
    sample("a", *DRAW, "--out", tmp_path / "images")
    with np.load(Path(found["folder"], "images.npz")) as arrays:
        images, labels = arrays["images"][..., 0], arrays["labels"]
    with Image.open(tmp_path / "grid.png") as picture:
        grid = np.asarray(picture)
    assert grid.shape == (2 + 2 * 50, 2 + 3 * 50)
    for index, image in enumerate(images):
        top, left = 2 + index // 3 * 50, 2 + index % 3 * 50
        assert np.array_equal(grid[top : top + 48 : 6, left : left + 48 : 6], image)
        with Image.open(tmp_path / "images" / str(labels[index]) / f"{index}.png") as picture:
            assert np.array_equal(np.asarray(picture), image)
    assert len(list((tmp_path / "images").rglob("*.png"))) == 5


def test_colour_without_labels(evaluated: Path, tmp_path: Path) -> None:
    sample("colour-a", "--num", "2", "--steps", "2", "--out", tmp_path / "images")
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == ["0.png", "1.png"]
    with Image.open(tmp_path / "images" / "0.png") as picture:
        assert (picture.mode, picture.size) == ("RGB", (16, 16))
    assert "trained without class labels" in error_of("sample", "colour-a", "--class", "0", code=2)


def test_one_class(evaluated: Path, tmp_path: Path) -> None:
    assert sample("a", *DRAW, "--class", "7")["label"] == 7
    sample("a", *DRAW, "--class", "7", "--out", tmp_path / "sevens")
    assert [path.name for path in (tmp_path / "sevens").iterdir()] == ["7"]
    message = error_of("sample", "a", "--class", "ten", code=2)
    assert "unknown class 'ten'" in message
    assert "Known: 0, 1, 2" in message


@pytest.mark.parametrize("name", ["x.bmp", "x.WEBP", "x.gif", "x.eps", "x.zip", "x.npy"])
def test_formats_that_are_not_written(name: str, evaluated: Path, tmp_path: Path) -> None:
    assert "write FILE.png, .jpg, .svg or .pdf (one grid), FILE.npz" in error_of(
        "sample", "a", "--out", tmp_path / name, code=2
    )


def test_what_is_there_is_not_overwritten_by_a_folder(
    evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("debiasctl.sampling.sample", lambda *_, **__: pytest.fail("drawn before it was refused"))
        refuse_what_is_there(tmp_path)
    (tmp_path / "empty").mkdir()
    sample("a", *DRAW, "--out", tmp_path / "empty")


def refuse_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    (tmp_path / "file").write_text("x")
    for name in ("full", "file"):
        assert "exists and is not empty" in error_of("sample", "a", "--out", tmp_path / name, code=2)
    (tmp_path / "dir.png").mkdir()
    assert "dir.png is a folder" in error_of("sample", "a", "--out", tmp_path / "dir.png", code=2)
    assert (tmp_path / "full" / "mine").read_text() == (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize("name", ["x.png", "x.npz", "x"])
def test_a_place_that_cannot_be_written(name: str, evaluated: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    message = error_of("sample", "a", *DRAW, "--out", tmp_path / "file" / name, code=1)
    assert str(tmp_path / "file") in message


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["nothing"], 2, "there is no run 'nothing'"),
        (["a/../x"], 2, "is not a run's folder"),
        (["colour"], 2, "'colour' is a prefix of several runs' names: colour-a, colour-b"),
        (["a", "--sampler", "dpm"], 2, "unknown sampler 'dpm'"),
        (["a", "--sampler", "ddim:eta=2"], 2, "eta"),
        (["a", "--steps", "1001"], 2, "choose from 1 to 1000"),
        (["a", "--weights", "avg"], 2, "choose ema"),
        (["a", "--checkpoint", "3"], 2, "no checkpoint '3'. It has: 0, 4 (or 'last')"),
        (["a", "--device", "gpu"], 2, "unknown device 'gpu'"),
    ],
)
def test_what_cannot_be_drawn(arguments: list[str], code: int, message: str, evaluated: Path) -> None:
    assert message in error_of("sample", *arguments, code=code)


def test_without_a_seed_evaluate_and_sample_take_the_training_seed(evaluated: Path, tmp_path: Path) -> None:
    succeed("train", "digits", *OPTIONS, "--steps", "1", "--seed", "5", "--name", "fifth")
    draw = ("--num", "2", "--steps", "2", "--json")
    assert json.loads(succeed("sample", "fifth", *draw).out)["seed"] == 5
    assert json.loads(succeed("sample", "fifth", *draw, "--seed", "0").out)["seed"] == 0
    (found,) = json.loads(succeed("evaluate", "fifth", *draw, "--features", "pixels:dimension=4").out)["evaluations"]
    assert found["measured"]["seed"] == 5
    strip = ("--same-noise", "--num", "1", "--steps", "2", "--json", "--out", tmp_path / "s.png")
    for runs in (("fifth", "a"), ("a", "fifth")):  # one noise for all rows: the first run's
        cells = json.loads(succeed("sample", *runs, *strip).out)["cells"]
        assert [cell["seed"] for cell in cells] == [5 if runs[0] == "fifth" else 0] * 2


def test_a_run_is_named_by_a_path_or_a_beginning_too(evaluated: Path) -> None:
    assert sample("colour-b", *DRAW) == sample(evaluated / "runs" / "colour-b", *DRAW) | {"reused": False}


def test_a_run_that_is_being_trained_says_so(evaluated: Path) -> None:
    with find_run("a").lock():
        outcome = succeed("sample", "a", *DRAW)
    assert "note: run 'a' is being trained; this is its step 4" in outcome.err


def test_a_spec_of_a_newer_version(evaluated: Path) -> None:
    run = find_run("a")
    spec = json.loads((run.path / "spec.json").read_text()) | {"schema_version": 9}
    (run.path / "spec.json").write_text(json.dumps(spec))
    message = error_of("sample", "a", code=1)
    assert "spec.json cannot be used: the spec has schema version 9; this debiasctl reads up to 4. Update" in message
    assert "schema version 9" in error_of("train", "--resume", "a", "--steps", "9", code=1)


def test_ctrl_c_while_sampling_is_exit_code_130(evaluated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("debiasctl.sampling.drawing.Drawer.batch", interrupt)
    assert error_of("sample", "a", *DRAW, code=130) == "interrupted: drawn 0 of 5; repeat the command to resume\n"


def test_learning_shows_in_the_samples() -> None:
    """Real data: after some hundred steps the samples' mean image is closer to the digits' than at the start."""
    from tiny import digits

    succeed("train", "digits", *OPTIONS, "--batch-size", "64", "--steps", "150", "--lr", "0.01", "--name", "run",
            "--set", "training.keep_steps=[0]", "--set", "ema.decay=0.9")  # fmt: skip
    real = digits().train.array.float().mean(dim=0)[0].numpy()

    def distance(checkpoint: str) -> float:
        folder = sample("run", "--num", "100", "--steps", "10", "--checkpoint", checkpoint)["folder"]
        with np.load(Path(folder, "images.npz")) as arrays:
            return float(((arrays["images"][..., 0].mean(axis=0) - real) ** 2).mean())

    assert distance("150") < distance("0") / 2


def test_a_grid_and_a_trajectory_need_a_file_each(tmp_path: Path) -> None:
    succeed("train", "digits", *OPTIONS, "--steps", "1", "--name", "two-files")
    same = tmp_path / "w.png"
    message = error_of("sample", "two-files", "--num", "2", "--out", same, "--trajectory", same, code=2)
    assert "both name" in message
    assert not same.exists()
