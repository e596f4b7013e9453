"""Measuring a set of images against a data set: figures, the same figures for real images, and notes on both."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from debiasctl.api import DatasetInfo, LoadedDataset, MetricNames, PreparedFeatures, Split
from debiasctl.errors import EvaluationError
from debiasctl.evaluation.extraction import BATCH_SIZE, EXTRAS, FEATURES, HASHES, PIXELS, Shape
from debiasctl.evaluation.figures import Outcome, Real, figures, real_images, refusals
from debiasctl.evaluation.identity import num_copies, num_shared
from debiasctl.evaluation.metrics.catalogue import (
    Metric,
    available_metrics,
    check_metrics,
    pixel_names,
)
from debiasctl.evaluation.notes import notes
from debiasctl.evaluation.observed import Observed, observe
from debiasctl.evaluation.record import (
    Against,
    Extrapolated,
    Findings,
    Identical,
    KeptInterval,
    KeptJackknife,
    MetricFigure,
)
from debiasctl.evaluation.reference.real import MAX_IMAGES, RealImages, RealRows
from debiasctl.evaluation.suggestions import features_where
from debiasctl.evaluation.uncertainty.intervals import (
    METHOD,
    SHARE_METHOD,
    Jackknife,
    jackknife_interval,
    refusal,
    share_interval,
)

OnProgress = Callable[[str, float, int], None]


@dataclass(frozen=True)
class Seen:
    """The extracted features and statistics of a set of images and of the real ones."""

    observed: Observed
    real: RealRows


@dataclass(frozen=True)
class Measurement:
    """A measurement of `metrics` (see `check_metrics`) against a data set, in features with metrics called `names`.

    Images are first seen, by one process or (`shared`) by all processes of a group together, and then measured.
    `on_progress(what, done, all)` counts the images read.
    """

    data: LoadedDataset
    features: PreparedFeatures
    names: MetricNames
    metrics: Sequence[str]
    cache_dir: Path
    any_size: bool = False  # whether the features accept other sizes than the data set's
    batch_size: int = BATCH_SIZE
    max_reference: int = MAX_IMAGES
    shared: bool = False
    on_progress: OnProgress | None = None

    def see(self, images: Split) -> Seen | None:
        """Read the images, and the real ones if they are not cached; return None if another process gets the rows.

        Raises:
            EvaluationError: if metrics have names that only verified features may have, the images do not fit the data
                set (see `check_fit`), or `observe` raises it.
        """
        names = self.names
        if names != MetricNames.of(names.features) and not self.features.verified:
            raise EvaluationError(
                f"features '{names.features}' do not come from verified weights, so their figures are no "
                f"{names.frechet.upper()}"
            )
        parts = self._parts()
        observed = observe(
            images,
            self.features,
            parts,
            batch_size=self.batch_size,
            check_shape=partial(
                check_fit,
                info=self.data.info,
                any_size=self.any_size,
                feature_name=self.names.features,
            ),
            shared=self.shared,
            on_progress=self._showing("measuring"),
        )
        real = self.real().rows(parts, shared=self.shared)
        return None if observed is None else Seen(observed, real)

    def figures(self, seen: Seen, *, asked_for: Sequence[str] = ()) -> Findings:
        """Compute every metric of the images seen, as `measure` returns them.

        Raises:
            EvaluationError: if a metric in `asked_for` is not available for these images, features or reference.
        """
        observed, names = seen.observed, self.names
        real = real_images(self.real(), seen.real, self.metrics, names)
        refused = refusals(observed, real, self.metrics, names)
        _check_refused(asked_for, refused)
        outcomes = figures(observed, real, [one for one in self.metrics if one not in refused], names)
        floors, matched, floor_num = _floors(observed, outcomes, real, names)
        described = available_metrics(self.data.info, names)
        measured = {
            name: _figure(
                outcome,
                described[name],
                floor=floors.get(name),
                floor_num=floor_num,
                value_at_floor_num=matched.get(name),
            )
            for name, outcome in outcomes.items()
        }
        identical = _identical(observed, seen.real)
        return Findings(
            metrics=measured,
            unavailable=refused,
            reference=self._described(real),
            notes=notes(observed, real, measured, names, floor_num=floor_num, identical=identical),
            identical=identical,
        )

    def real(self) -> RealImages:
        """The real images that are measured against."""
        return RealImages(
            self.data,
            self.features,
            cache_dir=self.cache_dir,
            max_images=self.max_reference,
            batch_size=self.batch_size,
            on_progress=self._showing("measuring real images"),
        )

    def _showing(self, what: str) -> Callable[[float, int], None] | None:
        return None if self.on_progress is None else partial(self.on_progress, what)

    def _parts(self) -> list[str]:
        """The parts that have to be extracted from each image."""
        wanted = dict(zip(EXTRAS, (self.names.score, self.names.spatial), strict=True))
        extras = [part for part, name in wanted.items() if name in self.metrics and part in self.features.offers]
        pixels = _any_of(pixel_names(self.data.info.channels), self.metrics)
        return [FEATURES, HASHES, *extras, *([PIXELS] if pixels else [])]

    def _described(self, real: Real) -> Against:
        return Against(
            split="train",
            num=None if real.reference.features is None else len(real.reference.features),
            floor_split="heldout",
            dataset_hash=self.data.content_hash,
            feature_name=self.names.features,
            features=self.features.identity,
            feature_dimension=self.features.dimension,
            feature_details=dict(self.features.details),
        )


def measure(
    images: Split,
    data: LoadedDataset,
    features: PreparedFeatures,
    *,
    names: MetricNames,
    metrics: Sequence[str] | None,
    cache_dir: Path,
    any_size: bool = False,
    batch_size: int = BATCH_SIZE,
    max_reference: int = MAX_IMAGES,
) -> Findings:
    """Measure every metric of `images` against the training images.

    A Fréchet distance of N images is biased upwards, the more the smaller N is. Each figure therefore comes with its
    `floor`, the same figure for `floor_num` real held-out images: N of them, evenly spread, if there are that many;
    otherwise all of them, and then `value_at_floor_num` is the figure of `floor_num` of `images`, drawn at random.
    `floor` is None if fewer than 2 images are held out. `corrected` is free of the bias in 1/N, and `interval` is for
    the figure that infinitely many such images would have against the same reference; if it is None, `interval_reason`
    says why. Figures do not depend on `batch_size` if the extractor's features do not (those of the built-in extractors
    do not).

    Raises:
        UsageError: if a metric is unknown; see `check_metrics`.
        EvaluationError: if `Measurement.see` or `Measurement.figures` raises it.
    """
    wanted = check_metrics(metrics, data.info, names)
    measurement = Measurement(
        data,
        features,
        names,
        wanted,
        cache_dir,
        any_size=any_size,
        batch_size=batch_size,
        max_reference=max_reference,
    )
    seen = measurement.see(images)
    assert seen is not None, "a single process gets the rows"
    return measurement.figures(seen, asked_for=metrics or ())


def _identical(observed: Observed, real: RealRows) -> Identical | None:
    """How many images are the same, pixel for pixel, as others among them and as the real ones."""
    hashes = observed.hashes
    if hashes is None:
        return None
    return Identical(
        copies=num_copies(hashes),
        reference=num_shared(hashes, real.train[HASHES]) if HASHES in real.train else None,
        heldout=num_shared(hashes, real.heldout[HASHES]) if HASHES in real.heldout else None,
    )


def _floors(
    observed: Observed, outcomes: Mapping[str, Outcome], real: Real, names: MetricNames
) -> tuple[dict[str, float], dict[str, float], int]:
    """The figures of real held-out images, those of equally many of the images, and that number."""
    if real.heldout is None or len(real.heldout) < 2:
        return {}, {}, 0
    fresh = real.heldout.some(len(observed))
    values = _values(figures(fresh, real, outcomes, names))
    if len(fresh) == len(observed):
        return values, _values(outcomes), len(fresh)
    first = observed.take(observed.division.subset(len(fresh)))
    return values, _values(figures(first, real, outcomes, names)), len(fresh)


def _values(outcomes: Mapping[str, Outcome]) -> dict[str, float]:
    return {name: outcome.value for name, outcome in outcomes.items()}


def _figure(
    outcome: Outcome, metric: Metric, *, floor: float | None, floor_num: int, value_at_floor_num: float | None
) -> MetricFigure:
    """Make a metric's figure with its interval, or with the reason why it has none."""
    reason = outcome.reason if outcome.jackknife is None else refusal(outcome.num, outcome.dimension)
    corrected, interval = None, None
    if outcome.jackknife is not None and reason is None:
        corrected, interval = _interval(outcome, outcome.jackknife())
    figure = MetricFigure(
        value=outcome.value,
        num=outcome.num,
        corrected=corrected,
        interval=interval,
        interval_reason=reason,
        floor=floor,
        floor_num=floor_num,
        value_at_floor_num=value_at_floor_num,
        better=metric.better,
        description=metric.description,
    )
    if outcome.extrapolate is not None:
        fit = outcome.extrapolate()
        extrapolated = None if isinstance(fit, str) else Extrapolated(**vars(fit))
        reason = fit if isinstance(fit, str) else None
        figure = figure.model_copy(update={"extrapolated": extrapolated, "extrapolated_reason": reason})
    return figure if outcome.curve is None else figure.model_copy(update={"curve": outcome.curve})


def _interval(outcome: Outcome, found: Jackknife) -> tuple[float, KeptInterval]:
    """The corrected figure and its interval, with the values that the interval of a difference needs."""
    if outcome.successes is None:
        interval, method = jackknife_interval(found), METHOD
    else:
        interval, method = share_interval(outcome.successes, outcome.num), SHARE_METHOD
    kept = KeptJackknife(pseudo_values=found.pseudo_values, interactions=found.interactions)
    return interval.estimate, KeptInterval(
        low=interval.low, high=interval.high, level=interval.level, method=method, jackknife=kept
    )


def check_fit(shape: Shape, info: DatasetInfo, *, any_size: bool, feature_name: str) -> None:
    """Check that images have the reference's channels and, if the features accept only one size, its size.

    Raises:
        EvaluationError: if they do not fit.
    """
    channels, height, width = shape
    if channels != info.channels:
        kinds = {1: "grey", 3: "RGB"}
        given, real = (kinds.get(count, f"of {count} channels") for count in (channels, info.channels))
        raise EvaluationError(
            f"the images are {given} and the reference's {real}: they cannot be measured against one another. "
            "Convert the images to the reference's colours first"
        )
    if (height, width) != (info.image_size, info.image_size) and not any_size:
        given = f"{height} pixels a side" if height == width else f"{height}x{width} pixels"
        raise EvaluationError(
            f"the images have {given} and the reference's {info.image_size}: features '{feature_name}' do not resize. "
            f"Resize the images to the reference's size, or use {features_where(lambda plugin: plugin.any_size)}"
        )


def _any_of(some: Sequence[str], names: Sequence[str]) -> bool:
    return any(name in names for name in some)


def _check_refused(metrics: Sequence[str] | None, refused: Mapping[str, str]) -> None:
    named = [f"'{name}': {refused[name]}" for name in metrics or () if name in refused]
    if named:
        raise EvaluationError(f"these images cannot be measured by {'; '.join(named)}. Leave that out of `metrics`")
