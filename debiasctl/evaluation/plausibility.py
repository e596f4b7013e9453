"""Warnings of figures that must not be read as quality: of images far from real ones, or of real ones themselves."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from debiasctl.evaluation.record import EvaluationRecord, Identical, MetricFigure

_ALMOST_NONE = 0.05  # of recall and coverage
_SOME = 0.25  # of real images' recall and coverage, below which few images or dimensions are the reason
_OVER = {"precision": 0.05, "density": 0.25}  # above real images' own figure
_ERRORS = 4  # standard errors of the difference of the two shares, for precision
_TIMES = 20  # a distance over its floor


@dataclass(frozen=True)
class Warned:
    """A warning of one set of images in parts: `what` and `advice` are the same for all sets, `details` this one's."""

    what: str
    details: str
    advice: str

    def __str__(self) -> str:
        return f"{self.what}: {self.details}. {self.advice}"


def implausible(metrics: Mapping[str, MetricFigure]) -> list[Warned]:
    """The reasons why these images are not near the real ones, as one warning; empty if there are none."""
    reasons = list(_reasons(metrics))
    if not reasons:
        return []
    return [
        Warned(
            "these images are not near working samples",
            "; ".join(reasons),
            "Do not read such figures as quality, nor the difference of two such sets as one of quality: look at the "
            "images",
        )
    ]


def _reasons(metrics: Mapping[str, MetricFigure]) -> Iterator[str]:
    for name in ("recall", "coverage"):
        found = _with_floor(metrics, name)
        if found is not None and found[0] < _ALMOST_NONE and found[1] > _SOME:
            yield f"{name} is {found[0]:.2g} (real images: {found[1]:.2g}), so they leave out almost all of the data"
    above = [name for name in ("precision", "density") if _above(metrics, name)]
    if above:
        figures = " and ".join(
            f"{name} {found[0]:.2g} (real images: {found[1]:.2g})"
            for name in above
            if (found := _with_floor(metrics, name)) is not None
        )
        yield (
            f"{figures}: they lie closer to the middle of the data than real images do, as averaged, blurred, grey or "
            "repeated images lie"
        )
    for name, figure in metrics.items():
        found = _with_floor(metrics, name) if _is_frechet(figure) else None
        if found is not None and found[1] > 0 and found[0] > _TIMES * found[1]:
            yield f"{name} {found[0]:.4g} is {found[0] / found[1]:.0f} times that of real images, {found[1]:.4g}"


def _with_floor(metrics: Mapping[str, MetricFigure], name: str) -> tuple[float, float] | None:
    """A figure and its floor, for equally many images; None if one of them is unknown."""
    figure = metrics.get(name)
    if figure is None or figure.floor is None or figure.value_at_floor_num is None:
        return None
    return figure.value_at_floor_num, figure.floor


def _above(metrics: Mapping[str, MetricFigure], name: str) -> bool:
    """Whether precision or density is clearly above that of real images."""
    found = _with_floor(metrics, name)
    if found is None:
        return False
    value, floor = found
    variance = sum(share * max(1 - share, 0) for share in found) / metrics[name].floor_num
    return value > floor + max(_OVER[name], _ERRORS * variance**0.5 if name == "precision" else 0.0)


def _is_frechet(figure: MetricFigure) -> bool:
    return figure.extrapolated is not None or figure.extrapolated_reason is not None


def of_the_reference(identical: Identical | None, num: int) -> list[Warned]:
    """The warning of images that are the reference's own; empty if none is."""
    if identical is None or not identical.reference:
        return []
    return [
        Warned(
            "images are identical, pixel for pixel, to images of the reference",
            f"{identical.reference} of the {num}",
            "To that extent no figure here is one of new images. Distances are too low (a kernel distance then falls "
            "below 0), precision and density are too high, and intervals do not hold",
        )
    ]


def warnings(record: EvaluationRecord) -> list[Warned]:
    """The warnings of a record without which its figures mislead."""
    return [*of_the_reference(record.identical, record.measured.num), *implausible(record.metrics)]


def together(found: Sequence[tuple[str, Sequence[Warned]]]) -> list[str]:
    """The warnings of several runs, given with the runs' names: each is said once and names its runs."""
    said = []
    for what, advice in dict.fromkeys((one.what, one.advice) for _, of_run in found for one in of_run):
        details = {(name, one.details): None for name, of_run in found for one in of_run if one.what == what}
        names = list(dict.fromkeys(name for name, _ in details))
        name, first = next(iter(details))
        if len(details) > 1:
            first = f"in {len(details)} measurements, the first of '{name}' ({first})"
        said.append(f"run{'s' if len(names) > 1 else ''} {', '.join(map(repr, names))}: {Warned(what, first, advice)}")
    return said
