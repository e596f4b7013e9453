"""Several processes measure what one does."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import error_of, succeed

from debiasctl import paths

LOCAL = ("--features", "local:steps=2,dimension=4,min_accuracy=0", "--metrics", "fd_local,spectrum_distance")


def evaluate_in(processes: int, *arguments: str | Path) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "debiasctl", "evaluate", *map(str, arguments), "--device", "cpu"]
    done = subprocess.run(
        [*command, "--processes", str(processes)], capture_output=True, text=True, timeout=300, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_three_processes_measure_the_same(evaluated: Path) -> None:
    """Each reads whole batches of its own; of the 296 held-out images there are two, and none for the first process."""
    arguments = ("a", "--num", "600", "--steps", "2", *LOCAL, "--json")
    code, out, err = evaluate_in(3, *arguments)
    assert code == 0, err
    (found,) = json.loads(out)["evaluations"]  # one process speaks
    shutil.rmtree(paths.cache_dir() / "references")
    shutil.rmtree(evaluated / "runs" / "a" / "evaluations")
    (alone,) = json.loads(succeed("evaluate", *arguments).out)["evaluations"]
    for name, figure in alone["metrics"].items():
        for part in ("value", "floor", "corrected"):
            assert found["metrics"][name][part] == pytest.approx(figure[part], rel=1e-9)
    assert found["measured"] == alone["measured"]


@pytest.mark.slow
def test_what_one_process_cannot_read_ends_all(photo_folder: Path, tmp_path: Path) -> None:
    """The last image, which the second process reads, is cut short behind its header."""
    images = tmp_path / "images"
    for copy in range(3):
        shutil.copytree(photo_folder, images / str(copy))
    last = max(images.rglob("*.png"))
    last.write_bytes(last.read_bytes()[:100])
    code, out, err = evaluate_in(2, "--samples", images, "--reference", photo_folder, "--features", "pixels")
    assert (code, out) == (1, "")
    assert f"error in process 1: images in {images} cannot be read: {last.relative_to(images)}" in err
    assert "Traceback" not in err


def test_a_launched_process_launches_no_more(evaluated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    assert "torchrun has started this already" in error_of("evaluate", "a", "--steps", "2", "--processes", "2", code=2)
