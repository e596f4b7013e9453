"""Sentences: what a verdict rests on, and why there is none."""

from debiasctl.comparison.contrasts import Contrast
from debiasctl.comparison.statistics.estimates import LEVEL
from debiasctl.comparison.statistics.nearness import Nearness


def evidence(
    contrast: Contrast, *, p: float | None, corrected: float | None, comparisons: int, looking: bool = False
) -> str:
    """One sentence: the means, the seeds, the test and what was found."""
    if contrast.means is None:
        return f"No figures of {contrast.arm} and {contrast.reference} are compared here."
    arm, reference = contrast.means
    own, base = contrast.num
    means = f"{contrast.arm} has {arm:.4g} and {contrast.reference} {reference:.4g}"
    if contrast.blocked == "one seed":
        often = contrast.by_seeds
        chance = "" if often is None else f"; by the spread of arms with more, seeds alone do as much in {often:.0%}"
        return f"{means}, from {_seeds(own)} and {_seeds(base)}{chance}."
    if contrast.method == "paired t":
        means += f" in the mean of {_seeds(own)} that both have"
    else:
        means += f" in the mean of {_seeds(own)} each" if own == base else f" in the mean of {own} and {base} seeds"
    if contrast.blocked == "equal pairs":
        return f"{means}: the figures of each seed are equal in both."
    if contrast.found is None or p is None:
        return f"{means}."
    part = contrast.found.difference if isinstance(contrast.found, Nearness) else contrast.found
    over = f" over {contrast.arms} arms" if contrast.method != "paired t" and contrast.arms > 2 else ""
    test = f"p {_p(p)} by {contrast.method}{over} with {part.freedom:.3g} degrees of freedom"
    if contrast.method == "borrowed":
        shrunk = f"pooled{over} and shrunk over metrics"
        test = f"p {_p(p)} by a t test whose variance is {shrunk}, with {part.freedom:.3g} degrees of freedom"
    if corrected is not None and (comparisons > 1 or looking):
        many = [f"{comparisons} comparisons"] * (comparisons > 1) + ["looks while seeds are added"] * looking
        test += f", {_p(corrected)} when corrected for {' and '.join(many)}"
    if contrast.correlation is not None:
        test += f"; over the seeds that both have, the figures correlate by {contrast.correlation:.2f}"
    return f"{means}: {test}."


def undecided(
    contrast: Contrast,
    *,
    interval: tuple[float, float] | None,
    margin: float | None,
    corrected: float | None,
    primary: str | None,
) -> str | None:
    """Why a verdict is inconclusive; `primary` names the primary figure if it is another and undecided for this arm."""
    if contrast.reason is not None or interval is None:
        return contrast.reason
    low, high = interval
    if low > 0 or high < 0:
        if primary is not None:
            return f"the interval leaves out 0, but the primary figure, {primary}, is not decided for this arm"
        if corrected is not None and corrected > LEVEL:
            return "the interval leaves out 0, but no longer when corrected for the number of comparisons"
    if margin is None:
        above = contrast.means is not None and (contrast.means[1] > 0 or contrast.better == "zero")
        why = (
            "none was asked for" if above else "the reference's figure, a fraction of which it would be, is not above 0"
        )
        return f"the interval holds 0, and there is no margin within which arms are equivalent: {why}"
    if -margin <= low and high <= margin:
        return "the interval lies within the margin, but no longer when corrected for the number of comparisons"
    return f"the interval holds 0 and reaches beyond the margin of {margin:.3g}"


def _seeds(number: int) -> str:
    return "1 seed" if number == 1 else f"{number} seeds"


def _p(value: float) -> str:
    return f"{value:.2g}" if value >= 1e-4 else "below 0.0001"
