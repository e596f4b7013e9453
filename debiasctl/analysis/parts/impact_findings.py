"""What the impact of bias was found to be, in sentences."""

from debiasctl.analysis.parts.impact_figures import bracket
from debiasctl.analysis.parts.impact_forced import RANGES, range_name
from debiasctl.analysis.parts.impact_words import (
    CHANNEL_WORDS,
    NEGLIGIBLE,
    brief,
    case,
    is_negligible,
    leaves_out_0,
    number,
    said,
)
from debiasctl.analysis.record import AnalysisRecord, Quantity
from debiasctl.wording import counted

_KINDS = {
    "training_bias": "training bias",
    "exposure_bias": "exposure bias",
    "sampler_shift": "shift by the sampler's clipping or guidance",
}


def findings(record: AnalysisRecord) -> list[str]:
    """Sentences on finished images, on one noise in several numbers of steps, and on the two kinds of bias."""
    found = [*_finished(record), *_same_noise(record), *_biases(record)]
    found.append(
        "Each interval holds by itself with 95 %: of twenty figures that are 0 in truth, about one is expected to "
        "leave out 0. They cover the choice of noises and images for this network, not the seeds of training."
    )
    return found


def _finished(record: AnalysisRecord) -> list[str]:
    sentences = []
    for steps in _steps(record, "final_mean_shift"):
        whole = record.quantity(f"final_mean_shift[T={steps}]")
        if whole is None:
            continue
        text = (
            f"In {counted(steps, 'step')}, the finished images' mean pixel differs from the training images' by "
            f"{said(whole)} on the scale of −1 to 1{_verdict(whole)}"
        )
        channels = _channels(record, f"final_mean_shift[T={steps}, {{}}]")
        if channels:
            text += "; by channel: " + ", ".join(
                f"{CHANNEL_WORDS.get(name, name)} {said(one)}" for name, one in channels
            )
        sentences.append(text + ".")
    return sentences


def _same_noise(record: AnalysisRecord) -> list[str]:
    between, longest = record.quantity("image_distance[different noises]"), max(_trajectories(record), default=0)
    sentences = []
    for steps in _steps(record, "image_distance"):
        apart, colour = record.quantity(f"image_distance[T={steps}]"), record.quantity(f"colour_distance[T={steps}]")
        if apart is None or colour is None:
            continue
        sentences.append(
            f"From one noise, the image in {counted(steps, 'step')} and that in {longest:,} lie "
            f"{said(apart, signed=False)} apart (root mean square over pixels), and their mean colours "
            f"{said(colour, signed=False)}."
        )
    if sentences and between is not None:
        sentences.append(f"For comparison, images of different noises lie {said(between, signed=False)} apart.")
    return sentences


def _biases(record: AnalysisRecord) -> list[str]:
    sentences = []
    for bounds in RANGES:
        where = range_name(bounds)
        told: list[str] = []
        quiet: list[str] = []
        for name, words in _KINDS.items():
            found = [
                (CHANNEL_WORDS[channel], figure)
                for channel in ("", "r", "g", "b")
                if (figure := record.quantity(f"{name}{bracket(channel, where)}")) is not None
            ]
            loud = [one for one in found if leaves_out_0(one[1]) and not is_negligible(one[1])]
            if loud:
                told.append(f"{words} {', '.join(f'{channel} {brief(figure)}' for channel, figure in loud)}")
            rest = [one for one in found if one not in loud]
            if rest and not (name == "sampler_shift" and all(is_negligible(figure) for _, figure in rest)):
                quiet.append(f"{words} ({', '.join(channel for channel, _ in rest)}: {_within(rest)})")
        if told or quiet:
            sentence = "; ".join(told) or "no bias of the estimate's colour that can be told from 0"
            more = f". Not distinguishable from 0, or within {NEGLIGIBLE:g} of it: {'; '.join(quiet)}" if quiet else ""
            at = where.replace("log_snr", "log SNR").replace("-", "−")
            sentences.append(f"At {at} (95 % intervals in brackets): {sentence}{more}.")
    return sentences


def _within(figures: list[tuple[str, Quantity]]) -> str:
    """The least and the greatest limit of the figures' intervals."""
    lows, highs = [one.low for _, one in figures], [one.high for _, one in figures]
    known = [end for end in (*lows, *highs) if end is not None]
    return f"{number(min(known))} to {number(max(known))}" if known else "no interval"


def _verdict(figure: Quantity) -> str:
    if figure.low is None:
        return ""
    return "" if leaves_out_0(figure) else ", which is not distinguishable from 0"


def _channels(record: AnalysisRecord, name: str) -> list[tuple[str, Quantity]]:
    found = [(channel, record.quantity(name.format(channel))) for channel in ("r", "g", "b")]
    return [(channel, one) for channel, one in found if one is not None]


def _steps(record: AnalysisRecord, base: str) -> list[int]:
    cases = [case(one.name, base) for one in record.quantities]
    found = {int(one[0].removeprefix("T=")) for one in cases if one and one[0].startswith("T=")}
    return sorted(found)


def _trajectories(record: AnalysisRecord) -> list[int]:
    stated = record.settings["trajectories"]
    return [int(steps) for steps in stated] if isinstance(stated, dict) else []
