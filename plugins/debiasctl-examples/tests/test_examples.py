"""The plugins are as short as the guides say, import what is public alone, and do what they say."""

import ast
import inspect
import json
import math
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from debiasctl_examples import dataset, sampler, weighting
from debiasctl_examples.dataset import Rings
from debiasctl_examples.sampler import PLMS
from debiasctl_examples.weighting import Sech

from debiasctl.api import DataLocation, Estimate, UsageError
from debiasctl.testing import check_dataset, check_sampler, check_weighting

BACKBONE = ("--backbone", "dit:hidden_size=16,depth=1,num_heads=2", "--batch-size", "8")
LOCATION = DataLocation(data_dir=None, cache_dir=Path("none"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def debiasctl(home: Path, *arguments: str | Path) -> str:
    """What the command prints."""
    environment = os.environ | {"DEBIASCTL_HOME": str(home), "NO_COLOR": "1", "COLUMNS": "160"}
    command = [sys.executable, "-m", "debiasctl", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---------------------------------------------------------------- as the guides say


@pytest.mark.parametrize(("plugin", "most"), [(Sech, 5), (PLMS, 25), (Rings, 15)])
def test_it_is_short(plugin: type, most: int) -> None:
    assert len([line for line in inspect.getsource(plugin).splitlines() if line.strip()]) <= most


@pytest.mark.parametrize("module", [weighting, sampler, dataset])
def test_it_imports_what_is_public_alone(module) -> None:
    found = set()
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
    assert "debiasctl.api" in found
    assert found <= {"debiasctl.api", "torch", "itertools", "math"}


@pytest.mark.parametrize(("check", "plugin"), [(check_weighting, Sech), (check_sampler, PLMS), (check_dataset, Rings)])
def test_it_keeps_the_laws_of_its_kind(check, plugin: type) -> None:
    check(plugin)


def test_they_are_listed_and_described(home: Path) -> None:
    listed = json.loads(debiasctl(home, "plugins", "list", "--json"))["plugins"]
    ours = {(one["kind"], one["name"]) for one in listed if one["distribution"] == "debiasctl-examples"}
    assert ours == {("weightings", "sech"), ("samplers", "plms"), ("datasets", "rings")}
    for (kind, name), plugin in zip(sorted(ours), (Rings, PLMS, Sech), strict=True):
        described = json.loads(debiasctl(home, "plugins", "describe", kind, name, "--json"))
        assert described["documentation"] == inspect.getdoc(plugin)
        assert described["options"] == []


def test_they_train_and_sample(home: Path, tmp_path: Path) -> None:
    debiasctl(home, "train", "rings", "--weighting", "sech", *BACKBONE, "--steps", "4", "--name", "rings")
    spec = json.loads(debiasctl(home, "runs", "show", "rings", "--json"))["spec"]
    assert spec["loss"]["weighting"] == {
        "name": "sech", "options": {}, "distribution": "debiasctl-examples", "version": "0.1.0"
    }  # fmt: skip
    assert spec["content"]["class_counts"] == [300, 300, 300]
    debiasctl(home, "sample", "rings", "--sampler", "plms", "--steps", "5", "--num", "4", "--out", tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 0
    debiasctl(home, "sample", "rings", "--sampler", "plms", "--steps", "5", "--trajectory", tmp_path / "x.gif")
    assert (tmp_path / "x.gif").stat().st_size > 0  # it reports its steps


# ---------------------------------------------------------------- the weighting


def test_sech() -> None:
    log_snr = torch.linspace(-40, 40, 81, dtype=torch.float64)
    weight = Sech(Sech.Options())(log_snr.exp())
    torch.testing.assert_close(weight, 1 / torch.cosh(log_snr / 2), rtol=1e-12, atol=0)


# ---------------------------------------------------------------- the sampler

TIMESTEPS = 960
ANGLE = 1.5 * (torch.arange(TIMESTEPS, dtype=torch.float64) + 1) / TIMESTEPS  # alpha = cos, sigma = sin; t = -1: clean


class Exact:
    """The denoiser of independent pixels ~ N(0, std²), and so the probability-flow ODE with a closed form."""

    num_timesteps, alphas_cumprod, null_label = TIMESTEPS, ANGLE.cos() ** 2, None

    def __init__(self, std: float) -> None:
        self.std, self.nfe = std, 0

    def variance(self, t: float) -> float:
        return math.cos(ANGLE[t]) ** 2 * self.std**2 + math.sin(ANGLE[t]) ** 2

    def __call__(self, x_t: torch.Tensor, t: float, labels: torch.Tensor | None = None) -> Estimate:
        self.nfe += 1
        alpha, sigma = math.cos(ANGLE[t]), math.sin(ANGLE[t])
        x0, eps = alpha * self.std**2 / self.variance(t) * x_t, sigma / self.variance(t) * x_t
        return Estimate(x0, eps, alpha * eps - sigma * x0)


def sample(denoiser: Exact, x: torch.Tensor, num_steps: int, on_step=None) -> torch.Tensor:
    return PLMS(PLMS.Options())(denoiser, x, num_steps=num_steps, noise=None, on_step=on_step)


def relative_error(num_steps: int) -> float:
    denoiser, x = Exact(0.5), torch.ones(1, 1, 1, 1, dtype=torch.float64)
    expected = denoiser.std / math.sqrt(denoiser.variance(TIMESTEPS - 1))  # each pixel keeps its quantile
    return abs(sample(denoiser, x, num_steps).item() / expected - 1)


def test_plms_is_of_second_order() -> None:
    """The steps of high order come after one of first order, whose error is of second order in its length."""
    errors = [relative_error(num_steps) for num_steps in (20, 40, 80, 160)]
    orders = [math.log2(before / after) for before, after in pairwise(errors)]
    assert errors[-1] < 1e-3
    assert all(1.7 < order < 2.5 for order in orders), (errors, orders)


def test_plms_is_exact_for_a_single_image() -> None:
    """eps does not change on the way to the only image there is."""
    x = torch.randn(2, 1, 4, 4, dtype=torch.float64)
    found = sample(Exact(0.0), x, 7)
    torch.testing.assert_close(found, torch.zeros_like(x), rtol=0, atol=1e-12)


def test_plms_is_diffusers_ipndm() -> None:
    schedulers = pytest.importorskip("diffusers").schedulers
    levels = PLMS(PLMS.Options()).grid(Exact(0.5), 12)
    theirs = schedulers.IPNDMScheduler()
    theirs.set_timesteps(12)
    theirs.alphas = torch.tensor([level.alpha for level in levels], dtype=torch.float64)
    theirs.betas = torch.tensor([level.sigma for level in levels], dtype=torch.float64)
    x = torch.randn(2, 1, 4, 4, dtype=torch.float64)
    seen = []
    sample(Exact(0.5), x, 12, lambda done, x_t, x0: seen.append(x_t))
    denoiser = Exact(0.5)
    for timestep, level, mine in zip(theirs.timesteps, levels, seen, strict=False):
        x = theirs.step(denoiser(x, level.t).v, timestep, x).prev_sample
        torch.testing.assert_close(mine, x, rtol=1e-10, atol=1e-12)
    assert len(seen) == 12


def test_plms_takes_one_forward_a_step_and_no_more_steps_than_timesteps() -> None:
    denoiser = Exact(0.5)
    sample(denoiser, torch.ones(1, 1, 1, 1, dtype=torch.float64), 9)
    assert denoiser.nfe == 9
    grid = PLMS(PLMS.Options()).grid(denoiser, TIMESTEPS)
    assert [level.t for level in grid[:-1]] == list(range(TIMESTEPS))[::-1]
    with pytest.raises(UsageError, match="at most 960"):
        sample(denoiser, torch.ones(1), TIMESTEPS + 1)


# ---------------------------------------------------------------- the data set


def test_rings() -> None:
    rings = Rings(Rings.Options())
    info, data = rings.info(LOCATION), rings.load(LOCATION)
    assert data.info == info
    assert data.content_hash == rings.load(LOCATION).content_hash
    for split, size in ((data.train, 900), (data.heldout, 300)):
        images, labels = split.images(torch.arange(size)), split.labels(torch.arange(size))
        assert (images.dtype, tuple(images.shape)) == (torch.uint8, (size, 1, 16, 16))
        assert torch.bincount(labels).tolist() == [size // 3] * 3
        bright = [images[labels == label].double().mean().item() for label in range(3)]
        assert bright == sorted(bright)
        assert len(images.flatten(1).unique(dim=0)) == size
