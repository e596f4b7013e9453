"""The figures of a record over ranges of log-SNR, at a zero terminal SNR, and over training."""

from collections.abc import Mapping, Sequence

import numpy as np

from debiasctl.analysis.parts.existence import statistics
from debiasctl.analysis.parts.existence.figures import PARTS, PIXEL, SQUARED, Line
from debiasctl.analysis.parts.existence.reading import Facts, Level, mean_over, split_of
from debiasctl.analysis.parts.existence.statistics import Array, Figure
from debiasctl.analysis.record import Quantity, Series

# log-SNRs that quantities are means over; the ends of a schedule beyond ±10 are in the series alone
RANGES: Mapping[str, tuple[float, float]] = {"noisy": (-10.25, -1.0), "middle": (-1.0, 1.0), "clean": (1.0, 10.25)}
RANGE_TEXT = {
    "noisy": "log SNR −10 to −1, where images begin",
    "middle": "log SNR −1 to 1",
    "clean": "log SNR 1 to 10, where details are drawn",
}


def quantities_of(levels: Sequence[Level], facts: Facts) -> list[Quantity]:
    """Means over ranges of log-SNR, so that runs can be compared by few figures."""
    found = []
    for name, (low, high) in RANGES.items():
        inside = [level for level in levels if low <= level.place.log_snr < high]
        if inside:
            found += _of_range(name, inside, facts)
    terminal = [level for level in levels if level.place.level.alpha == 0]
    return found + (_terminal(terminal[0], facts) if terminal else [])


def _of_range(name: str, levels: Sequence[Level], facts: Facts) -> list[Quantity]:
    where = RANGE_TEXT[name]
    what = "mean of all values" if facts.latents else "brightness"
    text = f"{what} of the estimates less that of the ideal's, mean over {where}"
    found = [quantity(f"mean_error[{name}]", mean_over(levels), PIXEL, text)]
    for channel, columns in facts.channel_slices():
        text = f"the same in channel {channel}, mean over {where}"
        found.append(quantity(f"mean_error[{name}, {channel}]", mean_over(levels, columns), PIXEL, text))
    squared = statistics.average([level.squared.sum().times(level.in_v) for level in levels]).figure()
    room, rounding = (
        float(np.mean([one * level.in_v for one, level in zip(values, levels, strict=True)]))
        for values in ([level.training_squares.sum() for level in levels], [level.rounding for level in levels])
    )
    text = f"systematic error in units of v, mean over {where}"
    squared = squared.widened(below=room + rounding, above=room)
    found.append(quantity(f"systematic_v[{name}]", squared, SQUARED, text))
    known = [level for level in levels if level.usable]
    if not known:
        return found
    excess = statistics.mean(np.mean([level.excess() * level.in_v for level in known], axis=0)).widened(
        below=float(np.mean([level.rounding * level.in_v for level in known])),
        above=float(np.mean([level.slack * level.in_v for level in known])),
    )
    only = "" if len(known) == len(levels) else f"; only those up to {known[-1].place.log_snr:.2g}, see the notes"
    text = f"loss beyond the least possible, in units of v, mean over {where}{only}"
    return [*found, quantity(f"excess_v[{name}]", excess, SQUARED, text)]


def _terminal(level: Level, facts: Facts) -> list[Quantity]:
    """The figures of pure noise, whose log-SNR is -infinity: the best estimate is the mean of the data."""
    where = "from pure noise, at the last timestep"
    found = [
        quantity("error_x0[terminal]", statistics.mean(level.error()), SQUARED, f"squared error of x0 {where}"),
        quantity("mean_error[terminal]", level.mean_error(), PIXEL, f"mean error {where}"),
    ]
    for channel, columns in facts.channel_slices():
        text = f"mean error in channel {channel} {where}"
        found.append(quantity(f"mean_error[terminal, {channel}]", level.mean_error(columns), PIXEL, text))
    for part, known in split_of(level).items():
        if known is not None:
            text = f"{PARTS[part].format(of=' of x0')}, {where}"
            found.append(quantity(f"{part}_x0[terminal]", known, SQUARED, text))
    return found


def quantity(name: str, figure: Figure, unit: str, text: str) -> Quantity:
    """A figure as it is stored."""
    return Quantity(name=name, value=figure.value, se=figure.se, low=figure.low, high=figure.high, unit=unit, text=text)


# ---------------------------------------------------------------- training


def training_lines(levels: Sequence[Level], excess: Mapping[int, Array], *, batch_size: int) -> list[Series]:
    """The excess loss at each checkpoint, by its step: `excess` [L, N] of x0 at each level, of a few images."""
    found = []
    for name, (low, high) in RANGES.items():
        inside = [number for number, level in enumerate(levels) if low <= level.place.log_snr < high]
        text = f"loss beyond the least possible, in units of v, mean over {RANGE_TEXT[name]}, at the run's checkpoints"
        line = Line(f"excess_v_in_training[{name}]", SQUARED, text)
        for step, values in sorted(excess.items()) if inside else ():
            each = np.mean([values[number] * levels[number].in_v for number in inside], axis=0)
            room = float(np.mean([levels[number].slack * levels[number].in_v for number in inside]))
            line.add(float(step * batch_size), statistics.mean(each).widened(above=room))
        made = line.series("images")
        if made is not None:
            found.append(made)
    return found
