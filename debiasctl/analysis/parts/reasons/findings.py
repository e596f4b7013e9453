"""What the figures of the part `reasons` say, in plain sentences."""

import re
from collections.abc import Callable, Sequence

from debiasctl.analysis.parts.reasons.figures import NOISY
from debiasctl.analysis.record import AnalysisRecord, Quantity, Series
from debiasctl.reporting.panels import number_text

_Format = Callable[[float], str]
_MINUS = re.compile(r"(?<![\w-])-(?=\d)")  # of a number, and not in a weighting's name
_LINEAR = 0.05  # a gain over the linear predictor below it is called small


def sentences(record: AnalysisRecord) -> list[str]:
    """The findings of a record, in the order: shares, signal, conflicts, copying, learning, other weightings."""
    found = [
        _shares(record), _signal(record), *_conflicts(record), copying_sentence(record), _amplification(record),
        _learning(record), *(_counterfactual(record, case) for case in cases_of(record)),
    ]  # fmt: skip
    return [_MINUS.sub("−", sentence) for sentence in found if sentence]


def cases_of(record: AnalysisRecord) -> list[str]:
    """The other weightings that a record has figures of."""
    names = [one.name for one in record.series if one.name.startswith("loss_share[")]
    return [name.removeprefix("loss_share[").removesuffix("]") for name in names]


def _shares(record: AnalysisRecord) -> str:
    draws, loss = record.quantity(f"draw_share[{NOISY}]"), record.quantity(f"loss_share[{NOISY}]")
    if draws is None or loss is None:
        return ""
    parts = [f"{_with(loss, _percent)} of the loss"]
    if (square := record.quantity(f"gradient_square_share[{NOISY}]")) is not None:
        parts.append(f"{_with(square, _percent)} of the mean squared norm of single images' gradients")
    if (share := record.quantity(f"gradient_share[{NOISY}]")) is not None:
        parts.append(f"{_with(share, _percent)} of the mean gradient")
    return (
        f"Noise levels with more noise than image (log SNR below 0) are {_percent(draws.value)} of the t in the "
        f"objective, and have {_joined(parts)}."
    )


def _signal(record: AnalysisRecord) -> str:
    known, scale = record.quantity("gradients_known"), record.quantity("gradient_noise_scale")
    num = record.settings.get("images")
    snr = record.series_of("gradient_snr")
    if known is None or snr is None:
        return ""
    text = (
        f"With {num} draws of training images at each noise level, the mean gradient can be told from noise in "
        f"{known.value:.0f} of {len(snr.x)} "
        "bins of log SNR"
    )
    if scale is None:
        return (
            f"{text}, and the whole one cannot: what a step follows is noise to this precision, so that shares of the "
            "mean gradient are not given."
        )
    return (
        f"{text}; a batch of {_with(scale, _number)} images would have as much signal as noise in its whole gradient."
    )


def _conflicts(record: AnalysisRecord) -> list[str]:
    against, along = record.quantity("conflicting_pairs"), record.quantity("agreeing_pairs")
    known = record.quantity("gradients_known")
    if against is None or along is None or known is None or known.value < 2:
        return []
    pairs = int(known.value * (known.value - 1) / 2)
    text = (
        f"Among {pairs} pair{'s' if pairs > 1 else ''} of bins whose gradients are known, {against.value:.0f} point "
        f"against one another and {along.value:.0f} the same way, with intervals that all hold at once; of the others "
        "the sign is open."
    )
    if against.value:
        low, (first, second) = _lowest(record)
        text += f" The strongest conflict is between log SNR {first} and {second}, with a cosine of {_two(low)}."
    halves = record.quantity("conflict[noisy_half,image_half]")
    more = []
    if halves is not None:
        more.append(f"The gradients of the noisier and of the cleaner half have a cosine of {_with(halves, _two)}.")
    return [" ".join([text, *more])]


def _lowest(record: AnalysisRecord) -> tuple[float, tuple[str, str]]:
    """The lowest cosine whose sign is known, and the names of its bins."""
    rows = conflict_rows(record, "")
    names = [name for name, _ in rows]
    found = [
        (value, (names[i], names[j]))
        for i, (_, row) in enumerate(rows)
        for j, value in enumerate(row.value)
        if j > i and value is not None and row.high is not None and (row.high[j] or 0.0) < 0
    ]
    return min(found)


def conflict_rows(record: AnalysisRecord, case: str) -> list[tuple[str, Series]]:
    """The rows of the matrix of cosines of a weighting, each with its bin's name."""
    found = []
    for one in record.series:
        if one.name.startswith("conflict["):
            name, _, whose = one.name.removeprefix("conflict[").removesuffix("]").partition(",")
            if whose == case:
                found.append((name, one))
    return found


def copying_sentence(record: AnalysisRecord) -> str:
    """What the network does at the most noise: how far it copies its input, and what simple predictors score."""
    slope, r2, gain = (
        record.quantity(f"{name}[noisiest]") for name in ("copy_slope", "copy_r2", "gain_over_linear")
    )  # fmt: skip
    errors = [record.series_of(name) for name in ("eps_error", "eps_error[copy]", "eps_error[linear]")]
    if slope is None or r2 is None or gain is None or any(one is None for one in errors):
        return ""
    network, copy, linear = (one.value[0] for one in errors if one is not None)
    rows = conflict_rows(record, "")
    where = rows[0][0] if rows else "lowest"
    text = (
        f"At the most noise (log SNR {where}) the network's estimate of the noise is {_with(slope, _three)} times its "
        f"input, with an R² of {r2.value:.5f}. Its error of eps is {_small(network)}; copying the input would "
        f"score {_small(copy)}, and the best linear predictor {_small(linear)}: "
    )
    if gain.low is not None and gain.high is not None and gain.low <= 0 <= gain.high:
        return text + "the network cannot be told from the linear predictor there."
    if gain.value < 0:
        return text + f"the network does worse, with {_with(_left_of(gain), _number)} times the linear one's error."
    small = " only" if gain.value < _LINEAR else ""
    return text + f"the network's error is{small} {_with(gain, _percent)} lower than the linear predictor's."


def _amplification(record: AnalysisRecord) -> str:
    series = record.series_of("amplification")
    found = [] if series is None else [value for value in series.value if value is not None]
    if len(found) < 2:
        return ""
    return (
        f"An error of eps is {_number(found[0])} times as large in x0 at the most noise, and {_number(found[-1])} "
        "times at the least (1/√SNR)."
    )


def _learning(record: AnalysisRecord) -> str:
    times = record.series_of("images_to_90_percent")
    curves = [one for one in record.series if one.name.startswith("heldout_v[")]
    if times is None:
        return ""
    known = [(value, place) for place, value in enumerate(times.value) if value is not None]
    rising = len(times.value) - len(known)
    if not known:
        return "The held-out error fell at no noise level."
    names = [one.name.removeprefix("heldout_v[").removesuffix("]") for one in curves]
    first, last = min(known)[1], max(known)[1]
    measured = f"{len(curves[0].x)} measurements"
    if _end(times.high, first) > _end(times.low, last):
        text = (
            f"By {measured}, all noise levels whose held-out error fell had 90 % of their whole fall between "
            f"{_end(times.low, first):,.0f} and {_end(times.high, last):,.0f} images; their order is open, and a "
            "smaller `training.heldout_every` would show it."
        )
    else:
        text = (
            f"Held-out errors had fallen by 90 % of their whole fall first at log SNR {names[first]} (after "
            f"{_between(times, first)} images) and last at {names[last]} (after {_between(times, last)}), by "
            f"{measured}."
        )
    if rising:
        text += f" At {rising} noise level{'s' if rising > 1 else ''} the error did not fall."
    return text


def _between(times: Series, place: int) -> str:
    return f"{_end(times.low, place):,.0f} to {_end(times.high, place):,.0f}"


def _end(ends: Sequence[float | None] | None, place: int) -> float:
    return (None if ends is None else ends[place]) or 0.0


def _counterfactual(record: AnalysisRecord, case: str) -> str:
    own, other = record.quantity(f"loss_share[{NOISY}]"), record.quantity(f"loss_share[{NOISY},{case}]")
    if own is None or other is None:
        return ""
    parts = [f"{_with(other, _percent)} of the loss (the run's own: {_percent(own.value)})"]
    for name, words in (
        ("gradient_square_share", "the mean squared norm of single images' gradients"),
        ("gradient_share", "the mean gradient"),
    ):
        one, mine = record.quantity(f"{name}[{NOISY},{case}]"), record.quantity(f"{name}[{NOISY}]")
        if one is not None:
            beside = "" if mine is None else f" (own: {_percent(mine.value)})"
            parts.append(f"{_with(one, _percent)} of {words}{beside}")
    text = f"With the weighting {case} at these weights, log SNR below 0 would have {_joined(parts)}."
    cosine = record.quantity(f"gradient_cosine[{case}]")
    if cosine is not None:
        text += f" Its mean gradient would have a cosine of {_with(cosine, _two)} with the run's own."
    return text


def _left_of(gain: Quantity) -> Quantity:
    """The ratio of two errors, from the share that the first is lower by."""
    low, high = (None if end is None else 1 - end for end in (gain.high, gain.low))
    return gain.model_copy(update={"value": 1 - gain.value, "low": low, "high": high})


def _with(one: Quantity, words: _Format) -> str:
    """A value with its 95 % interval."""
    if one.low is None or one.high is None:
        return words(one.value)
    return f"{words(one.value)} (95 % interval {words(one.low)} to {words(one.high)})"


def _percent(value: float) -> str:
    size = abs(100 * value)
    digits = 0 if size >= 10 else 1 if size >= 1 or size == 0 else 2
    return f"{100 * value:.{digits}f} %".replace("-", "−")


def _two(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _three(value: float) -> str:
    return f"{value:.3f}".replace("-", "−")


def _small(value: float | None) -> str:
    return "unknown" if value is None else number_text(float(f"{value:.2g}"))


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
