"""Pictures of several runs and numbers of steps, and of the way from noise to image."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import error_of, make_spec, succeed, train, write_distribution

from debiasctl.compute.counter_random import Stream, normal
from debiasctl.data.pixels import to_uint8
from debiasctl.runs.store import Run
from debiasctl.sampling import make_request, sample
from debiasctl.sampling.trajectory import trajectory

CPU = torch.device("cpu")


def request(run: Run, **changes):
    settings = {"num": 3, "num_steps": 4, "sampler": "ddim", "seed": 0, "checkpoint": None, "weights": "ema"}
    return make_request(run, run.spec(), **settings | changes)


def drawn(run: Run, **changes) -> np.ndarray:
    """uint8 [N, H, W] of a run with one channel."""
    return sample(run, run.spec(), request(run, **changes), device=CPU).images[:, 0].numpy()


@pytest.mark.parametrize("sampler", ["ddim", "ddim:eta=1", "ddpm"])
def test_a_trajectory_leads_from_the_noise_to_the_sample(run: Run, sampler: str) -> None:
    way = trajectory(run, run.spec(), request(run, sampler=sampler), device=CPU, moments=12)
    assert way.names == ["999", "666", "333", "0", "end"]
    noise = normal(0, Stream.SAMPLING, step=0, positions=torch.arange(3), shape=(1, 8, 8))
    assert torch.equal(way.x[0], to_uint8(noise))
    image = torch.from_numpy(drawn(run, sampler=sampler))
    assert torch.equal(way.x[-1][:, 0], image)
    assert torch.equal(way.x0[-1][:, 0], image)
    assert len(way.x) == len(way.x0) == 5


def test_an_estimate_stands_below_what_it_was_made_from(run: Run) -> None:
    way = trajectory(run, run.spec(), request(run, sampler="ddim"), device=CPU, moments=12)
    one_step = drawn(run, num_steps=1)  # from the last timestep straight to its estimate
    assert np.array_equal(way.x0[0][:, 0].numpy(), one_step)
    # the step to the clean image ends at the last estimate
    assert torch.equal(way.x0[-2], way.x[-1])


def test_a_trajectory_shows_evenly_chosen_steps(run: Run) -> None:
    way = trajectory(run, run.spec(), request(run, num=20, num_steps=50), device=CPU, moments=6)
    assert way.x[0].shape == (8, 1, 8, 8)
    assert way.names[0] == "999"
    assert way.names[-1] == "end"
    assert len(way.names) == 6
    gaps = np.diff([float(name) for name in way.names[:-1]])
    assert gaps.max() - gaps.min() < 30


def test_a_sampler_that_reports_no_steps_has_no_trajectory(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
from debiasctl.api import Sampler


class Silent(Sampler):
    \"\"\"Says nothing, and has no grid.\"\"\"

    def __call__(self, denoiser, x, *, num_steps, noise, labels=None, on_step=None):
        return denoiser(x, 999.0, labels).x0
"""
    points = {"debiasctl.samplers": {"silent": "silent_sampler:Silent"}}
    write_distribution(
        tmp_path / "site", name="silent", version="1", entry_points=points, modules={"silent_sampler": code}
    )
    monkeypatch.syspath_prepend(tmp_path / "site")
    succeed("sample", "run", "--num", "2", "--sampler", "silent", "--steps", "5000")
    message = error_of("sample", "run", "--num", "2", "--sampler", "silent", "--trajectory", tmp_path / "x.gif", code=1)
    assert "sampler 'silent' does not report its steps" in message


def tiles(path: Path, *, rows: list[int], columns: list[int]) -> list[list[np.ndarray]]:
    """8x8 images, enlarged six times, at these offsets."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture)
    return [[pixels[y : y + 48 : 6, x : x + 48 : 6] for x in columns] for y in rows]


def test_a_strip_shows_what_each_run_draws(run: Run, tmp_path: Path) -> None:
    other = train("another", make_spec(optimizer__lr=0.01, training__seed=5))
    strip = tmp_path / "strip.png"
    found = json.loads(
        succeed(
            "sample", "run", "another", "--same-noise", "--steps", "2,3,7", "--num", "2", "--out", strip, "--json"
        ).out
    )
    assert found["out"] == str(strip)
    assert [(cell["run"], cell["num_steps"], cell["reused"]) for cell in found["cells"]] == [
        (name, steps, False) for name in ("run", "another") for steps in (2, 3, 7)
    ]
    with Image.open(strip) as picture:
        assert picture.mode == "L"
        width, height = picture.size
    left, top = width - 3 * 50, 19
    assert height == top + 4 * 50 + 8  # two strips of two rows, and a gap between
    cells = tiles(strip, rows=[top, top + 50, top + 108, top + 158], columns=[left, left + 50, left + 100])
    for index in range(2):
        for row, one in enumerate((run, other)):
            for column, steps in enumerate((2, 3, 7)):
                assert np.array_equal(cells[2 * index + row][column], drawn(one, num=2, num_steps=steps)[index])
    assert not np.array_equal(cells[0][0], cells[1][0])
    again = succeed("sample", "run", "another", "--same-noise", "--steps", "2,3,7", "--num", "2", "--out", strip)
    assert "6 of 6 sets reused from an earlier command" in again.out


def test_a_strip_of_one_run(run: Run, tmp_path: Path) -> None:
    succeed("sample", "run", "--steps", "1,2", "--out", tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as picture:
        (cells,) = tiles(tmp_path / "x.png", rows=[19], columns=[picture.width - 100, picture.width - 50])
    assert np.array_equal(cells[1], drawn(run, num=1, num_steps=2)[0])


def test_a_trajectory_is_written(run: Run, tmp_path: Path) -> None:
    still, moving = tmp_path / "way.png", tmp_path / "way.gif"
    found = json.loads(succeed("sample", "run", "--num", "2", "--steps", "4", "--trajectory", still, "--json").out)
    assert found["trajectory"] == str(still)
    way = trajectory(run, run.spec(), request(run, num=2), device=CPU, moments=12)
    with Image.open(still) as picture:
        columns = [picture.width - 50 * k for k in range(5, 0, -1)]
    cells = tiles(still, rows=[19, 69, 127, 177], columns=columns)
    for column in range(5):
        for index in range(2):
            assert np.array_equal(cells[2 * index][column], way.x[column][index, 0].numpy())
            assert np.array_equal(cells[2 * index + 1][column], way.x0[column][index, 0].numpy())
    assert str(moving) in succeed("sample", "run", "--num", "2", "--steps", "4", "--trajectory", moving).out
    with Image.open(moving) as picture:
        assert (picture.format, picture.n_frames) == ("GIF", 5)
        picture.seek(4)
        pixels = np.asarray(picture.convert("L"))
    last = pixels[19 : 19 + 48 : 6, -100:-52:6]
    assert np.abs(last.astype(int) - way.x[-1][0, 0].numpy()).max() <= 2  # a GIF has a palette of its own


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--same-noise"], "--same-noise sets runs or numbers of steps side by side"),
        (["--steps", "2,3"], "--out strip.png"),
        (["--steps", "2,3", "--out", "x.npz"], "--out strip.png"),
        (["--steps", "2,x"], "--steps '2,x'"),
        (["--steps", "2,0"], "--steps '2,0'"),
        (["--steps", "2,1001", "--out", "x.png"], "run 'run': 1001 sampling steps: choose from 1 to 1000"),
        (["another", "--out", "x.png"], "Say so: --same-noise"),
        (["run", "--same-noise", "--out", "x.png"], "run 'run' is given twice"),
        (["colour", "--same-noise", "--out", "x.png"], "these runs' differ: 'run' 1x8x8, 'colour' 3x8x8"),
        (["nothing", "--same-noise", "--out", "x.png"], "there is no run 'nothing'"),
        (["--steps", "2,3", "--out", "x.png", "--trajectory", "y.gif"], "--trajectory shows one run"),
        (["--trajectory", "y.bmp"], "y.bmp: the ending says what is written; choose one of .png, .jpg"),
        (["--batch-size", "0"], "--batch-size 0: give a whole number from 1, or auto"),
        (["--batch-size", "many"], "--batch-size many"),
        (["--precision", "fp8"], "--precision fp8: choose fp32, bf16 or fp16"),
        (["--precision", "fp16", "--device", "cpu"], "fp16 needs a CUDA GPU"),
    ],
)
def test_what_cannot_be_meant(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if "another" in arguments or "colour" in arguments:
        import shutil

        for name in {"another", "colour"} & set(arguments):
            shutil.copytree(run.path, run.path.parent / name)
        if "colour" in arguments:
            spec = json.loads((run.path.parent / "colour" / "spec.json").read_text())
            spec["content"]["channels"] = 3
            (run.path.parent / "colour" / "spec.json").write_text(json.dumps(spec))
    assert message in error_of("sample", "run", *arguments, code=2)
    assert not run.samples_dir.exists()


@pytest.mark.parametrize("option", ["--out", "--trajectory"])
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_drawn(
    run: Run, tmp_path: Path, option: str
) -> None:
    (tmp_path / "file").write_text("x")
    message = error_of("sample", "run", option, tmp_path / "file" / "x.png", code=1)
    assert f"{tmp_path / 'file'} is not a folder" in message
    assert not run.samples_dir.exists()


def test_half_precision_is_another_request(run: Run) -> None:
    full = json.loads(succeed("sample", "run", "--num", "3", "--steps", "4", "--json").out)
    half = json.loads(succeed("sample", "run", "--num", "3", "--steps", "4", "--precision", "bf16", "--json").out)
    assert (full["precision"], half["precision"], half["reused"]) == ("fp32", "bf16", False)
    with np.load(Path(full["folder"], "images.npz")) as one, np.load(Path(half["folder"], "images.npz")) as other:
        gap = np.abs(one["images"].astype(int) - other["images"].astype(int))
    assert gap.max() > 0
    assert gap.mean() < 16


def test_where_nothing_can_be_compiled_it_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no working C++ compiler found\nand more")

    monkeypatch.setattr(torch, "compile", fail)
    message = error_of("sample", "run", "--num", "2", "--compile", code=1)
    assert "--compile: torch cannot compile on this machine (no working C++ compiler found). Leave" in message
