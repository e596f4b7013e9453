"""Worlds in closed form with one cause of a colour shift each, of random size, sign and colour, or without any."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor

from debiasctl.analysis.book import Book
from debiasctl.analysis.denoisers import Composed
from debiasctl.analysis.parts.colour.doctor import Colour
from debiasctl.analysis.parts.part import Choices, Found
from debiasctl.analysis.record import AnalysisRecord, Network
from debiasctl.analysis.subject import Subject
from debiasctl.api import ArraySplit, DatasetInfo, Estimate, LoadedDataset
from debiasctl.data.pixels import to_uint8
from debiasctl.diffusion.parameterization import convert
from debiasctl.diffusion.process import DiffusionProcess, process_of
from debiasctl.registry import create
from debiasctl.registry.choices import complete
from debiasctl.registry.refs import parse_ref
from debiasctl.sampling.request import SampleRequest

SIDE, CHANNELS = 8, 3
LEAST = 0.06  # of an injected shift, over three channels: 4 grey levels each
PIXELS = SIDE * SIDE


@dataclass(frozen=True)
class Law:
    """A Gaussian mixture: each component has a colour, a spread of its channels' means, and texture around them."""

    weights: Tensor  # [K]
    colours: Tensor  # [K, C]
    spread: float  # standard deviation of an image's mean colour within a component, apart from the texture's
    texture: float

    def draw(self, num: int, generator: torch.Generator) -> Tensor:
        """Images [num, C, H, W], float64."""
        component = torch.multinomial(self.weights, num, replacement=True, generator=generator)
        colour = self.colours[component] + self.spread * _normal((num, CHANNELS), generator)
        return colour[:, :, None, None] + self.texture * _normal((num, CHANNELS, SIDE, SIDE), generator)

    def shifted(self, by: Tensor) -> "Law":
        return Law(self.weights, self.colours + by, self.spread, self.texture)

    def posterior_mean(self, x_t: Tensor, *, alpha: float, sigma: float) -> Tensor:
        """E[x0 | x_t], [N, C, H, W] in float64."""
        x = x_t.double()
        mean = x.mean(dim=(2, 3))
        rest = x - mean[:, :, None, None]
        wide = self.texture**2 + PIXELS * self.spread**2  # variance along a channel's mean, in an orthonormal basis
        total = alpha**2 * wide + sigma**2
        away = mean[:, None] - alpha * self.colours  # [N, K, C]
        share = torch.softmax(self.weights.log() - PIXELS * away.square().sum(dim=2) / (2 * total), dim=1)
        each = self.colours + alpha * wide / total * away
        colour = torch.einsum("nk,nkc->nc", share, each)
        gain = alpha * self.texture**2 / (alpha**2 * self.texture**2 + sigma**2)
        return colour[:, :, None, None] + gain * rest


Edit = Callable[[Tensor, Tensor, float, float], Tensor]  # of x0_hat, given x_t, alpha and sigma


class Denoiser(Composed):
    """The ideal denoiser of a law with an edit of its estimate, and a fraction of the variance if it learned one."""

    def __init__(
        self, law: Law, process: DiffusionProcess, *, edit: Edit | None = None, fraction: Tensor | None = None
    ) -> None:
        super().__init__(process, null_label=None)
        self.law, self.edit, self.fraction = law, edit, fraction

    def __call__(self, x_t: Tensor, t: float, labels: Tensor | None = None) -> Estimate:
        self.nfe += 1
        levels = self.process.levels(torch.tensor([t], dtype=torch.float64))
        alpha, sigma = float(levels.alpha), float(levels.sigma)
        x0 = self.law.posterior_mean(x_t, alpha=alpha, sigma=sigma)
        if self.edit is not None:
            x0 = self.edit(x0, x_t, alpha, sigma)
        found = convert(x0, "x0", x_t=x_t.double(), alpha=levels.alpha, sigma=levels.sigma)
        parts = (found.x0.to(x_t.dtype), found.eps.to(x_t.dtype), found.v.to(x_t.dtype))
        if self.fraction is None:
            return Estimate(*parts)
        return Estimate(*parts, self.fraction.to(x_t.dtype).view(1, -1, 1, 1).expand_as(x_t))


@dataclass(frozen=True)
class World:
    """What is given to the doctor."""

    denoiser: Denoiser
    train: Tensor
    heldout: Tensor
    sampler: str
    num_steps: int
    seed: int

    def subject(self) -> Subject:
        info = DatasetInfo(SIDE, CHANNELS, (), len(self.train), len(self.heldout))
        data = LoadedDataset(
            info=info, train=ArraySplit(to_uint8(self.train)), heldout=ArraySplit(to_uint8(self.heldout)),
            content_hash="0",
        )  # fmt: skip
        request = SampleRequest(
            num=1, num_steps=self.num_steps, sampler=complete("samplers", parse_ref(self.sampler)), seed=self.seed,
            step=1, weights="ema",
        )  # fmt: skip
        learned = self.denoiser.fraction is not None
        spec = SimpleNamespace(
            model=SimpleNamespace(conditional=False, learned_variance=learned),
            data=SimpleNamespace(horizontal_flip=False),
        )
        return Subject(
            cast(Any, None), cast(Any, spec), "arm", request, data, torch.device("cpu"), "0", cast(Any, self.denoiser)
        )  # fmt: skip


def diagnose(world: World, folder: Path, *, num: int | None = None) -> tuple[AnalysisRecord, Found]:
    """The record of the doctor."""
    part, subject = Colour(), world.subject()
    settings = part.settings(subject, [], Choices(num=num, seed=world.seed))
    found = part.measure(subject, [], settings, Book(folder, identity="0"))
    record = AnalysisRecord(
        schema_version=1, debiasctl="0", part=part.name, content_hash="0", settings=settings,
        network=Network(run="run", run_identity=None, arm="arm", checkpoint=1, weights="ema", weights_sha256="0"),
        quantities=found.quantities, series=found.series, images=sorted(found.images), notes=found.notes,
    )  # fmt: skip
    return record, found


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


# ---------------------------------------------------------------- laws and causes


@dataclass(frozen=True)
class Dice:
    """Random choices of a world."""

    generator: torch.Generator

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=self.generator, dtype=torch.float64))

    def colour(self, length: float) -> Tensor:
        """A direction in colour of a length, [C]: a random one, or all channels alike."""
        way = _normal((CHANNELS,), self.generator) if self.between(0, 1) < 0.7 else torch.ones(CHANNELS).double()
        return length * self.sign() * way / way.norm()

    def sign(self) -> float:
        return 1.0 if self.between(0, 1) < 0.5 else -1.0

    def of(self, *choices: Any) -> Any:
        return choices[int(self.between(0, len(choices)))]

    def gaussian(self, *, colour: Tensor | None = None) -> Law:
        centre = self.colour(self.between(0.1, 0.4)) if colour is None else colour
        return Law(torch.ones(1).double(), centre[None], self.between(0.06, 0.12), self.between(0.1, 0.2))

    def mixture(self) -> Law:
        """Two components of unequal weights, whose colours lie apart."""
        share = self.between(0.1, 0.3)
        weights = torch.tensor([1 - share, share]).double()
        main = self.colour(self.between(0.2, 0.4))
        colours = torch.stack([main, -main + self.colour(0.2)])
        return Law(weights, colours, self.between(0.03, 0.08), self.between(0.1, 0.2))


def process(ref: str) -> DiffusionProcess:
    return process_of(create("schedules", parse_ref(ref)))


CLEAN = ("linear", "cosine", "flow", "linear:zero_terminal_snr=true", "cosine:continuous=true")  # hardly a leak
SAMPLERS = ("ddim", "dpm-solver++", "euler", "ddpm", "heun")


def world(cause: str | None, seed: int) -> World:
    """A world with that cause of a shift, or with none; one that is hardly shifted by its cause is drawn again."""
    for attempt in range(100):
        found = _WORLDS[cause](Dice(torch.Generator().manual_seed(1000 * seed + attempt)), seed)
        if cause in (None, "data") or _size(found) >= LEAST:
            return found
    raise AssertionError(f"no world of {cause} from seed {seed}")


def _size(world: World) -> float:
    """The length of the samples' shift."""
    drawn = torch.cat([one.images for one in world.subject().drawer()([range(256)])])
    shift = (drawn.double() / 127.5 - 1).mean(dim=(0, 2, 3)) - world.train.mean(dim=(0, 2, 3))
    return float(shift.norm())


def _made(
    dice: Dice, seed: int, law: Law, denoiser: Denoiser, sampler: str, num_steps: int, *, true: Law | None = None
) -> World:
    train, heldout = law.draw(1500, dice.generator), (true or law).draw(500, dice.generator)
    return World(denoiser, train, heldout, sampler, num_steps, seed)


def _none(dice: Dice, seed: int) -> World:
    law = dice.of(dice.gaussian, dice.mixture)()
    return _made(dice, seed, law, Denoiser(law, process(dice.of(*CLEAN))), dice.of(*SAMPLERS), 40)


def _data(dice: Dice, seed: int) -> World:
    """Training images that are brighter, or of another colour, than they ought to be."""
    true = dice.of(dice.gaussian, dice.mixture)()
    law = true.shifted(dice.colour(dice.between(0.1, 0.25)))
    return _made(dice, seed, law, Denoiser(law, process(dice.of(*CLEAN))), dice.of(*SAMPLERS), 40, true=true)


def _leak(dice: Dice, seed: int) -> World:
    """A schedule whose last level shows the image still."""
    law = dice.gaussian(colour=dice.colour(dice.between(0.45, 0.7)))
    end = dice.between(0.003, 0.006)
    leaky = process(f"linear:beta_end={end:.5f}")
    return _made(dice, seed, law, Denoiser(law, leaky), dice.of("ddim", "dpm-solver++", "ddpm"), 40)


def _steps(dice: Dice, seed: int) -> World:
    """Few steps on components of unequal weight."""
    law, steps = dice.mixture(), int(dice.between(3, 8))
    return _made(dice, seed, law, Denoiser(law, process(dice.of(*CLEAN))), dice.of("ddim", "euler", "ddpm"), steps)


def _training(dice: Dice, seed: int) -> World:
    """A network whose estimates are of another colour where there is much noise."""
    law, by, below = dice.gaussian(), dice.colour(dice.between(0.3, 0.7)), dice.between(-4, -2)

    def edit(x0: Tensor, x_t: Tensor, alpha: float, sigma: float) -> Tensor:
        log_snr = 2 * math.log(alpha / sigma) if alpha > 0 else -math.inf
        return x0 + by[:, None, None] / (1 + math.exp(min(700.0, 2 * (log_snr - below))))

    return _made(dice, seed, law, Denoiser(law, process(dice.of(*CLEAN)), edit=edit), dice.of(*SAMPLERS), 40)


def _clipping(dice: Dice, seed: int) -> World:
    """Estimates of too much contrast at middle noise, right in their mean until they are clipped or thresholded."""
    law = dice.gaussian(colour=dice.colour(dice.between(0.55, 0.8)))
    times, middle = dice.between(6, 14), dice.between(-0.5, 1)

    def edit(x0: Tensor, x_t: Tensor, alpha: float, sigma: float) -> Tensor:
        log_snr = 2 * math.log(alpha / sigma) if alpha > 0 else -math.inf
        texture = x0 - x0.mean(dim=(2, 3), keepdim=True)
        return x0 + times * math.exp(-((log_snr - middle) ** 2)) * texture

    sampler = dice.of("ddim", "ddpm", "ddim:threshold=0.95", "euler")
    return _made(dice, seed, law, Denoiser(law, process(dice.of(*CLEAN)), edit=edit), sampler, 40)


def _variance(dice: Dice, seed: int) -> World:
    """A learned variance that is too large, or too small, of some channels."""
    law = dice.mixture()
    fraction = dice.sign() * dice.between(4, 9) * (0.3 + 0.7 * torch.rand(CHANNELS, generator=dice.generator).double())
    steps, schedule = int(dice.between(20, 60)), dice.of("linear", "cosine", "flow")
    return _made(dice, seed, law, Denoiser(law, process(schedule), fraction=fraction), "ddpm", steps)


_WORLDS: dict[str | None, Callable[[Dice, int], World]] = {
    None: _none, "data": _data, "leak": _leak, "clipping": _clipping, "steps": _steps, "variance": _variance,
    "training": _training,
}  # fmt: skip
