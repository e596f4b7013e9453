"""Several processes draw what one does."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from tiny import error_of

from debiasctl.runs.store import Run
from debiasctl.sampling import make_request, sample


def start(*arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "debiasctl", "sample", "run", "--device", "cpu", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def one_process(run: Run, num: int, num_steps: int) -> np.ndarray:
    """uint8 [N, H, W, C]; leaves nothing."""
    request = make_request(
        run, run.spec(), num=num, num_steps=num_steps, sampler="ddpm", seed=0, checkpoint=None, weights="ema"
    )
    images = sample(run, run.spec(), request, device=torch.device("cpu")).images
    shutil.rmtree(run.samples_dir)
    return images.permute(0, 2, 3, 1).numpy()


def test_two_processes_draw_the_same_images(run: Run) -> None:
    alone = one_process(run, 21, 3)
    process = start(
        "--num", "21", "--steps", "3", "--sampler", "ddpm", "--processes", "2", "--json", "--batch-size", "4"
    )
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    found = json.loads(out)  # one process speaks
    with np.load(found["folder"] + "/images.npz") as arrays:
        assert np.array_equal(arrays["images"], alone)
    assert found["nfe"] == 3


@pytest.mark.slow
def test_ctrl_c_stops_two_processes_and_one_goes_on(run: Run) -> None:
    options = ("--num", "600", "--steps", "40", "--sampler", "ddpm", "--batch-size", "8")
    process = start(*options, "--processes", "2")
    deadline = time.monotonic() + 120
    while not list(run.samples_dir.glob(".*.partial/*.npz")) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    err = process.communicate(timeout=120)[1]
    assert process.returncode == 130, err
    assert err.count("of 600; repeat the command to resume") == 1
    assert "Traceback" not in err
    process = start(*options, "--json")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "of 600 images are there already" in err
    found = json.loads(out)
    with np.load(found["folder"] + "/images.npz") as arrays:
        images = arrays["images"]
    assert np.array_equal(images, one_process(run, 600, 40))


def test_a_launched_process_launches_no_more(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    assert "torchrun has started this already" in error_of("sample", "run", "--processes", "2", code=2)
