"""What the colour doctor found, in sentences: the shift, its main cause where the intervals tell, and what is left."""

from collections.abc import Sequence
from dataclasses import dataclass

from debiasctl.analysis.parts.colour.interventions import CAUSES, cause_of
from debiasctl.analysis.parts.colour.statistics import LEVEL, chunk_of
from debiasctl.analysis.record import AnalysisRecord, Quantity

DATA_LEVEL = 0.01  # at which training images differ from held-out ones
MOST = 0.5  # of the squared shift: what is named takes away more than it leaves
LEAD = 0.1  # of the squared shift, by which its intervention is ahead of those on other causes
_WORTH = 0.05  # of the squared shift, from which a part of it is mentioned by its size
_COLOURS = {"grey": "grey", "r": "red", "g": "green", "b": "blue"}
_FREEDOM = 19  # of an interval at most: a data set's images are in 20 groups


@dataclass(frozen=True)
class Verdict:
    """The main cause, or why there is none: no shift, no cause that was tried, or several that are not told apart.

    `by` are the shares of the squared shift that each intervention takes away, the largest first.
    """

    cause: str | None
    is_shifted: bool
    by: tuple[Quantity, ...]
    rivals: tuple[str, ...] = ()


def verdict_of(record: AnalysisRecord) -> Verdict:
    """Decide from a record's figures.

    A cause is named if there is a shift, and its intervention takes most of the square of it away, certainly some
    (Bonferroni over the interventions), and a tenth of it more, certainly more, than any on another cause.
    """
    shares = [one for one in record.quantities if one.name.startswith("share_removed[")]
    shares.sort(key=lambda one: -one.value)
    p, data_p = _value(record, "mean_shift_p"), _value(record, "data_shift_p")
    if p >= LEVEL and data_p >= DATA_LEVEL:
        return Verdict(None, False, tuple(shares))
    num = int(str(record.settings["num"]))
    freedom = min(_FREEDOM, num // chunk_of(num) - 1)
    large = [one for one in shares if one.value >= MOST and _certain(one, LEVEL / len(shares), freedom)]
    if not large:
        return Verdict(None, True, tuple(shares))
    ahead = record.quantity(large[0].name.replace("share_removed", "ahead"))
    if ahead is not None and ahead.value >= LEAD and _certain(ahead, LEVEL, freedom):
        return Verdict(cause_of(_key(large[0])), True, tuple(shares))
    rivals = tuple(dict.fromkeys(cause_of(_key(one)) for one in large))
    return Verdict(None, True, tuple(shares), rivals)


def _value(record: AnalysisRecord, name: str) -> float:
    found = record.quantity(name)
    return 1.0 if found is None else found.value


def _certain(one: Quantity, level: float, freedom: int) -> bool:
    """Whether a figure is above 0 by a one-sided test."""
    from scipy.special import stdtrit

    return one.se is not None and one.value > float(stdtrit(freedom, 1 - level)) * one.se


def _key(one: Quantity) -> str:
    """What a figure's name has in its brackets."""
    return one.name.partition("[")[2].removesuffix("]")


def sentences(record: AnalysisRecord) -> list[str]:
    """All findings."""
    verdict = verdict_of(record)
    found = [_shift(record, "mean_shift", "The samples' mean", "the training images'")]
    if record.quantity("data_shift_p") is not None:
        found.append(_shift(record, "data_shift", "The training images' mean", "the held-out images'"))
    found.append(_main(record, verdict))
    if verdict.is_shifted:
        found += _others(record, verdict)
    found += _contrast(record)
    found.append(
        f"Each intervention was made alone, from the same {record.settings['num']} noises. Intervals cover the drawing "
        "of samples and images, and no other training seed."
    )
    return found


def _shift(record: AnalysisRecord, name: str, subject: str, reference: str) -> str:
    """How far a mean lies from another, by channel, and whether that is distinguishable from no shift."""
    channels = [one for one in record.quantities if one.name.startswith(f"{name}[")]
    p, level = _value(record, f"{name}_p"), LEVEL if name == "mean_shift" else DATA_LEVEL
    if p >= level:
        return f"{subject} is not distinguishable from {reference} (p {_p(p)}): {_by_channel(channels)}."
    signs = {one.value > 0 for one in channels}
    way = ("brighter" if True in signs else "darker") if len(signs) == 1 else "of another colour"
    verb = f"is {way} than" if way != "of another colour" else "has another colour than"
    return f"{subject} {verb} {reference} (p {_p(p)}): {_by_channel(channels)}, where images lie in [-1, 1]."


def _main(record: AnalysisRecord, verdict: Verdict) -> str:
    if not verdict.is_shifted:
        return "So no cause is named: an intervention that changes the samples' colour mends nothing here."
    if verdict.cause is not None:
        best = verdict.by[0]
        return (
            f"The main cause is {CAUSES[verdict.cause]}: {_text(best)}, {_percent(best)} of the squared shift goes "
            f"away{_left(record, _key(best))}."
        )
    if len(verdict.rivals) > 1:
        which = " or ".join(CAUSES[one] for one in verdict.rivals)
        parts = "; ".join(f"{_text(one)}, {_percent(one)}" for one in verdict.by if one.value >= MOST)
        shares = f"This much of the squared shift goes away: {parts}."
        return f"It cannot be told whether the main cause is {which}. {shares}"
    if verdict.rivals:
        best = verdict.by[0]
        return (
            f"The most goes away by an intervention on {CAUSES[verdict.rivals[0]]} ({_text(best)}: {_percent(best)} of "
            "the squared shift), but it cannot be told from what others take away."
        )
    if not verdict.by:
        return "No intervention could be made on this run, so that its cause cannot be told."
    best = verdict.by[0]
    return (
        "None of the interventions certainly takes most of the shift away, so that its main cause cannot be told; the "
        f"most goes away {_text(best)}: {_percent(best)} of the squared shift."
    )


def _others(record: AnalysisRecord, verdict: Verdict) -> list[str]:
    """Interventions that change the shift distinguishably without taking most of it away, and those that do not."""
    main = {_key(one) for one in verdict.by if verdict.cause is not None and cause_of(_key(one)) == verdict.cause}
    shown = [one for one in verdict.by if _key(one) not in main and one.value < MOST]
    certain = [one for one in shown if _excludes_zero(one) and abs(one.value) >= _WORTH]
    found = []
    for text, some in (
        ("Some of the squared shift goes away", [one for one in certain if one.value > 0]),
        (
            "The squared shift grows, which is a negative share that goes away,",
            [one for one in certain if one.value < 0],
        ),
    ):
        if some:
            found.append(f"{text} {'; '.join(f'{_text(one)}, {_percent(one)}' for one in some)}.")
    rest = [one for one in shown if one not in certain]
    if rest:
        found.append(f"Hardly any of it, or none that is distinguishable, goes away {'; '.join(map(_text, rest))}.")
    return found


def _contrast(record: AnalysisRecord) -> list[str]:
    channels = [one for one in record.quantities if one.name.startswith("std_shift[")]
    if not any(_excludes_zero(one) for one in channels):
        return []
    return [f"The samples' standard deviation differs from the training images': {_by_channel(channels)}."]


def _left(record: AnalysisRecord, key: str) -> str:
    channels = [one for one in record.quantities if one.name.startswith(f"shift_left[{key},")]
    return f", which leaves {_by_channel(channels)}" if channels else ""


def _excludes_zero(one: Quantity) -> bool:
    return one.low is not None and one.high is not None and not one.low <= 0 <= one.high


def _text(one: Quantity) -> str:
    """What an intervention does, as the end of its figure's text has it."""
    return one.text.partition("goes away ")[2]


def _by_channel(channels: Sequence[Quantity]) -> str:
    parts = []
    for one in channels:
        channel = _key(one).rpartition(",")[2]
        parts.append(f"{_COLOURS.get(channel, f'channel {channel}')} {_signed(one.value)}{_interval(one)}")
    return ", ".join(parts)


def _interval(one: Quantity) -> str:
    return "" if one.low is None or one.high is None else f" ({_signed(one.low)} to {_signed(one.high)})"


def _percent(one: Quantity) -> str:
    low, high = (100 * (one.value if end is None else end) for end in (one.low, one.high))
    return f"{100 * one.value:.0f} % ({low:.0f} to {high:.0f} %)".replace("-0 ", "0 ").replace("-", "−")


def _signed(value: float) -> str:
    return f"{value:+.{3 if abs(value) >= 0.01 else 4}f}".replace("-", "−")


def _p(value: float) -> str:
    return f"= {value:.2g}" if value >= 1e-4 else "below 0.0001"
