"""How much of the weights that training starts from an average still holds, which its profile alone says."""

import math

from debiasctl.specs.sections import DecayEMA, EMASection, HalfLifeEMA
from debiasctl.wording import counted

BOUND = 0.01  # the share from which there is a note
_MOST_STEPS = 2**40


def initial_share(ema: EMASection, step: int, *, batch_size: int) -> float:
    """The initial weights' share in the (primary) average after `step` steps: the product of its decays, in [0, 1].

    With ln Γ, and the harmonic numbers H(n) = ψ(n + 1) + γ, it is as exact for millions of steps as for one:

        decay             decay^k; warm-up: Γ(m + 2) Γ(11)/Γ(m + 11) decay^(k - m), as (1 + j)/(10 + j) < decay to m
        half-life         2^-(k B/H); ramp-up by r: 2^-(H(m)/r + (k - m) B/H), as r j B < H up to the m-th step
        power             0 from the first step on (2312.02696, Eq. 5)
    """
    if step <= 0:
        return 1.0
    if isinstance(ema, DecayEMA):
        short = min(step, _warm_steps(ema)) if ema.warmup else 0
        whole = (step - short) * math.log(ema.decay) if ema.decay > 0 else -math.inf if step > short else 0.0
        return math.exp(math.lgamma(short + 2) + math.lgamma(11) - math.lgamma(short + 11) + whole)
    if isinstance(ema, HalfLifeEMA):
        per_step = batch_size / ema.half_life_images
        ratio = ema.rampup_ratio
        short = 0 if ratio is None else min(step, math.floor(1 / (ratio * per_step)))
        halvings = (step - short) * per_step + (0.0 if ratio is None else _harmonic(short) / ratio)
        return float(0.5**halvings)
    return 0.0


def share_in(weights: str, ema: EMASection, step: int, *, batch_size: int) -> float | None:
    """The initial weights' share in the weights named `weights` (see `parse_weights`); None for raw ones."""
    if weights == "raw":
        return None
    return initial_share(ema, step, batch_size=batch_size) if weights == "ema" else 0.0 if step > 0 else 1.0


def steps_needed(ema: EMASection, *, batch_size: int) -> int:
    """The number of steps after which the share stays below `BOUND`."""
    low, high = 0, 1
    while initial_share(ema, high, batch_size=batch_size) >= BOUND and high < _MOST_STEPS:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if initial_share(ema, middle, batch_size=batch_size) >= BOUND else (low, middle)
    return high


def planned_note(ema: EMASection, steps: int, *, batch_size: int) -> str | None:
    """A note before a training of `steps` steps whose average will still hold much of the initial weights, or None."""
    share = initial_share(ema, steps, batch_size=batch_size)
    if share < BOUND:
        return None
    advice = [f"train {counted(steps_needed(ema, batch_size=batch_size), 'step')} or more"]
    better = _better(ema, steps, batch_size=batch_size)
    if better is not None:
        advice.insert(0, f"set `{better}`")
    return (
        f"after {counted(steps, 'step')} {_percent(share)} of the averaged weights will still be the initial ones, "
        f"which samples and held-out errors then show. {' or '.join(advice).capitalize()}; or sample with `weights=raw`"
    )


def reached_note(weights: str, ema: EMASection, step: int, *, batch_size: int) -> str | None:
    """A note on a checkpoint whose average still holds much of the initial weights, or None; none at step 0."""
    share = share_in(weights, ema, step, batch_size=batch_size)
    if step == 0 or share is None or share < BOUND:
        return None
    better = _better(ema, step, batch_size=batch_size)
    return (
        f"at step {step:,} {_percent(share)} of the averaged weights are still the initial ones: use those "
        f"without an average (`weights=raw`), or a later step, from {steps_needed(ema, batch_size=batch_size):,} on"
        f"{'' if better is None else f'. A training of so few steps needs `{better}`'}"
    )


def begun_note(ema: EMASection, step: int, *, batch_size: int) -> str | None:
    """A note on averaged weights that a training starts from and that hold much of the initial ones, or None."""
    share = share_in("ema", ema, step, batch_size=batch_size)
    if step == 0 or share is None or share < BOUND:
        return None
    return (
        f"{_percent(share)} of its averaged weights at step {step:,}, which this training starts from, are still "
        "the initial ones of that run"
    )


def _better(ema: EMASection, steps: int, *, batch_size: int) -> str | None:
    """The setting that lowers the share below the bound after so many steps, if one does."""
    tries: list[tuple[str, EMASection]] = []
    if isinstance(ema, DecayEMA):
        tries.append(("ema.warmup=true", ema.model_copy(update={"warmup": True})))
        decay = math.floor(1000 * BOUND ** (2 / steps)) / 1000  # of which BOUND² is left
        tries.append((f"ema.decay={decay:g}", ema.model_copy(update={"decay": decay})))
    elif isinstance(ema, HalfLifeEMA):
        images = max(1, steps * batch_size // 20)
        tries.append((f"ema.half_life_images={images}", ema.model_copy(update={"half_life_images": images})))
    return next((text for text, tried in tries if initial_share(tried, steps, batch_size=batch_size) < BOUND), None)


def _warm_steps(ema: DecayEMA) -> int:
    """The number of steps j = 1, 2, … for which (1 + j)/(10 + j) is below the decay."""
    return max(0, math.ceil((10 * ema.decay - 1) / (1 - ema.decay)) - 1)


def _harmonic(count: int) -> float:
    """The sum of 1/j for j = 1 … count, by its asymptotic series above 100."""
    if count <= 100:
        return math.fsum(1 / j for j in range(1, count + 1))
    return math.log(count) + 0.5772156649015329 + 1 / (2 * count) - 1 / (12 * count**2) + 1 / (120 * count**4)


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 else f"{share:.1%}"
