"""The figures of the colour doctor: the shift, and what each intervention leaves and takes away of it."""

from collections.abc import Sequence

import numpy as np

from debiasctl.analysis.book import Arrays
from debiasctl.analysis.parts.colour.findings import DATA_LEVEL
from debiasctl.analysis.parts.colour.interventions import Intervention
from debiasctl.analysis.parts.colour.measurement import Measured
from debiasctl.analysis.parts.colour.statistics import (
    Array,
    Estimate,
    Means,
    chunk_of,
    covariance_of_mean,
    jackknifed,
    leading,
    shift_p_value,
    squared,
)
from debiasctl.analysis.parts.part import Found
from debiasctl.analysis.record import Quantity, Series
from debiasctl.evaluation.metrics.catalogue import CHANNELS

DATA = Intervention("heldout_reference", "measured against the held-out images, not the training images")
_UNIT = "[-1, 1]"


def found_of(measured: Measured) -> Found:
    """All figures, series and images of a measurement."""
    samples = np.stack([measured.baseline["colours"], *(one["colours"] for one in measured.arms.values())], axis=1)
    squares = np.stack([measured.baseline["squares"], *(one["squares"] for one in measured.arms.values())], axis=1)
    names = list(CHANNELS.get(measured.channels, {str(number): "" for number in range(measured.channels)}))
    quantities = [
        *_baseline(measured, samples[:, 0], names),
        *_data(measured, names),
        *_shares(measured, samples),
        *_effects(measured, samples, squares, names),
    ]
    return Found(quantities, _series(measured, names), _images(measured), measured.notes)


def _quantity(name: str, found: Estimate, text: str, *, unit: str = _UNIT) -> Quantity:
    low, high = found.limits()
    return Quantity(name=name, value=found.value, se=found.se, low=low, high=high, unit=unit, text=text)


def _baseline(measured: Measured, colours: Array, names: Sequence[str]) -> list[Quantity]:
    """The samples' shift against the training images, as `evaluate` has it, but with a jackknife over chunks."""
    centre = measured.train.mean(axis=0)
    means = Means.of(colours, chunk=chunk_of(len(colours)))
    moments = Means.of(np.concatenate([colours, measured.baseline["squares"]], axis=1), chunk=chunk_of(len(colours)))
    deviation = _deviation(np.concatenate([centre, measured.train_squares.mean(axis=0)]))
    found = [
        *(
            _quantity(f"mean_shift[{name}]", one, f"mean of the samples minus that of the training images, {name}")
            for name, one in zip(names, jackknifed(lambda mean: mean - centre, means), strict=True)
        ),
        *(
            _quantity(
                f"std_shift[{name}]", one,
                f"standard deviation of the samples' pixels minus that of the training images', {name}",
            )
            for name, one in zip(names, jackknifed(lambda rows: _deviation(rows) - deviation, moments), strict=True)
        ),
    ]  # fmt: skip
    (length,) = jackknifed(lambda mean: squared(mean - centre), means)
    p = shift_p_value(colours, centre)
    return [
        *found,
        _quantity("mean_shift_squared", length, "squared shift of the mean, summed over channels", unit=f"{_UNIT}²"),
        Quantity(
            name="mean_shift_p", value=p,
            text="p value of the samples' mean against that of the training images (Hotelling's test)",
        ),
    ]  # fmt: skip


def _deviation(rows: Array) -> Array:
    """Standard deviations [C] from means and mean squares [2 C]."""
    mean, square = np.split(rows, 2)
    root: Array = np.sqrt(np.maximum(square - mean**2, 0))
    return root


def _data(measured: Measured, names: Sequence[str]) -> list[Quantity]:
    """The training images against the held-out ones."""
    if measured.heldout is None:
        return []
    differences = jackknifed(lambda train, heldout: train - heldout, *_splits(measured))
    text = "mean of the training images minus that of the held-out images"
    return [
        *(
            _quantity(f"data_shift[{name}]", one, f"{text}, {name}")
            for name, one in zip(names, differences, strict=True)
        ),
        Quantity(
            name="data_shift_p", value=_data_p(measured),
            text="p value of the training images' mean against that of the held-out images (Hotelling's test)",
        ),
    ]  # fmt: skip


def _splits(measured: Measured) -> tuple[Means, Means]:
    assert measured.heldout is not None, "asked for only where there are held-out images"
    return Means.of(measured.train), Means.of(measured.heldout)


def _data_p(measured: Measured) -> float:
    assert measured.heldout is not None, "asked for only where there are held-out images"
    channels = measured.channels
    if len(measured.heldout) < channels + 2:
        return 1.0
    return shift_p_value(measured.heldout, measured.train.mean(axis=0), more=covariance_of_mean(measured.train))


def _shares(measured: Measured, samples: Array) -> list[Quantity]:
    """Which share of the squared shift each intervention takes away, and how far ahead of other causes' it is.

    Where the training images differ from the held-out ones, the shift is that against the held-out images, so that the
    data are a cause like others: what goes away is then what the samples' shift against the training images lacks.
    """
    arms = list(measured.arms)
    with_data = measured.heldout is not None and _data_p(measured) < DATA_LEVEL
    causes = [*arms, *([DATA] if with_data else [])]
    means = Means.of(samples, chunk=chunk_of(len(samples)))
    sources = [means, *_splits(measured)] if with_data else [means, Means.of(measured.train).fixed()]

    def lengths(mean: Array, train: Array, heldout: Array | None = None) -> Array:
        """The squared shift of the samples as they are and under each intervention."""
        left = squared(mean - (train if heldout is None else heldout))
        return left if heldout is None else np.append(left, squared(mean[0] - train))

    before = [_before(one, arms) for one in causes]

    def removed(*values: Array) -> Array:
        found = lengths(*values)
        share: Array = (found[before] - found[1:]) / max(found[0], 1e-300)
        return share

    full = removed(*(source.value for source in sources))
    rivals = leading(full.tolist(), [one.cause for one in causes])

    def figures(*values: Array) -> Array:
        share = removed(*values)
        ahead = [
            share[number] - max(share[rival], 0.0) if rival >= 0 else share[number]
            for number, rival in enumerate(rivals)
        ]
        return np.concatenate([share, ahead])

    found = jackknifed(figures, *sources)
    against = "held-out" if with_data else "training"
    quantities = []
    for number, one in enumerate(causes):
        text = f"share of the squared shift against the {against} images that goes away {one.text}"
        quantities.append(_quantity(f"share_removed[{one.name}]", found[number], text, unit=""))
        quantities.append(
            _quantity(
                f"ahead[{one.name}]", found[len(causes) + number],
                "that share minus the largest one of another cause", unit="",
            )
        )  # fmt: skip
    return quantities


def _before(one: Intervention, arms: Sequence[Intervention]) -> int:
    """The place of the samples that an intervention changes: 0 are those as sampled, then come those of `arms`."""
    names = [arm.name for arm in arms]
    return 0 if one.after is None else 1 + names.index(one.after)


def _effects(measured: Measured, samples: Array, squares: Array, names: Sequence[str]) -> list[Quantity]:
    """The shift that is left under each intervention and what it changes, paired on the same noises."""
    centre = measured.train.mean(axis=0)
    deviation = _deviation(np.concatenate([centre, measured.train_squares.mean(axis=0)]))
    quantities, mean, wide = [], "shift of the mean", "shift of the standard deviation"
    for number, one in enumerate(measured.arms, start=1):
        both = [_before(one, list(measured.arms)), number]
        pair = np.concatenate([samples[:, both], squares[:, both]], axis=2)  # [N, 2, 2 C]
        means = Means.of(pair, chunk=chunk_of(len(pair)))
        left = jackknifed(lambda mean: mean[1, : len(names)] - centre, means)
        removed = jackknifed(lambda mean: (mean[0] - mean[1])[: len(names)], means)
        spread = jackknifed(lambda mean: _deviation(mean[1]) - deviation, means)
        narrowed = jackknifed(lambda mean: _deviation(mean[0]) - _deviation(mean[1]), means)
        for channel, name in enumerate(names):
            key = f"[{one.name},{name}]"
            quantities += [
                _quantity(f"shift_left{key}", left[channel], f"{mean} that is left {one.text}, {name}"),
                _quantity(f"shift_removed{key}", removed[channel], f"{mean} that goes away {one.text}, {name}"),
                _quantity(f"std_left{key}", spread[channel], f"{wide} that is left {one.text}, {name}"),
                _quantity(
                    f"std_removed{key}", narrowed[channel],
                    f"{wide} that goes away {one.text}, {name}",
                ),
            ]  # fmt: skip
    return quantities


def _series(measured: Measured, names: Sequence[str]) -> list[Series]:
    errors, order = measured.errors, np.argsort(measured.errors.ts)
    x = errors.ts[order].tolist()
    found = [
        Series(
            name=f"mean_error[{name}]", axis="t", x=x, value=errors.error[order, channel].tolist(),
            se=errors.se[order, channel].tolist(), unit=_UNIT,
            text=f"mean of the network's x0_hat on noised training images minus that of the images, {name}",
        )
        for channel, name in enumerate(names)
    ]  # fmt: skip
    text = "norm of eps_hat along sampling over that on noised training images"
    return [*found, Series(name="eps_norm_ratio", axis="t", x=x, value=errors.ratio[order].tolist(), text=text)]


def _images(measured: Measured) -> Arrays:
    return {"as_sampled": measured.baseline["images"]} | {one.name: arm["images"] for one, arm in measured.arms.items()}
