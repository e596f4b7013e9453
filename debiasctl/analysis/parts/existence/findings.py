"""What the figures of a record say, in plain words and with their uncertainty."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from debiasctl.analysis.parts.existence.quantities import RANGE_TEXT, RANGES
from debiasctl.analysis.parts.part import LATENTS
from debiasctl.analysis.record import AnalysisRecord, Quantity, Series

_LEVEL = 0.05  # of all statements of a kind together, by Holm's method
_LEAST = 1e-4  # of [-1, 1], below which an error in one direction is not worth a sentence
_LEAST_SHARE = 0.01
_MOST = 3  # examples of a kind
_NOTHING = 1e-6  # of [-1, 1] and of its square: no more than rounding
_COLOURS = {"r": "red", "g": "green", "b": "blue"}
_BAND = re.compile(r"\[(.+) cycles\]")


@dataclass(frozen=True)
class Point:
    """A value of a series at one log-SNR."""

    series: Series
    log_snr: float
    value: float
    se: float
    low: float
    high: float

    @property
    def p(self) -> float:
        """The two-sided p value of 0, by the normal law."""
        if self.se == 0:
            return float(self.value == 0)
        return math.erfc(abs(self.value) / self.se / math.sqrt(2))

    @property
    def case(self) -> str:
        """What stands in the brackets of the series' name."""
        return self.series.name.partition("[")[2].rstrip("]")


def findings_of(record: AnalysisRecord) -> list[str]:
    """The sentences about the systematic error, where the error comes from, and the excess loss."""
    found = [*_brightness(record), *_classes(record), *_structure(record), *_amplitudes(record), *_excess(record)]
    return [f"{text}." for text in found]


def points(series: Series) -> list[Point]:
    """The points of a series that have a value and an interval."""
    columns = (series.value, series.se or [], series.low or [], series.high or [])
    return [
        Point(series, x, value, se, low, high)
        for x, value, se, low, high in zip(series.x, *columns, strict=False)
        if value is not None and se is not None and low is not None and high is not None
    ]


def apart(found: Sequence[Point], *, least: float) -> list[Point]:
    """Those that differ from 0, the largest first, with an error of 5 % over all of them (Holm, 1979)."""
    kept = []
    ordered = sorted(found, key=lambda point: point.p)
    for number, point in enumerate(ordered):
        if point.p > _LEVEL / (len(ordered) - number):
            break
        kept.append(point)
    return sorted((one for one in kept if abs(one.value) >= least), key=lambda one: -abs(one.value))


def _all(record: AnalysisRecord, prefix: str) -> Iterator[Point]:
    for series in record.series:
        if series.name == prefix or series.name.startswith(f"{prefix}["):
            yield from points(series)


def _brightness(record: AnalysisRecord) -> list[str]:
    if LATENTS in record.settings:
        return []
    found = [point for point in _all(record, "mean_error") if not point.case.startswith("class ")]
    if not found:
        return []
    kept = _distinct(apart(found, least=_LEAST))
    if not kept:
        largest = max(found, key=lambda point: abs(point.value))
        return [
            f"None of the {len(found)} errors of the estimate's brightness or colour in one direction can be told from "
            f"0, allowing for their number: the largest, at log SNR {_number(largest.log_snr)}, is {_signed(largest)}"
        ]
    head = f"At log SNR {_number(kept[0].log_snr)} the estimate of the image is {_dark(kept[0])}"
    other = next((one for one in kept if one.value * kept[0].value < 0), None)
    if other is not None:
        head += f", and at {_number(other.log_snr)} {_dark(other)}"
    levels = sorted(one.log_snr for one in kept)
    total = len({point.log_snr for point in found})
    where = f" from {_number(levels[0])} to {_number(levels[-1])}" if len(levels) > 1 else ""
    return [head + f". An error in one direction can be told from 0 at {len(levels)} of {total} levels{where}"]


def _distinct(found: Sequence[Point]) -> list[Point]:
    """The largest of each level, since channels and their mean tell of one thing."""
    kept: dict[float, Point] = {}
    for point in found:
        kept.setdefault(point.log_snr, point)
    return list(kept.values())


def _dark(point: Point) -> str:
    word = "bright" if point.value > 0 else "dark"
    where = f" in {_COLOURS.get(point.case, f'channel {point.case}')}" if point.case else ""
    return f"{interval(abs(point.value), *_turned(point))} too {word}{where}"


def _turned(point: Point) -> tuple[float, float]:
    """The interval of the size of a value, whichever its sign."""
    return (point.low, point.high) if point.value > 0 else (-point.high, -point.low)


def _classes(record: AnalysisRecord) -> list[str]:
    found = [point for point in _all(record, "mean_error") if point.case.startswith("class ")]
    kept = apart(found, least=_LEAST)
    if not kept:
        return []
    one = kept[0]
    word = "bright" if one.value > 0 else "dark"
    name = one.case.removeprefix("class ")
    return [
        f"Among classes, the estimates of '{name}' are furthest off: {interval(abs(one.value), *_turned(one))} too "
        f"{word} at log SNR {_number(one.log_snr)}"
    ]


def _structure(record: AnalysisRecord) -> list[str]:
    """The mean error's patterns; sizes are not below 0, and the squares say whether they differ from it."""
    kept = apart(list(_all(record, "systematic_x0")), least=_LEAST**2)
    kept = [point for point in kept if point.case and point.low > 0]
    if not kept:
        return []
    one = kept[0]
    size = [max(value, 0.0) ** 0.5 for value in (one.value, one.low, one.high)]
    return [
        f"The mean error over all images has a pattern: at log SNR {_number(one.log_snr)} its root mean square is "
        f"{interval(*size)} at {_cycles(one)} per image"
    ]


def _amplitudes(record: AnalysisRecord) -> list[str]:
    # below -1 they go against x_t: its noise decides there, and "too weak" would be no word for it
    found = [point for point in _all(record, "amplitude_error") if abs(point.value) < 1]
    kept = apart(found, least=_LEAST_SHARE)
    if not kept:
        return []
    largest: dict[str, Point] = {}
    for point in kept:
        largest.setdefault(point.case, point)
    parts = []
    for one in list(largest.values())[:_MOST]:
        word = "strong" if one.value > 0 else "weak"
        size = [100 * value for value in (abs(one.value), *_turned(one))]
        parts.append(f"{_cycles(one)} are {interval(*size, unit=' %')} too {word} at log SNR {_number(one.log_snr)}")
    return [f"Structures of {'; those of '.join(parts)}"]


def _cycles(point: Point) -> str:
    name = point.case.removesuffix(" cycles").replace("-", " to ")
    name = f"{name[:-1]} or more" if name.endswith("+") else name
    return f"{name} cycle{'s' * (name != '1')}"


def _excess(record: AnalysisRecord) -> list[str]:
    """The excess loss in each range, in full for the first one."""
    parts: list[str] = []
    for name, where in RANGE_TEXT.items():
        excess = record.quantity(f"excess_v[{name}]")
        if excess is not None:
            levels = where.partition(",")[0]
            least, systematic = _share(record, name, "excess_v", "irreducible_v"), _systematic(record, name)
            text = _beyond(excess, least, systematic, brief=bool(parts))
            parts.append(
                f"from {levels} it {text}" if parts else f"From {levels} the loss beyond the least possible {text}"
            )
    return (["; ".join(parts)] if parts else []) + _training(record)


def _systematic(record: AnalysisRecord, name: str) -> float | None:
    """The share of the excess that is systematic, where it can be told from 0."""
    found = record.quantity(f"systematic_v[{name}]")
    if found is None or found.low is None or found.low <= 0:
        return None
    return _share(record, name, "systematic_v", "excess_v")


def _beyond(excess: Quantity, share: float | None, systematic: float | None, *, brief: bool) -> str:
    if excess.low is None or excess.high is None:
        raise ValueError(f"{excess.name} has no interval")
    unit = "" if brief else " in units of v"
    if excess.low <= 0 <= excess.high:
        return f"cannot be told from 0: {interval(excess.value, excess.low, excess.high)}{unit}"
    text = f"is {interval(excess.value, excess.low, excess.high)}{unit}"
    if excess.value < 0:
        return f"{text}, so that the network does better on new images than the ideal of its training images"
    if share is not None:
        text += f", {_percent(share)}{' of' * (share < 1.005)} that least"
    if systematic is not None:
        text += f", and {_percent(min(1.0, systematic))} of it is systematic"
    return text


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.995 else "100 %" if share < 1.005 else f"{share:.2g} times"


def _share(record: AnalysisRecord, name: str, part: str, whole: str) -> float | None:
    """The share of one series in another over the levels of a range at which both are known."""
    low, high = RANGES[name]
    first, second = record.series_of(part), record.series_of(whole)
    if first is None or second is None:
        return None
    pairs = [
        (a, b)
        for x, a, b in zip(first.x, first.value, second.value, strict=True)
        if low <= x < high and a is not None and b is not None
    ]
    total = math.fsum(b for _, b in pairs)
    return math.fsum(a for a, _ in pairs) / total if total > 0 else None


def _training(record: AnalysisRecord) -> list[str]:
    for series in record.series:
        if not series.name.startswith("excess_v_in_training"):
            continue
        known = points(series)
        if len(known) < 2 or known[-1].value <= 0:
            continue
        first, last = known[0], known[-1]
        where = RANGE_TEXT[series.name.partition("[")[2].rstrip("]")].partition(",")[0]
        return [
            f"Over training, the excess at {where} went from {interval(first.value, first.low, first.high)} at "
            f"{first.log_snr:,.0f} images to {interval(last.value, last.low, last.high)} at {last.log_snr:,.0f}"
        ]
    return []


# ---------------------------------------------------------------- numbers


def interval(value: float, low: float, high: float, *, unit: str = "") -> str:
    """A value with its interval, in so many digits as it has."""
    if max(abs(low), abs(high), abs(value)) < _NOTHING:
        return f"0{unit} (to within {_NOTHING:.6f})"
    half = max(high - low, 1e-12) / 2
    places = max(0, min(6, 1 - math.floor(math.log10(half))))
    if half < abs(value) * 1e-3:  # known to more digits than anyone reads
        places = max(0, min(6, 3 - math.floor(math.log10(abs(value)))))
    text = [f"{round(one, places) + 0.0:.{places}f}" for one in (value, low, high)]
    return f"{text[0]}{unit} ({text[1]} to {text[2]})".replace("-", "−")


def _signed(point: Point) -> str:
    return interval(point.value, point.low, point.high)


def _number(value: float) -> str:
    """A log-SNR with one digit."""
    return f"{round(value, 1) + 0.0:.1f}".removesuffix(".0").replace("-", "−")
