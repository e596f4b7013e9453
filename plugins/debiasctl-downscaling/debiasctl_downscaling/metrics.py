"""How close downscaled images are to true ones, with 95 % intervals (arXiv 2305.15618, §4)."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Literal

import numpy as np
import torch
from scipy.stats import t as student
from torch import Tensor

from debiasctl.api import EvaluationError, UsageError
from debiasctl_downscaling import statistics
from debiasctl_downscaling.operators import Operator
from debiasctl_downscaling.statistics import Frame, Spectrum, Sums
from debiasctl_downscaling.transport import mean_cost, soft_transform, solve, squared_distances

GROUPS = 24  # of images, left out one by one
_NULLS = 24  # splits from which a metric's value for equal laws is estimated
_SPLITS = 4  # into halves, from which the Sinkhorn divergence's bias is estimated
_SINKHORN_MOST = 512  # images
SINKHORN_EPSILON = 1.0  # of the mean squared distance between true images
_OWN_MOST, _OWN_TOLERANCE = 1000, 1e-6  # iterations, and the last change over epsilon
_MOST, _TOLERANCE = 5000, 1e-4  # of the iterations between two sets
_NOT_CONVERGED = "the Sinkhorn divergence did not converge. Are some images far outside of [-1, 1]?"
_CONFIDENCE = 0.975
Metric = Callable[[Sums, Sums], float]
Kind = Literal["square", "root", "absolute"]


@dataclass(frozen=True)
class Figure:
    """A metric's value, corrected for the value it has for equal laws, and its 95 % interval; `plain` is uncorrected.

    `null` is its value for equal laws, which is above 0 as images are few; None where there is nothing to correct.
    """

    value: float
    low: float
    high: float
    plain: float
    null: float | None = None


def measure(
    sample: Tensor,
    true: Tensor,
    *,
    spectrum: Spectrum = "rings",
    operator: Operator | None = None,
    low: Tensor | None = None,
    seed: int = 0,
) -> dict[str, Figure]:
    """All metrics of images [N, C, H, W] against true ones [M, C, H, W], which must be independent of each other.

    With `low`, the low-resolution images that each was drawn for, the constraint is measured too.

    Raises:
        UsageError: if the images differ in size, are not finite, or are too few for an interval.
    """
    _check(sample, true)
    found: dict[str, Figure] = {}
    if operator is not None and low is not None:
        found["constraint_rmse"] = constraint_rmse(sample, operator, low)
    frame = Frame.of(sample, true, spectrum=spectrum)
    a, b = (
        Sums.stacked([Sums.of(one[part], frame) for part in statistics.split(len(one), GROUPS)])
        for one in (sample, true)
    )
    kernel = statistics.smoothing(frame, b.over(torch.ones(GROUPS, dtype=torch.float64)))
    metrics: dict[str, tuple[Metric, Kind]] = {
        "covariance_rmse": (partial(statistics.covariance_rmse, tuple(true.shape[1:])), "root"),
        "melr": (statistics.melr, "absolute"),
        "melr_weighted": (statistics.weighted_melr, "absolute"),
        "kld": (partial(statistics.divergence, kernel, frame), "square"),
        "wasserstein1": (partial(statistics.wasserstein, frame), "absolute"),
    }
    rng = np.random.default_rng(seed)
    found |= intervals(metrics, a, b, rng=rng)
    found["sinkhorn_divergence"] = sinkhorn_divergence(sample, true, rng=rng)
    return found


def constraint_rmse(sample: Tensor, operator: Operator, low: Tensor) -> Figure:
    """The root mean square of C x - y over that of y, with a jackknife interval over images.

    Raises:
        UsageError: if there are not as many low-resolution images, or of another size.
    """
    made = operator(sample.double()).flatten(1)
    wanted = low.double().flatten(1)
    if made.shape != wanted.shape:
        raise UsageError(
            f"{len(sample)} images have {made.shape[1]} low-resolution values each, and the given low-resolution ones "
            f"are {len(wanted)} of {wanted.shape[1]}. Give the `operator` that the images were drawn with"
        )
    errors, sizes = (made - wanted).square().sum(dim=1), wanted.square().sum(dim=1)
    n = len(errors)
    value = math.sqrt(float(errors.sum() / sizes.sum().clamp(min=1e-300)))
    left_out = ((errors.sum() - errors) / (sizes.sum() - sizes).clamp(min=1e-300)).clamp(min=0).sqrt()
    error = math.sqrt(float((left_out - left_out.mean()).square().sum()) * (n - 1) / n)
    reach = float(student.ppf(_CONFIDENCE, n - 1)) * error
    return Figure(value, max(0.0, value - reach), value + reach, value)


def intervals(
    metrics: Mapping[str, tuple[Metric, Kind]], sample: Sums, true: Sums, *, rng: np.random.Generator
) -> dict[str, Figure]:
    """Metrics with intervals, from the stacked sums over groups of sampled and of true images.

    Standard errors are the grouped jackknife's, over both sets. A distance between few images is too large, as noise
    adds to it. What is smooth in the images' sums (a `square`, such as a divergence, or the square of a `root`) is
    corrected by the jackknife's estimate of that bias. Means of `absolute` values are corrected in squares,
    √(θ² - θ0²), by their value θ0 for equal laws, found on splits that hold half of each set on either side. The ends
    of Student's interval for the plain value are mapped in the same way.
    """
    ones = torch.ones(sample.groups, dtype=torch.float64), torch.ones(true.groups, dtype=torch.float64)
    a, b = sample.over(ones[0]), true.over(ones[1])
    without_a = [sample.without(i, a) for i in range(sample.groups)]
    without_b = [true.without(i, b) for i in range(true.groups)]
    halves = [_halves(sample, true, rng) for _ in range(_NULLS)]
    freedom = min(sample.groups, true.groups) - 1
    found = {}
    for name, (metric, kind) in metrics.items():
        value = metric(a, b)
        left_out = np.array([metric(one, b) for one in without_a]), np.array([metric(a, one) for one in without_b])
        variance = sum((len(one) - 1) / len(one) * ((one - one.mean()) ** 2).sum() for one in left_out)
        if kind == "absolute":
            found_nulls = [metric(*one) for one in halves]
            null = math.sqrt(float(np.mean(np.square(found_nulls))) * _ratio(float(a.number), float(b.number)))
        else:
            power = 2 if kind == "root" else 1
            bias = sum(float((len(one) - 1) * (np.mean(one**power) - value**power)) for one in left_out)
            null = math.copysign(abs(bias) ** (1 / power), bias)
        reach = float(student.ppf(_CONFIDENCE, freedom)) * math.sqrt(variance)
        found[name] = _corrected(value, reach, null, is_square=kind == "square")
    return found


def _corrected(value: float, reach: float, null: float, *, is_square: bool) -> Figure:
    def corrected(plain: float) -> float:
        plain = max(plain, 0.0)
        return max(0.0, plain - null) if is_square else math.sqrt(max(0.0, plain**2 - null * abs(null)))

    return Figure(corrected(value), corrected(value - reach), corrected(value + reach), value, null)


def _halves(sample: Sums, true: Sums, rng: np.random.Generator) -> tuple[Sums, Sums]:
    """The sums over two sides, of which each has a random half of the groups of either set."""
    parts = []
    for stacked in (sample, true):
        side = torch.zeros(stacked.groups, dtype=torch.float64)
        side[torch.from_numpy(rng.permutation(stacked.groups)[: stacked.groups // 2])] = 1
        parts.append((stacked.over(side), stacked.over(1 - side)))
    (a, c), (b, d) = parts
    return Sums(*map(torch.add, _values(a), _values(b))), Sums(*map(torch.add, _values(c), _values(d)))


def _values(sums: Sums) -> list[Tensor]:
    return [getattr(sums, one.name) for one in fields(sums)]


def _ratio(n: float, m: float) -> float:
    """The variance of a difference of means over n and m images, over that of two halves of all of them."""
    return (1 / n + 1 / m) / (4 / (n + m))


def sinkhorn_divergence(
    sample: Tensor, true: Tensor, *, rng: np.random.Generator, epsilon: float = SINKHORN_EPSILON
) -> Figure:
    """S = OT(a, b) - OT(a, a)/2 - OT(b, b)/2 with squared distances (Feydy et al., 2019, arXiv 1810.08278).

    Epsilon is relative to the mean squared distance between true images, of which at most 512 are taken. It is large,
    since with a small one every image is its own only neighbour, and no number of images that one has is enough. The
    standard error is that of the potentials' means (del Barrio et al., 2023, arXiv 2204.01188), with the spread that is
    left where the laws are equal, by that of halves of the images.
    """
    x, y = (one[:_SINKHORN_MOST].flatten(1).double() for one in (sample, true))
    scale = mean_cost(y, y)
    if not scale > 0:
        raise UsageError("the true images are all the same one: their Sinkhorn divergence has no scale")
    value, first, second = _divergence(x, y, epsilon * scale, scale)
    halves = []
    for _ in range(_SPLITS):
        orders = [torch.from_numpy(rng.permutation(len(points))) for points in (x, y)]
        for part in (0, 1):
            one, other = (points[order[part::2]] for points, order in zip((x, y), orders, strict=True))
            halves.append(_divergence(one, other, epsilon * scale, scale)[0])
    null = float(np.mean(halves)) - value  # half the images have twice the bias, which is as 1/n
    variance = float(first.var() / len(x) + second.var() / len(y)) + float(np.var(halves, ddof=1)) / 4
    reach = float(student.ppf(_CONFIDENCE, min(len(x), len(y)) - 1)) * math.sqrt(variance)
    return _corrected(value, reach, null, is_square=True)


def _divergence(x: Tensor, y: Tensor, eps: float, scale: float) -> tuple[float, Tensor, Tensor]:
    """The divergence, and its first variation at each point of x and of y."""
    f, g = _potentials(x, y, eps, scale)
    first, second = f - _own_potential(x, eps), g - _own_potential(y, eps)
    return float(first.mean() + second.mean()), first, second


def _potentials(x: Tensor, y: Tensor, eps: float, scale: float) -> tuple[Tensor, Tensor]:
    g, _, error = solve(x, y, eps, scale=scale, tolerance=_TOLERANCE, iterations=_MOST)
    if not error <= _TOLERANCE:
        raise EvaluationError(_NOT_CONVERGED)
    return soft_transform(x, y, g, eps), g


def _own_potential(x: Tensor, eps: float) -> Tensor:
    """The potential of a set with itself, by the averaged iteration (arXiv 1810.08278, §3.1), which converges fast."""
    f = x.new_zeros(len(x))
    cost = squared_distances(x, x)
    for _ in range(_OWN_MOST):
        after = (f + eps * (math.log(len(x)) - torch.logsumexp((f - cost) / eps, dim=1))) / 2
        if float((after - f).abs().max()) <= _OWN_TOLERANCE * eps:
            return after
        f = after
    raise EvaluationError(_NOT_CONVERGED)


def _check(sample: Tensor, true: Tensor) -> None:
    if sample.ndim != 4 or true.ndim != 4 or sample.shape[1:] != true.shape[1:]:
        shapes = ["x".join(map(str, one.shape[1:])) for one in (sample, true)]
        raise UsageError(f"the images are {shapes[0]}, and the true ones {shapes[1]}. They must have one size")
    for images, name in ((sample, "sampled"), (true, "true")):
        if len(images) < 2 * GROUPS:
            raise UsageError(f"{len(images)} {name} images are too few for an interval. Give at least {2 * GROUPS}")
        if not bool(torch.isfinite(images).all()):
            raise UsageError(f"the {name} images hold values that are not finite")
