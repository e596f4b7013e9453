"""Confidence limits for the squared length of a mean, by inverting the law of its estimate."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from debiasctl.evaluation.uncertainty.intervals import LEVEL

LENGTH_METHOD = "squared length of a normal mean, inverted"
_STEPS = 40  # of a bisection
_FARTHEST = 8.0  # standard deviations beyond which no limit lies
_POWERS = (-1.0, 8.0)  # of the noise, see _places: from the quietest directions to the noisiest one
_DOUBT = 0.4  # of the share of the length that lies in the noisiest direction; chosen by simulated coverage
_LIGHTER = 0.5  # standard deviations off 0 at which the lower tail begins; chosen by simulated coverage
_FLAT = 1e-12  # variance, relative to the largest, of a direction without noise
Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


def squared_length_limits(mean: Any, covariance: Any, *, level: float = LEVEL) -> tuple[Array, Array]:
    """The limits of |m|² for `mean` [..., D], normal about m with `covariance` [..., D, D]; both limits are [...].

    A limit is a squared length d at which |mean|² lies in the tail of its law. That law depends on where on the sphere
    |m|² = d the expectation lies; it is taken nearest to `mean` in the metric of the covariance (its likeliest place).
    Where even at d = 0 so small an estimate is rare, the upper limit is relative to that probability, so that it is
    never 0.
    """
    values, vectors = np.linalg.eigh(np.asarray(covariance, dtype=np.float64))
    largest = values[..., -1:]
    scale = np.where(largest > 0, largest, 1.0)
    spread = np.maximum(values / scale, _FLAT)
    at = np.einsum("...i,...ij->...j", np.asarray(mean, dtype=np.float64), vectors) / np.sqrt(scale)
    at = np.where(np.abs(at) < 1e-9 * np.sqrt(spread), 1e-9 * np.sqrt(spread), at)  # so that each can be scaled
    value = (at**2).sum(axis=-1)

    def below(length: Array) -> Array:
        return probability_below(value, spread, _nearest(at, spread, length) ** 2 / spread)

    tail = (1 - level) / 2
    none = below(np.zeros(value.shape))
    least = np.where(none > tail, tail, tail * none)
    upper = _limit(lambda length: np.greater(below(length), least), value)
    lower = np.where(none > 1 - tail, _limit(lambda length: np.greater(below(length), 1 - tail), value), 0.0)
    known = (np.asarray(mean, dtype=np.float64) ** 2).sum(axis=-1)  # without any noise
    noisy = largest[..., 0] > 0
    return np.where(noisy, lower * scale[..., 0], known), np.where(noisy, upper * scale[..., 0], known)


def squared_distance_limits(
    estimate: Any, mean: Any, covariance: Any, *, level: float = LEVEL
) -> tuple[Array, Array, Array]:
    """The limits of |m|² in very many dimensions, of which `mean` and `covariance` are those with most of the noise.

    `estimate` [...] is free of the bias. The likeliest place of m would be far off here, as the noise of all dimensions
    adds up; `_places` says where m is taken to lie instead. Both tails add up to 1 - `level`, and are those of
    `unified_tails` half a standard deviation nearer to 0, as the lower tail is lighter than that of a normal law. The
    third result is the probability of so small an estimate at |m|² = 0, which is tiny if the
    images are no independent sample.
    """
    values, vectors = np.linalg.eigh(np.asarray(covariance, dtype=np.float64))
    largest = np.maximum(values[..., -1:], 1e-300)
    spread = np.maximum(values / largest, _FLAT)
    squares = np.einsum("...i,...ij->...j", np.asarray(mean, dtype=np.float64), vectors) ** 2 / largest
    found = np.asarray(estimate, dtype=np.float64) / largest[..., 0]
    total = np.maximum(found + spread.sum(axis=-1), 0.0)  # the squared length with its bias

    def below(length: Array) -> tuple[Array, Array, Array]:
        parts = _places(found, squares, spread, length)
        noise = np.sqrt((2 * spread**2 + 4 * spread * parts).sum(axis=-1))
        distance = np.maximum(length / noise - _LIGHTER, 0.0)
        return probability_below(total, spread, parts / spread), *unified_tails(distance, level=level)

    def not_too_large(length: Array) -> Mask:
        probability, tail, _ = below(length)
        return np.greater(probability, tail)

    def too_small(length: Array) -> Mask:
        probability, _, tail = below(length)
        return np.greater(probability, 1 - tail)

    none = probability_below(total, spread, np.zeros(spread.shape))
    high, low = _limit(not_too_large, total), _limit(too_small, total)
    return np.where(none > level, low, 0.0) * largest[..., 0], high * largest[..., 0], none


def _places(found: Array, squares: Array, spread: Array, length: Array) -> Array:
    """The squared components, proportional to a power of the noise, of a mean of squared `length`.

    The law of the length depends on Σ spread m². Its estimate Σ spread (squares - spread) errs as the estimated length
    does, `found` - `length`; the regression on that error takes what they share off. What is left is averaged with what
    a mean has whose squared components are proportional to the noise, as chance makes them, by the squares of the
    errors of both.
    """
    own = (spread * (squares - spread)).sum(axis=-1)
    usual = length * (spread**2).sum(axis=-1) / spread.sum(axis=-1)
    doubt = (_DOUBT * length) ** 2
    low, high = np.full(length.shape, _POWERS[0]), np.full(length.shape, _POWERS[1])
    weights = spread
    for _ in range(_STEPS // 2):
        power = (low + high) / 2
        weights = spread ** power[..., None]
        weights = weights / weights.sum(axis=-1, keepdims=True)
        one, two, three = (length * (weights * spread**order).sum(axis=-1) for order in (1, 2, 3))
        of_length, of_own, both = ((2 * spread**order).sum(axis=-1) for order in (2, 4, 3))
        slope = (both + 4 * two) / (of_length + 4 * one)
        error = np.maximum(of_own + 4 * three - slope * (both + 4 * two), _FLAT)
        wanted = (doubt * (own - slope * (found - length)) + error * usual) / (doubt + error)
        more = wanted > one
        low, high = np.where(more, power, low), np.where(more, high, power)
    placed: Array = weights * length[..., None]
    return placed


def unified_tails(distance: Any, *, level: float = LEVEL) -> tuple[Array, Array]:
    """The lower and the upper tail of an estimate to leave out, for a figure `distance` above 0, its least value.

    They add up to 1 - `level`. Far from 0 they are equal; at 0 all is in the upper one, for no estimate is too small
    there. Between, an estimate x is kept if its density, relative to that under the figure max(x, 0) which explains it
    best, is above that of all left out (Feldman & Cousins, 1998). `distance` is in standard deviations of an estimate
    taken as normal.
    """
    from scipy.special import ndtr

    at = np.maximum(np.asarray(distance, dtype=np.float64), 1e-6)
    low, high = np.zeros(at.shape), np.full(at.shape, _FARTHEST)
    below, above = low, high
    for _ in range(_STEPS):
        reach = (low + high) / 2
        opposite = np.where(reach <= at, reach, (at**2 + reach**2) / (2 * at))  # of the same relative density
        below, above = ndtr(-opposite), ndtr(-reach)
        more = below + above > 1 - level
        low, high = np.where(more, reach, low), np.where(more, high, reach)
    return below, above


def _limit(within: Callable[[Array], Mask], value: Array) -> Array:
    """The greatest squared length up to which `within` holds; `value` is the squared length found, with its bias."""
    low, high = np.zeros(value.shape), np.sqrt(value) + _FARTHEST
    for _ in range(_STEPS):
        middle = (low + high) / 2
        more = within(middle**2)
        low, high = np.where(more, middle, low), np.where(more, high, middle)
    found: Array = ((low + high) / 2) ** 2
    return found


def _nearest(at: Array, spread: Array, length: Array) -> Array:
    """The point of a squared `length` nearest to `at` in units of the noise: at / (1 - k · spread) for some k."""
    low, high = np.full(length.shape, math.log(1e-12)), np.full(length.shape, math.log(1e15))
    for _ in range(_STEPS):
        middle = (low + high) / 2  # the logarithm of 1 - k
        far = ((at / (1 - (1 - np.exp(middle))[..., None] * spread)) ** 2).sum(axis=-1) > length
        low, high = np.where(far, middle, low), np.where(far, high, middle)
    found: Array = at / (1 - (1 - np.exp((low + high) / 2))[..., None] * spread)
    return found


def probability_below(value: Array, spread: Array, noncentrality: Array) -> Array:
    """P(Σ spread_j (z_j + b_j)² ≤ value) for standard normal z and b_j² = noncentrality_j, all [..., D].

    It is the saddlepoint approximation of Lugannani & Rice (Kuonen, 1999).
    """
    s = _saddlepoint(value, spread, noncentrality)
    rest = 1 - 2 * s[..., None] * spread
    cumulant = (-0.5 * np.log(rest) + s[..., None] * spread * noncentrality / rest).sum(axis=-1)
    second = (2 * spread**2 / rest**2 + 4 * spread**2 * noncentrality / rest**3).sum(axis=-1)
    w = np.sign(s) * np.sqrt(np.maximum(2 * (s * value - cumulant), 0.0))
    u = s * np.sqrt(second)
    third = (8 * spread**3 + 24 * spread**3 * noncentrality).sum(axis=-1)
    central = np.abs(w) < 1e-4  # at the mean the formula is 0/0
    with np.errstate(divide="ignore", invalid="ignore"):
        away = _normal(w + np.log(u / w) / w)
    middle = 0.5 + third / (6 * math.sqrt(2 * math.pi) * second**1.5)
    return np.where(central, middle, away)


def _saddlepoint(value: Array, spread: Array, noncentrality: Array) -> Array:
    """The s at which the cumulant function's slope is `value`.

    Its inverse slope is a straight line for one dimension, and nearly one for more: the false position method with
    halved ends (Illinois) takes few steps.
    """

    def off(s: Array) -> Array:
        rest = 1 - 2 * s[..., None] * spread
        slope = (spread / rest + spread * noncentrality / rest**2).sum(axis=-1)
        return np.asarray(1 / slope - 1 / value)

    value = np.maximum(value, 1e-12)
    low, high = -(1 + noncentrality).sum(axis=-1) / (2 * value), (1 - 1e-12) / (2 * spread.max(axis=-1))
    at_low, at_high = off(low), off(high)
    s = low
    for _ in range(_STEPS // 2):
        s = low + (high - low) * at_low / np.where(at_low == at_high, 1.0, at_low - at_high)
        found = off(s)
        above = found > 0  # the root is beyond s
        at_high = np.where(above, at_high / 2, found)
        at_low = np.where(above, found, at_low / 2)
        low, high = np.where(above, s, low), np.where(above, high, s)
    found_s: Array = s
    return found_s


def _normal(x: Array) -> Array:
    from scipy.special import ndtr

    found: Array = ndtr(x)
    return found
