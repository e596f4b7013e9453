"""Measuring a set of images against a data set: figures, the same figures for real images, and notes on both."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from debiasctl.api import DatasetInfo, LoadedDataset, MetricNames, PreparedFeatures, Split
from debiasctl.errors import EvaluationError
from debiasctl.evaluation import copies
from debiasctl.evaluation.extraction import BATCH_SIZE, EXTRAS, FEATURES, HASHES, PIXELS, Shape
from debiasctl.evaluation.figures import Real, figures, real_images, refusals
from debiasctl.evaluation.floors import Floor, floors
from debiasctl.evaluation.identity import num_copies, num_shared
from debiasctl.evaluation.metrics.catalogue import (
    NEAREST,
    Metric,
    available_metrics,
    check_metrics,
    pixel_names,
)
from debiasctl.evaluation.notes import notes
from debiasctl.evaluation.observed import Observed, observe
from debiasctl.evaluation.outcome import Outcome
from debiasctl.evaluation.record import (
    Against,
    Extrapolated,
    Findings,
    Identical,
    KeptInterval,
    KeptJackknife,
    MetricFigure,
    Range,
)
from debiasctl.evaluation.reference.real import MAX_IMAGES, RealImages, RealRows
from debiasctl.evaluation.suggestions import features_where
from debiasctl.evaluation.uncertainty.intervals import METHOD, jackknife_interval, refusal, squared_interval
from debiasctl.evaluation.uncertainty.shares import SHARE_METHOD, packed, reaching, share_interval
from debiasctl.evaluation.uncertainty.squared_length import LENGTH_METHOD

OnProgress = Callable[[str, float, int], None]
_COPIES = 0.01  # the share of images that are the reference's own from which a kernel distance has no interval


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
        of_real, floor_num = floors(observed, outcomes, real, names)
        described = available_metrics(self.data.info, names)
        measured = {
            name: _figure(name, outcome, described[name], of_real.get(name), floor_num=floor_num)
            for name, outcome in outcomes.items()
        }
        identical = _identical(observed, seen.real)
        if names.kernel in measured and identical is not None and identical.reference:
            measured[names.kernel] = _beside_copies(measured[names.kernel], identical.reference)
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


def _beside_copies(figure: MetricFigure, copies: int) -> MetricFigure:
    """A kernel distance without its interval where one image in a hundred or more is the reference's own.

    Where 5 % were, differences were covered in 90 % of simulations.
    """
    if figure.interval is None or copies < _COPIES * figure.num:
        return figure
    reason = f"{copies} of the {figure.num} images are the reference's own, and an interval needs independent ones"
    return figure.model_copy(update={"interval": None, "interval_reason": reason})


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


def _figure(name: str, outcome: Outcome, metric: Metric, floor: Floor | None, *, floor_num: int) -> MetricFigure:
    """Make a metric's figure with its interval, or with the reason why it has none."""
    corrected, interval, reason = interval_of(outcome)
    figure = MetricFigure(
        value=outcome.value,
        num=outcome.num,
        corrected=corrected,
        interval=interval,
        interval_reason=reason,
        floor=None if floor is None else floor.outcome.value,
        floor_num=floor_num if floor is None else floor.num,
        value_at_floor_num=None if floor is None else floor.matched,
        better=metric.better,
        description=metric.description,
    )
    more: dict[str, Any] = {}
    if floor is not None:
        floor_corrected, floor_interval, _ = interval_of(floor.outcome)
        if floor_interval is not None:
            more["floor_corrected"] = floor_corrected
            more["floor_interval"] = Range(low=floor_interval.low, high=floor_interval.high, level=floor_interval.level)
    if name in NEAREST:
        more["floor_reason"] = None
    if floor is None and name in NEAREST and floor_num:
        more["floor_num"] = 0
        more["floor_reason"] = (
            f"its floor is of one half of the held-out images beside the other, and needs {2 * copies.MIN_HELDOUT}"
        )
    if outcome.expected is not None:
        more["expected"] = outcome.expected
    if outcome.by_class:
        more["by_class"] = True
    if outcome.extrapolate is not None:
        fit = outcome.extrapolate()
        more["extrapolated"] = None if isinstance(fit, str) else Extrapolated(**vars(fit))
        more["extrapolated_reason"] = fit if isinstance(fit, str) else None
    if outcome.curve is not None:
        more["curve"] = outcome.curve
    return figure.model_copy(update=more)


def interval_of(outcome: Outcome) -> tuple[float | None, KeptInterval | None, str | None]:
    """The corrected figure, its interval with what the interval of a difference needs, and the reason for none."""
    if outcome.jackknife is None:
        return None, None, outcome.reason
    reason = refusal(outcome.num, outcome.dimension)
    if reason is not None:
        return None, None, reason
    found = outcome.jackknife()
    kept: dict[str, Any] = {
        "jackknife": KeptJackknife(pseudo_values=found.pseudo_values, interactions=found.interactions)
    }
    if outcome.effect:
        kept["effect"] = outcome.effect
    if outcome.ones is not None:
        interval, method = share_interval(int(outcome.ones.sum()), outcome.num), SHARE_METHOD
        kept["ones"] = packed(outcome.ones.tolist())
        if outcome.reach is not None:
            interval = reaching(interval, outcome.num, *outcome.reach)
            kept["reach"] = list(outcome.reach)
    elif outcome.squared:
        interval, method = squared_interval(found, outcome.value), METHOD
    else:
        interval, method = jackknife_interval(found, effect=outcome.effect), METHOD
    limits = None if outcome.limits is None else outcome.limits(interval.estimate)
    if limits is not None:  # near 0 they need not hold the estimate
        low, high = min(limits[0], interval.estimate), max(limits[1], interval.estimate)
        interval, method = replace(interval, low=low, high=high), LENGTH_METHOD
    kept |= {"low": interval.low, "high": interval.high, "level": interval.level, "method": method}
    return interval.estimate, KeptInterval(**kept), None


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
