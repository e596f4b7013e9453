"""What holds of samplers."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from debiasctl.errors import UsageError
from debiasctl.testing.gaussian import GaussianDenoiser
from debiasctl.testing.laws import Broken, Inapplicable, Laws, Subject, described, expect_close, expect_same

laws = Laws()
_STEPS = 12
_MEANS = (-0.3, 0.4)  # of the classes
_MANY = 1024  # images of which a law of large numbers holds
_LAW_STEPS = (50, 200)


def _noise(seed: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def _draw(
    subject: Subject,
    denoiser: GaussianDenoiser,
    *,
    shape: tuple[int, ...] = (4, 1, 4, 4),
    num_steps: int = _STEPS,
    dtype: torch.dtype = torch.float32,
    labels: Tensor | None = None,
    on_step: Callable[[int, Tensor, Tensor], None] | None = None,
    which: slice = slice(None),
) -> Tensor:
    """Images by a new sampler from noise that is the same at every call; `which` are drawn."""
    sampler, x = subject.make(), _noise(0, shape, dtype)[which]

    def noise(step: int) -> Tensor:
        return _noise(step + 1, shape, dtype)[which]

    with torch.no_grad():
        found: Tensor = sampler(denoiser, x, num_steps=num_steps, noise=noise, labels=labels, on_step=on_step)
    return found


@laws.law("It returns finite images of the noise's shape and dtype")
def _form(subject: Subject) -> None:
    for dtype in (torch.float32, torch.float64):
        for shape in ((1, 1, 4, 4), (3, 3, 8, 6)):
            found = _draw(subject, GaussianDenoiser(), shape=shape, dtype=dtype)
            if found.dtype != dtype or tuple(found.shape) != shape:
                raise Broken(f"from noise {str(dtype).removeprefix('torch.')} {list(shape)}: {described(found)}")
            if not bool(found.isfinite().all()):
                raise Broken(f"from noise {list(shape)} it returned NaN or infinity")


@laws.law("Equal noise gives equal images, whatever torch's global generator holds")
def _reproducible(subject: Subject) -> None:
    torch.manual_seed(1)
    first = _draw(subject, GaussianDenoiser())
    torch.manual_seed(2)
    expect_same(
        first,
        _draw(subject, GaussianDenoiser()),
        "drawn twice from the same noise: draw random numbers by noise(k) alone",
    )


@laws.law("It leaves the noise that it is given as it is")
def _noise_kept(subject: Subject) -> None:
    x = _noise(0, (2, 1, 4, 4), torch.float32)
    kept = x.clone()
    given: dict[int, Tensor] = {}

    def noise(step: int) -> Tensor:
        return given.setdefault(step, _noise(step + 1, (2, 1, 4, 4), torch.float32))

    with torch.no_grad():
        subject.make()(GaussianDenoiser(), x, num_steps=3, noise=noise)
    expect_same(x, kept, "it changed x, the noise, in place")
    for step, one in given.items():
        expect_same(one, _noise(step + 1, (2, 1, 4, 4), torch.float32), f"it changed noise({step}) in place")


@laws.law("An image does not depend on the others that are drawn with it")
def _apart(subject: Subject) -> None:
    together = _draw(subject, GaussianDenoiser(), dtype=torch.float64)
    alone = _draw(subject, GaussianDenoiser(), dtype=torch.float64, which=slice(1, 2))
    expect_close(alone, together[1:2], "the second of four images, drawn alone", tolerance=1e-9)


@laws.law("The number of its calls of the network follows from its options and the number of steps")
def _calls(subject: Subject) -> None:
    found = []
    for _ in range(2):
        denoiser = GaussianDenoiser()
        _draw(subject, denoiser)
        found.append(denoiser.nfe)
    if found[0] != found[1] or found[0] < 1:
        raise Broken(f"with {_STEPS} steps it called the network {found[0]} times, and then {found[1]} times")


@laws.law("It reports each step once, with images of the noise's shape, and draws the same without a report")
def _reports(subject: Subject) -> None:
    seen: list[int] = []

    def on_step(done: int, x: Tensor, x0: Tensor) -> None:
        seen.append(done)
        for name, one in (("x", x), ("x0", x0)):
            if not isinstance(one, Tensor) or tuple(one.shape) != (4, 1, 4, 4):
                raise Broken(f"on_step({done}, x, x0) was given as {name} {described(one)}, not [4, 1, 4, 4]")

    reported = _draw(subject, GaussianDenoiser(), on_step=on_step)
    if seen != list(range(1, _STEPS + 1)):
        raise Broken(f"with {_STEPS} steps, on_step was called with {seen}; it is to be 1, 2, ... {_STEPS}")
    expect_same(reported, _draw(subject, GaussianDenoiser()), "with on_step and without")


@laws.law("Its grid holds levels of the process, and the network is called between the first and the last of them")
def _grid(subject: Subject) -> None:
    denoiser = GaussianDenoiser()
    levels = subject.make().grid(denoiser, _STEPS)
    if levels is None:
        raise Inapplicable("it has no fixed levels: grid returns None")
    for level in levels:
        inside = 0 <= level.t <= denoiser.num_timesteps - 1
        if inside and level.t == int(level.t):
            alpha = math.sqrt(float(denoiser.alphas_cumprod[int(level.t)]))
            if abs(level.alpha - alpha) > 1e-4:
                raise Broken(f"the level at t={level.t:g} has alpha={level.alpha:.6g}, and the process {alpha:.6g}")
    _draw(subject, denoiser)
    high, low = levels[0].t + 1e-6, levels[-1].t - 1e-6
    outside = [t for t, _ in denoiser.calls if not low <= t <= high]
    if outside:
        raise Broken(f"the network was called at t={outside[0]:g}, and the grid runs from {high:g} to {low:g}")


@laws.law("With one step or many it draws, or says why not")
def _counts(subject: Subject) -> None:
    refused = []
    for num_steps in (1, 2, 3, 37):
        try:
            found = _draw(subject, GaussianDenoiser(), num_steps=num_steps)
        except UsageError as error:
            refused.append(str(error))
            continue
        if not bool(found.isfinite().all()):
            raise Broken(f"with {num_steps} steps it returned NaN or infinity")
    if len(refused) == 4:
        raise Broken(f"it refuses 1, 2, 3 and 37 steps: {refused[0]}")


@laws.law("Its images have the mean and the spread of the data, for data that are normal")
def _law(subject: Subject) -> None:
    report = ""
    for num_steps in _LAW_STEPS:
        denoiser = GaussianDenoiser(0.1, 0.2)
        values = _draw(subject, denoiser, shape=(_MANY, 1, 4, 4), num_steps=num_steps).double()
        mean, std = float(values.mean()), float(values.std())
        if abs(mean - 0.1) < 0.02 and abs(std / 0.2 - 1) < 0.1:
            return
        report = f"with {num_steps} steps, values had mean {mean:.3g} and standard deviation {std:.3g}"
    raise Broken(f"{report}; those of the data are 0.1 and 0.2, from {_MANY} images of 4x4")


@laws.law("Labels reach the network: each image is one of its class")
def _labels(subject: Subject) -> None:
    labels = torch.arange(_MANY // 2) % 2
    denoiser = GaussianDenoiser(_MEANS, 0.1)
    values = _draw(subject, denoiser, shape=(len(labels), 1, 4, 4), num_steps=_LAW_STEPS[0], labels=labels).double()
    for label, mean in enumerate(_MEANS):
        found = float(values[labels == label].mean())
        if abs(found - mean) > 0.06:
            raise Broken(f"images of class {label} had the mean {found:.3g}, and that of the class is {mean}")


@laws.law("It draws on other schedules: with pure noise at the end, and between timesteps")
def _schedules(subject: Subject) -> None:
    refused: dict[str, Any] = {}
    schedules = ("cosine:num_timesteps=200", "linear:zero_terminal_snr=true", "flow")
    for schedule in schedules:
        try:
            found = _draw(subject, GaussianDenoiser(schedule=schedule))
        except UsageError as error:
            refused[schedule] = str(error).partition("\n")[0]
            continue
        if not bool(found.isfinite().all()):
            raise Broken(f"on the schedule {schedule} it returned NaN or infinity")
    if len(refused) == len(schedules):
        raise Broken(f"it refuses all of {', '.join(refused)}: {next(iter(refused.values()))}")
