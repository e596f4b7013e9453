"""The answer of a study in one plain sentence."""

from collections.abc import Sequence

from debiasctl.comparison.observations import ArmData
from debiasctl.comparison.seed_variance import percent
from debiasctl.comparison.study_record import StudyCell, VerdictRecord

_MOST = 3  # arms that are named for each word
_MOST_FIGURES = 4  # of one seed each
_WORDS = {
    "better": "better than",
    "worse": "worse than",
    "equivalent": "equivalent to",
    "inconclusive": "not distinguishable from",
}


def answer_of(
    arms: Sequence[ArmData],
    cells: Sequence[StudyCell],
    verdicts: Sequence[VerdictRecord],
    *,
    primary: str,
    reference: str,
) -> str:
    """What the primary metric says of every arm against the reference."""
    cell = next(cell for cell in cells if cell.key == primary)
    what = metric_text(cell)
    if len(arms) == 1:
        (figures,) = cell.arms
        spread = "" if figures.sd is None else f" with a standard deviation of {figures.sd:.2g} over seeds"
        return (
            f"There is one arm, '{arms[0].name}', of {_seeds(len(figures.figures))}, whose {what} is "
            f"{figures.mean:.4g}{spread}; a verdict needs a second arm."
        )
    found = [one for one in verdicts if one.cell == primary]
    if all(max(one.num) < 2 for one in found):
        return (
            f"With one training seed an arm, nothing can be said about {_subject(arms)}: "
            f"{_figures(cell, [reference, *(one.arm for one in found)])} in {what}, which another seed may reverse"
            f"{_alone(found)}."
        )
    if len(found) == 1:
        return _one(found[0], cell, what)
    parts = [
        _part(word, [one for one in found if one.word == word], reference)
        for word in dict.fromkeys(o.word for o in found)
    ]
    return f"In {what}, {'; '.join(parts)}."


def _alone(found: Sequence[VerdictRecord]) -> str:
    known = [one for one in found if one.seeds_alone is not None]
    if not known:
        return ""
    said = [
        f"{percent(one.seeds_alone)}{f' ({one.arm})' if len(known) > 1 else ''}"
        for one in known[:_MOST]
        if one.seeds_alone is not None
    ]
    return f"; on this data set, seeds alone do as much in {_listed(said)} of cases"


def _one(verdict: VerdictRecord, cell: StudyCell, what: str) -> str:
    evidence = f"{_figures(cell, [verdict.arm, verdict.reference])}, {_counts(verdict)}"
    if verdict.word in _WORDS:
        limits = more = ""
        if verdict.low is None and verdict.reason is not None:
            limits = f"; {verdict.reason}"
        elif verdict.low is not None:
            limits = f"; difference {verdict.difference:+.3g}, 95 % {verdict.low:+.3g} to {verdict.high:+.3g}"
        if verdict.word == "inconclusive" and verdict.seeds_more:
            more = f"; about {verdict.seeds_more} more seeds an arm would settle a difference of this size"
        return f"'{verdict.arm}' is {_WORDS[verdict.word]} '{verdict.reference}' in {what} ({evidence}{limits}{more})."
    between = f"'{verdict.arm}' against '{verdict.reference}'"
    if verdict.word == "one seed":
        return f"With one seed in an arm, nothing can be said about {between} in {what}: {verdict.evidence}"
    return f"There is no verdict on {between} in {what}: {verdict.reason}."


def _part(word: str, found: Sequence[VerdictRecord], reference: str) -> str:
    """What one verdict says of several arms; of many they are counted, and the first are named."""
    verb = "is" if len(found) == 1 else "are"
    if word in _WORDS:
        judged = _listed([f"'{one.arm}' ({_brief(one)})" for one in found])
        return f"{judged} {verb} {_WORDS[word]} '{reference}'"
    names = _listed([f"'{one.arm}'" for one in found])
    if word == "one seed":
        return f"nothing can be said about {names}, with one seed"
    return f"there is no verdict on {names} ({found[0].reason})"


def _listed(names: Sequence[str]) -> str:
    shown = list(names[:_MOST])
    rest = len(names) - len(shown)
    *first, last = [*shown, f"{rest} other arms" if rest > 1 else "another arm"] if rest else shown
    return f"{', '.join(first)} and {last}" if first else last


def _brief(verdict: VerdictRecord) -> str:
    if verdict.ratio is not None and verdict.ratio_low is not None and verdict.ratio_high is not None:
        return f"× {verdict.ratio:.3g}, 95 % {verdict.ratio_low:.3g} to {verdict.ratio_high:.3g}"
    if verdict.low is None or verdict.high is None:
        return f"{verdict.difference:+.3g}, without an interval"
    return f"{verdict.difference:+.3g}, 95 % {verdict.low:+.3g} to {verdict.high:+.3g}"


def metric_text(cell: StudyCell) -> str:
    """`fd_local at 50 steps`, or `fd_local (corrected) at 50 steps` where figures are free of the bias in 1/N."""
    name = f"{cell.metric} (corrected)" if cell.figure == "corrected" else cell.metric
    return name if cell.steps is None else f"{name} at {cell.steps} steps"


def _figures(cell: StudyCell, names: Sequence[str]) -> str:
    """Every arm's figure; of many arms the least and the largest."""
    means = {one.arm: one.mean for one in cell.arms if one.arm in names and one.mean is not None}
    if len(means) > _MOST_FIGURES:
        low, high = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
        return f"from {means[low]:.4g} ('{low}') to {means[high]:.4g} ('{high}')"
    return " against ".join(f"{name} {means[name]:.4g}" for name in names if name in means)


def _counts(verdict: VerdictRecord) -> str:
    first, second = verdict.num
    return f"{_seeds(first)} each" if first == second else f"{first} and {_seeds(second)}"


def _seeds(number: int) -> str:
    return f"{number} seed{'' if number == 1 else 's'}"


def _subject(arms: Sequence[ArmData]) -> str:
    fields = list(arms[0].settings)
    return "the weighting" if fields == ["loss.weighting"] else "what differs between the arms"
