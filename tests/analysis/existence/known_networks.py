"""Networks whose errors are known: the ideal denoiser of a Gaussian mixture in any prediction type, and biased ones."""

from collections.abc import Callable
from pathlib import Path

import torch
from tiny import make_spec
from torch import Tensor, nn

from debiasctl.analysis.ideal import ClosedForm
from debiasctl.analysis.subject import Subject
from debiasctl.api import ArraySplit, DatasetInfo, GaussianMixture, Level, LoadedDataset
from debiasctl.diffusion.denoiser import NetworkDenoiser
from debiasctl.diffusion.parameterization import Parameterization
from debiasctl.models.build import build_parameterization
from debiasctl.registry.choices import complete
from debiasctl.registry.refs import parse_ref
from debiasctl.runs.store import Run
from debiasctl.sampling.request import SampleRequest

CLASSES = ("cat", "dog")
SHAPE = (3, 8, 8)
Change = Callable[[Tensor, Tensor | None], Tensor]  # of the ideal estimates [N, C, H, W] for these classes


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mixture() -> GaussianMixture:
    """Three components of two classes, with more variance at low frequencies than at high ones."""
    channels, height, _ = SHAPE
    rows = torch.arange(height, dtype=torch.float64)
    cosines = torch.cos(torch.pi * (rows + 0.5) * rows[:, None] / height)
    cosines = cosines / cosines.norm(dim=1, keepdim=True)
    falling = 1 / (1 + rows[:, None] + rows) ** 2
    means = torch.randn(3, *SHAPE, generator=generator(1), dtype=torch.float64) * 0.15
    means += torch.tensor([0.2, -0.2, 0.0], dtype=torch.float64)[:, None, None, None]
    return GaussianMixture(
        torch.tensor([0.4, 0.4, 0.2], dtype=torch.float64), means, 0.3 * falling.expand(3, *SHAPE),
        (torch.eye(channels, dtype=torch.float64), cosines, cosines), torch.tensor([0, 1, 1]),
    )  # fmt: skip


def drawn(density: GaussianMixture, num: int, seed: int) -> ArraySplit:
    which = torch.multinomial(density.weights, num, replacement=True, generator=generator(seed))
    noise = torch.randn(num, *SHAPE, generator=generator(seed + 1), dtype=torch.float64)
    images = density.means[which] + density.images(density.variances[which].sqrt() * noise)
    assert density.classes is not None
    return ArraySplit(images.float(), density.classes[which])


def data_of(density: GaussianMixture, *, num: int, known: bool) -> LoadedDataset:
    train, heldout = drawn(density, 64, 11), drawn(density, num, 13)
    info = DatasetInfo(8, 3, CLASSES, len(train), len(heldout), "float32", (32, 32))
    return LoadedDataset(info, train, heldout, "0" * 64, density=density if known else None)


class Known(nn.Module):
    """The network whose denoiser estimates x0 = change(ideal estimate, classes), in float64 until its output."""

    def __init__(self, ideal: ClosedForm, parameterization: Parameterization, change: Change) -> None:
        super().__init__()
        self._ideal, self._parameterization, self._change = ideal, parameterization, change

    def forward(self, x: Tensor, noise: Tensor, labels: Tensor | None) -> Tensor:
        kind, data, value = self._parameterization.prediction, self._parameterization.sigma_data, noise[0].double()
        if kind == "edm":
            ratio = torch.exp(4 * value)
            alpha, sigma = 1 / (1 + ratio**2).sqrt(), ratio / (1 + ratio**2).sqrt()
        elif kind == "flow":
            share = value / 1000
            alpha, sigma = ((1 - share), share) / ((1 - share) ** 2 + share**2).sqrt().numpy()
        else:
            levels = self._parameterization.process.levels(noise[:1].double())
            alpha, sigma = levels.alpha[0], levels.sigma[0]
        spread = (sigma**2 + alpha**2 * data**2) ** 0.5
        x_t = x.double() * {"edm": spread, "flow": alpha + sigma}.get(kind, 1.0)
        x0 = self._change(self._ideal(x_t, Level(0.0, float(alpha), float(sigma)), labels).mean, labels)
        if kind == "x0":
            found = x0
        elif kind == "edm":
            found = (x0 - alpha * data**2 / spread**2 * x_t) / (sigma * data / spread)
        else:  # x0 = (scale x_t - sigma F)/below
            scale, below = {"eps": (1.0, alpha), "v": (alpha, 1.0), "flow": (1.0, alpha + sigma)}[kind]
            found = (scale * x_t - below * x0) / sigma
        return found.to(x)


def subject_of(
    folder: Path,
    *,
    prediction: str = "v",
    schedule: str = "cosine",
    change: Change = lambda x0, labels: x0,
    conditional: bool = True,
    num: int = 200,
    known: bool = True,
) -> Subject:
    """A subject whose network is known; its run has no checkpoints. Without `known` nothing tells its data's law."""
    density = mixture()
    spec = make_spec(model__prediction=prediction, model__conditional=conditional, diffusion__schedule=schedule)
    parameterization = build_parameterization(spec)
    network = Known(ClosedForm(density), parameterization, change)
    request = SampleRequest(1, 2, complete("samplers", parse_ref("ddim")), 0, 0, "ema")
    return Subject(
        Run(folder), spec, "arm", request, data_of(density, num=num, known=known), torch.device("cpu"), "0" * 64,
        NetworkDenoiser(network, parameterization),
    )  # fmt: skip
