"""The part `validation`: which sum of held-out errors ranks runs and checkpoints as the distance of their samples."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import JsonValue

from debiasctl.analysis.book import Arrays, Book
from debiasctl.analysis.parts.part import Choices, Found, Part
from debiasctl.analysis.parts.reasons.figures import short_cases
from debiasctl.analysis.parts.reasons.levels import bin_name
from debiasctl.analysis.parts.validation import findings, pictures
from debiasctl.analysis.parts.validation import points as reading
from debiasctl.analysis.parts.validation.points import Point
from debiasctl.analysis.parts.validation.ranking import (
    DRAWS,
    MIN_RUNS,
    SCOPES,
    Array,
    Points,
    Ranking,
    Scope,
    Tau,
    difference,
)
from debiasctl.analysis.parts.validation.scores import NAMED, bins_in, of_bins, resolved, scores
from debiasctl.analysis.record import AnalysisRecord, Quantity, Series
from debiasctl.analysis.subject import Subject
from debiasctl.diffusion.process import DiffusionProcess
from debiasctl.errors import UsageError
from debiasctl.files import content_key
from debiasctl.reporting.picture import Picture

_WORDS = {
    "all": "over all pairs of points",
    "between": "over pairs of different runs after equally many training images",
    "within": "over pairs of checkpoints of one run",
}
_COVERS = "the interval is a bootstrap over runs, with all checkpoints of each"


class Validation(Part):
    """Kendall's tau-b between sums of stored held-out errors and a stored figure, over runs and checkpoints."""

    name: ClassVar[str] = "validation"
    title: ClassVar[str] = "Does the held-out loss tell?"
    needs_all: ClassVar[bool] = True
    optional: ClassVar[bool] = True

    def settings(self, subject: Subject, others: Sequence[Subject], choices: Choices) -> dict[str, JsonValue]:
        """Read what the runs store, and choose the figure.

        Raises:
            UsageError: if there are too few runs, or their data or schedules differ.
        """
        subjects = [subject, *others]
        _check_alike(subjects)
        found = reading.gather(
            [one.run for one in subjects], [one.spec for one in subjects], metric=choices.metric
        )  # fmt: skip
        _check_enough(subject, found)
        refs = resolved([*NAMED, *choices.counterfactual])
        points = [[one.run, one.step, one.images, one.figure, _errors_key(one)] for one in found.points]
        steps = "" if found.steps is None else f"@{found.steps}"
        return {
            "metric": f"{found.metric}{steps}", "measured": found.conditions, "weightings": list(refs),
            "points": len(points), "points_key": content_key(points), "bootstrap": DRAWS, "seed": choices.seed,
        }  # fmt: skip

    def measure(self, subject: Subject, others: Sequence[Subject], settings: dict[str, JsonValue], book: Book) -> Found:
        """Compute every tau; nothing is measured, and nothing takes long."""
        subjects = [subject, *others]
        found = reading.gather(
            [one.run for one in subjects], [one.spec for one in subjects], metric=str(settings["metric"])
        )  # fmt: skip
        weightings = settings["weightings"]
        assert isinstance(weightings, list), "as settings made them"
        seed = int(str(settings["seed"]))
        return ranked(found.points, subject.process, [str(one) for one in weightings], seed=seed)

    def findings(self, record: AnalysisRecord) -> list[str]:
        """Say which sum ranks best, and whether others can be told from it."""
        return findings.sentences(record)

    def pictures(self, records: Sequence[AnalysisRecord], images: Sequence[Arrays]) -> list[Picture]:
        """Draw the taus and the points."""
        return pictures.of_records(records)


def _check_alike(subjects: Sequence[Subject]) -> None:
    first = subjects[0]
    for one in subjects[1:]:
        if not one.content.same_images(first.content):
            raise UsageError(
                f"runs '{first.run.name}' and '{one.run.name}' are of different images, whose errors cannot be ranked "
                "together. Choose runs of one data set"
            )
        if one.spec.latents_sha256 != first.spec.latents_sha256:
            raise UsageError(
                f"runs '{first.run.name}' and '{one.run.name}' make latents of different autoencoders, or one makes "
                "images, so that their errors have different units. Choose runs of one autoencoder"
            )
        if not _same_levels(one.process, first.process):
            raise UsageError(
                f"runs '{first.run.name}' and '{one.run.name}' have different schedules, so that their bins hold "
                "different noise levels. Choose runs of one schedule"
            )


def _same_levels(one: DiffusionProcess, other: DiffusionProcess) -> bool:
    return one.snr.shape == other.snr.shape and bool((one.snr == other.snr).all())


def _check_enough(subject: Subject, found: reading.Found) -> None:
    runs = {point.run for point in found.points}
    if len(runs) < MIN_RUNS:
        measured = "run" if len(runs) == 1 else "runs"
        raise UsageError(
            f"a rank correlation needs at least {MIN_RUNS} runs with held-out errors and {found.metric} of the same "
            f"checkpoints, and there {'is' if len(runs) == 1 else 'are'} {len(runs)} {measured} with "
            f"{len(found.points)} such point{'s' * (len(found.points) > 1)}: checkpoints of one run are not "
            "independent. Train further seeds or weightings, and measure each: "
            f"debiasctl evaluate {subject.run.typed}"
        )


def _errors_key(point: Point) -> str:
    return content_key([[list(bounds), errors] for bounds, errors in point.errors.items()])


def ranked(found: Sequence[Point], process: DiffusionProcess, refs: Sequence[str], *, seed: int) -> Found:
    """The taus of all sums and of single bins, in every scope that has pairs."""
    runs = {run: number for number, run in enumerate(sorted({one.run for one in found}))}
    points = Points(
        np.array([runs[one.run] for one in found]),
        np.array([one.images for one in found]),
        np.array([one.figure for one in found]),
    )
    bins = bins_in(found)
    names = dict(zip(refs, short_cases(refs), strict=True))
    sums = {names.get(name, name): values for name, values in scores(found, bins, process, refs).items()}
    ranking, alone = Ranking(points, seed=seed), of_bins(found, bins)
    quantities = [
        Quantity(name="runs", value=float(points.num_runs), unit="runs", text="runs with such points"),
        Quantity(name="points", value=float(len(found)), unit="points", text="checkpoints with both figures"),
    ]
    series: list[Series] = []
    compared = {scope: int(points.pairs(scope).sum()) for scope in SCOPES}
    if compared["all"] == compared["between"]:  # one checkpoint a run: they are the same pairs
        del compared["all"]
    for scope, pairs in compared.items():
        taus = {name: tau for name, values in sums.items() if (tau := ranking.tau(values, scope)) is not None}
        if not pairs or not taus:
            continue
        text = f"pairs compared {_WORDS[scope]}"
        quantities.append(Quantity(name=f"pairs[{scope}]", value=float(pairs), unit="pairs", text=text))
        quantities += _quantities(taus, scope)
        series.append(_of_bins(ranking, bins, process, alone, scope))
    series += [
        Series(
            name=f"figure_by[{name}]", axis="heldout_error", x=values.tolist(), value=points.distance.tolist(),
            text=f"the figure of the samples at each point's sum of held-out errors, {name}",
        )
        for name, values in sums.items()
    ]  # fmt: skip
    series.append(
        Series(
            name="points", axis="point", x=[float(number) for number in range(len(found))],
            value=[float(one.run) for one in found], unit="run",
            text="the run of each point, counted from 0, in the order of the series figure_by",
        )
    )  # fmt: skip
    between = sum(one.interpolated for one in found)
    notes = []
    if between:
        notes.append(
            f"the held-out errors of {between} of {len(found)} points are interpolated between the measurements before "
            "and after them"
        )
    return Found(quantities, series, notes=notes)


def _quantities(taus: dict[str, Tau], scope: Scope) -> list[Quantity]:
    found = []
    for name, tau in taus.items():
        text = f"Kendall's tau-b of the held-out error {name} and the figure of the samples, {_WORDS[scope]}"
        found.append(_quantity(f"tau[{scope},{name}]", tau.value, tau.low, tau.high, text))
    leader = max(taus, key=lambda name: taus[name].value)
    for name, tau in taus.items():
        apart = None if name == leader else difference(taus[leader], tau)
        if apart is not None:
            text = f"tau of {leader}, the highest, less that of {name}, {_WORDS[scope]}; draws are paired"
            found.append(_quantity(f"tau_lead[{scope},{name}]", *apart, text))
    return found


def _quantity(name: str, value: float, low: float | None, high: float | None, text: str) -> Quantity:
    if low is None or high is None:
        return Quantity(name=name, value=value, text=text)
    return Quantity(name=name, value=value, low=low, high=high, text=f"{text}; {_COVERS}")


def _of_bins(
    ranking: Ranking, bins: Sequence[reading.Bounds], process: DiffusionProcess, errors: Array, scope: Scope
) -> Series:  # fmt: skip
    taus = [ranking.tau(errors[:, number], scope) for number in range(len(bins))]
    names = ", ".join(bin_name(bounds) for bounds in bins)
    return Series(
        name=f"tau_of_bin[{scope}]", axis="log_snr", x=[_centre(bounds, process) for bounds in bins],
        value=[None if tau is None else tau.value for tau in taus],
        low=[None if tau is None else tau.low for tau in taus],
        high=[None if tau is None else tau.high for tau in taus],
        text=f"tau-b of the error of v in a single bin of log SNR ({names}) and the figure, {_WORDS[scope]}",
    )  # fmt: skip


def _centre(bounds: reading.Bounds, process: DiffusionProcess) -> float:
    low, high = (-np.inf if bounds[0] is None else bounds[0]), (np.inf if bounds[1] is None else bounds[1])
    inside = process.log_snr[(process.log_snr >= low) & (process.log_snr < high)]
    finite = inside[inside.isfinite()]
    return float(finite.mean()) if len(finite) else float(bounds[1] or 0.0)
