"""A subject whose data are Gaussian and whose denoiser is the best one, in closed form, with a bias if one is given."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from debiasctl.analysis.denoisers import Composed, X0Function
from debiasctl.analysis.subject import Subject
from debiasctl.api import ArraySplit, DatasetInfo, Estimate, LoadedDataset
from debiasctl.diffusion.process import DiffusionProcess, process_of
from debiasctl.models.build import build_parameterization
from debiasctl.registry.choices import complete
from debiasctl.registry.refs import parse_ref
from debiasctl.runs.store import Run
from debiasctl.sampling.request import SampleRequest
from tests.tiny import make_spec

MEANS, SPREAD = (0.2, -0.1, 0.05), 0.3
SHAPE = (3, 8, 8)
Bias = Callable[[float], Tensor | float]  # of log-SNR: added to the estimate of x0, [C, 1, 1]


def gaussian_data(*, train: int = 2048, heldout: int = 256) -> LoadedDataset:
    generator = torch.Generator().manual_seed(3)
    mean = torch.tensor(MEANS).reshape(3, 1, 1)
    images = mean + SPREAD * torch.randn(train + heldout, *SHAPE, generator=generator)
    info = DatasetInfo(SHAPE[1], SHAPE[0], (), train, heldout, value_type="float32")
    return LoadedDataset(info, ArraySplit(images[:train]), ArraySplit(images[train:]), "gaussian")


class FromX0(Composed):
    """A denoiser that a function makes: `x0(x_t, t, labels)` estimates the image, and eps and v follow from it."""

    def __init__(self, x0: X0Function, process: DiffusionProcess) -> None:
        super().__init__(process, null_label=None)
        self._x0 = x0

    def __call__(self, x_t: Tensor, t: float, labels: Tensor | None = None) -> Estimate:
        self.nfe += 1
        return self.from_x0(self._x0(x_t, t, labels), x_t, t)


def best(process: Any, bias: Bias = lambda log_snr: 0.0) -> FromX0:
    """E[x0 | x_t] of the Gaussian, plus a bias."""
    mean = torch.tensor(MEANS).reshape(3, 1, 1)

    def x0(x_t: Tensor, t: float, labels: Tensor | None) -> Tensor:
        level = process.levels(torch.tensor([t], dtype=torch.float64))
        alpha, sigma, log_snr = level.alpha.item(), level.sigma.item(), level.snr.log().item()
        share = alpha * SPREAD**2 / (alpha**2 * SPREAD**2 + sigma**2)
        return mean + share * (x_t - alpha * mean) + bias(log_snr)

    return FromX0(x0, process)


def gaussian_subject(
    bias: Bias = lambda log_snr: 0.0,
    *,
    sampler: str = "ddim:clip_x0=false",
    steps: int = 20,
    data: LoadedDataset | None = None,
    schedule: str = "cosine",
    name: str = "a",
) -> Subject:
    spec = make_spec(model__conditional=False, model__prediction="v", diffusion__schedule=schedule)
    process = build_parameterization(spec).process
    assert process.log_snr.equal(process_of(spec.diffusion.schedule.create("schedules")).log_snr)
    request = SampleRequest(1, steps, complete("samplers", parse_ref(sampler)), 0, 0, "ema")
    return Subject(
        Run(Path("runs") / name), spec, name, request, data or gaussian_data(), torch.device("cpu"), name * 8,
        best(process, bias),  # type: ignore[arg-type]  # any denoiser of the process will do
    )  # fmt: skip
