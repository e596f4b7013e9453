"""What holds of noise schedules."""

from typing import Any

import torch

from debiasctl.api import Schedule
from debiasctl.diffusion import DiffusionProcess, process_of
from debiasctl.errors import UsageError
from debiasctl.testing.laws import Broken, Inapplicable, Laws, Subject, Unchecked, described, expect_close, expect_same

laws = Laws()
_SIZES = (32, 256)  # heights of images
_TIMESTEPS = (2, 10, 100, 1000, 4000)


def _schedule(subject: Subject, **changes: Any) -> Schedule:
    """A schedule for images of 32 pixels."""
    options = subject.options if not changes else _changed(subject, changes)
    made: Schedule = subject.make(subject.plugin.resolve_options(options, 32))  # type: ignore[attr-defined]
    return made


def _changed(subject: Subject, changes: dict[str, Any]) -> Any:
    from pydantic import ValidationError

    from debiasctl import registry

    given = subject.options.model_dump() | changes
    try:
        return subject.plugin.Options.model_validate(given, context=registry.resolve)
    except ValidationError as error:
        raise Unchecked(f"its options refuse {changes}") from error


@laws.law("Its table is float64, falls strictly, and lies in [0, 1)")
def _table(subject: Subject) -> None:
    process_of(_schedule(subject))


@laws.law("Its table is the same at every call, and of every object made from the same options")
def _same_twice(subject: Subject) -> None:
    first, second = _schedule(subject), _schedule(subject)
    expect_same(first.alphas_cumprod(), first.alphas_cumprod(), "two calls gave different tables")
    expect_same(first.alphas_cumprod(), second.alphas_cumprod(), "two schedules with the same options differ")


@laws.law("Changing the table that it returned does not change the schedule")
def _own_table(subject: Subject) -> None:
    schedule = _schedule(subject)
    before = schedule.alphas_cumprod().clone()
    schedule.alphas_cumprod().fill_(0.5)
    expect_same(schedule.alphas_cumprod(), before, "after another part of debiasctl had changed the table it was given")


@laws.law("log SNR falls in u over [0, 1], and is float64 of u's shape")
def _falls(subject: Subject) -> None:
    schedule = _schedule(subject)
    u = torch.linspace(0, 1, 7919, dtype=torch.float64)  # not at a table's own places alone
    found = schedule.log_snr(u)
    if not bool((found[1:-1].isfinite()).all()):
        wrong = u[1:-1][~found[1:-1].isfinite()][0].item()
        raise Broken(f"at u={wrong:g} it is {schedule.log_snr(u[1:-1])[~found[1:-1].isfinite()][0].item()}")
    rising = found[1:] >= found[:-1]
    if bool(rising.any()):
        at = int(rising.nonzero()[0])
        raise Broken(f"from u={u[at]:g} to u={u[at + 1]:g} it goes from {found[at]:.6g} to {found[at + 1]:.6g}")
    for shape in ((0,), (1,), (2, 3)):
        given = torch.full(shape, 0.5, dtype=torch.float64)
        if schedule.log_snr(given).shape != given.shape:
            raise Broken(f"for u {list(shape)} it returned {described(schedule.log_snr(given))}")


@laws.law("Its function of u passes through its table")
def _agrees(subject: Subject) -> None:
    schedule = _schedule(subject)
    size = schedule.options.num_timesteps
    u = (torch.arange(size, dtype=torch.float64) + schedule.place) / size
    inner = u < 1
    table = schedule.alphas_cumprod()[inner]
    expect_close(
        torch.sigmoid(schedule.log_snr(u[inner])), table, "SNR/(SNR + 1) by log_snr and the table", tolerance=1e-6
    )


@laws.law("It is a schedule with other numbers of timesteps, or says why not")
def _other_sizes(subject: Subject) -> None:
    made, refusals = 0, list[str]()
    for size in _TIMESTEPS:
        try:
            process = process_of(_schedule(subject, num_timesteps=size))
        except (UsageError, Unchecked) as error:
            refusals.append(f"{size}: {error}")
            continue
        made += 1
        if process.num_timesteps != size:
            raise Broken(f"num_timesteps={size} gave a table of {process.num_timesteps}")
    if not made:
        raise Broken(f"it refuses every number of timesteps ({'; '.join(refusals)[:300]})")


@laws.law("Rescaled to zero terminal SNR, or trained between timesteps, it stays a schedule")
def _variants(subject: Subject) -> None:
    tried = 0
    for changes in ({"zero_terminal_snr": True}, {"continuous": True}):
        try:
            process = process_of(_schedule(subject, **changes))
        except Unchecked:
            continue
        tried += 1
        _check_between(process, str(changes))
        if "zero_terminal_snr" in changes and float(process.snr[-1]) != 0:
            raise Broken(f"with zero_terminal_snr the last SNR is {float(process.snr[-1]):.3g}")
    if not tried:
        raise Inapplicable("its options refuse both")


def _check_between(process: DiffusionProcess, how: str) -> None:
    t = torch.arange(0, process.num_timesteps - 2, 0.5, dtype=torch.float64)
    snr = process.levels(t).snr
    if not bool((snr[1:] <= snr[:-1] * (1 + 1e-9)).all()):
        raise Broken(f"with {how}, SNR does not fall from one half timestep to the next")


@laws.law("Options that depend on the image size are filled in once and for all")
def _resolved(subject: Subject) -> None:
    plugin: Any = subject.plugin
    for size in _SIZES:
        once = plugin.resolve_options(subject.options, size)
        if plugin.resolve_options(once, size) != once:
            raise Broken(f"resolve_options for {size} pixels, given what it returned, returned something else")
        if plugin.resolve_options(once, 2 * size) != once:
            raise Broken(f"what it filled in for {size} pixels changes when it is resolved again for {2 * size}")
