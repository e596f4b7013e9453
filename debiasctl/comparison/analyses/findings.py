"""What an analysis found, in sentences: a run's own by its part, and between arms what training seeds can tell."""

from collections.abc import Sequence

from debiasctl.comparison.analyses.means import LEVEL, Difference, Figure, differences_of, p_value, told_apart
from debiasctl.comparison.analyses.results import Entry, PartResult
from debiasctl.comparison.words import figure_text, interval_text

_MOST = 5  # differences in one sentence


def findings_between(result: PartResult) -> list[str]:
    """What can be told of the differences between a part's arms, or that it cannot be told."""
    return [_sentence(one) for one in differences_of(result)]


def _sentence(found: Difference) -> str:
    pair, num = f"'{found.arm}' against '{found.reference}'", len(found.seeds)
    if num < 2:
        return (
            f"{pair}: there is one training seed of both, so that it cannot be told whether another seed would show "
            "these differences."
        )
    figures = [one for one in found.figures if p_value(one) is not None]
    clear = told_apart(figures)
    over = f"over {num} training seeds (paired, corrected for {len(figures)} figures)"
    if not clear:
        return f"{pair}: no figure can be told apart {over}.{_alone(figures)}"
    said = "; ".join(_difference(one) for one in clear[:_MOST])
    more = f"; and {len(clear) - _MOST} more" if len(clear) > _MOST else ""
    return f"{pair}: {len(clear)} of {len(figures)} figures differ {over}: {said}{more}."


def _alone(figures: Sequence[Figure]) -> str:
    """Which differences leave out 0 by their own intervals, of which there are some by chance alone."""
    of_all = [(p, one) for one in figures if (p := p_value(one)) is not None and p < LEVEL]
    found = sorted(of_all, key=lambda one: one[0])
    if not found:
        return ""
    said = "; ".join(_difference(one) for _, one in found[:_MOST])
    chance = f"{LEVEL * len(figures):.2g}"
    return (
        f" By their own intervals {len(found)} would, of which {chance} {'is' if chance == '1' else 'are'} expected by "
        f"chance: {said}."
    )


def _difference(one: Figure) -> str:
    interval = interval_text(one.low, one.high, signed=True)
    return f"{one.name} {figure_text(one.value, digits=3, signed=True)} ({interval})"


def findings_of(result: PartResult, *, everything: bool = False) -> list[tuple[str, list[str]]]:
    """A part's findings by run: of the first seed of each arm, or with `everything` of all runs."""
    shown = result.entries if everything else result.firsts
    return [(run_text(entry), result.findings(entry)) for entry in shown]


def run_text(entry: Entry) -> str:
    """A record's run, and the other where there is one."""
    others = [one.run for one in entry.record.others]
    name = entry.record.network.run
    return name if not others else f"{name} with {others[0]}" if len(others) == 1 else f"{name} and {len(others)} more"


def answer_of(parts: Sequence[PartResult]) -> str:
    """What an analysis found in a sentence: how many figures tell arms apart, or the first finding of a single one."""
    apart: dict[tuple[str, str], list[tuple[str, Difference]]] = {}
    for result in parts:
        for one in differences_of(result):
            apart.setdefault((one.arm, one.reference), []).append((result.part.name, one))
    if apart:
        return " ".join(_counted(*pair, found) for pair, found in apart.items())
    said = [text for result in parts for _, texts in findings_of(result) for text in texts]
    return said[0] if said else "Nothing was found that has words."


def _counted(arm: str, reference: str, found: Sequence[tuple[str, Difference]]) -> str:
    """In how many figures of each part an arm differs."""
    seeds = min(len(one.seeds) for _, one in found)
    if seeds < 2:
        return (
            f"'{arm}' and '{reference}' share one training seed: their figures stand side by side, and whether another "
            "seed would show the same cannot be told."
        )
    counts = [(name, len(told_apart(one.figures)), len(one.figures)) for name, one in found]
    if not any(count for _, count, _ in counts):
        total = sum(of for *_, of in counts)
        return (
            f"Over {seeds} training seeds, '{arm}' cannot be told apart from '{reference}' in any of {total} figures."
        )
    said = ", ".join(f"in {count or 'none'} of {of} figures of {name}" for name, count, of in counts)
    return f"Over {seeds} training seeds, '{arm}' differs from '{reference}' {said}."
