"""Power-function profiles of averages over training, and one as a combination of others (EDM2, arXiv 2312.02696)."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from debiasctl.errors import UsageError

MIN_LENGTH, MAX_LENGTH = 0.001, 0.28  # sigma_rel; 1/sqrt(12) = 0.2887 is the plain mean of all weights
_RANK = 1e-13  # of the largest eigenvalue: below it, directions are rounding


class Profile(NamedTuple):
    """p(tau) = (gamma + 1) tau^gamma / t^(gamma + 1) on [0, t]: what an average at step `t` takes of each step."""

    t: float
    gamma: float


class Fit(NamedTuple):
    """`weights` float64 [K], of sum 1; `residual` = ||sum_k w_k p_k - p|| / ||p|| in L2."""

    weights: Tensor
    residual: float


def gamma_of(length: float) -> float:
    """The exponent gamma >= 0 of the profile whose standard deviation is `length` times t, 0 < length <= 1/sqrt(12).

    sigma_rel^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)) (EDM2, §3.1) is a cubic with three real roots; this is the
    largest, in Viète's form.
    """
    s = length**-2
    p, q = -s - 1 / 3, 686 / 27 - 7 * (16 - s) / 3 + 12 - s  # of y^3 + p y + q with y = gamma + 7/3
    cosine = 3 * q / (2 * p) * math.sqrt(-3 / p)
    return 2 * math.sqrt(-p / 3) * math.cos(math.acos(max(-1.0, min(1.0, cosine))) / 3) - 7 / 3


def power_decay(gamma: float, step: int) -> float:
    """beta_gamma(t) = (1 - 1/t)^(gamma + 1), the share kept at step t = 1, 2, … (EDM2, Eq. 5); 0 at the first.

    After t steps, the weights of step k count (k/t)^(gamma + 1) - ((k - 1)/t)^(gamma + 1): the profile's share.
    """
    return float((1 - 1 / step) ** (gamma + 1))


def inner_products(first: Sequence[Profile], second: Sequence[Profile]) -> Tensor:
    """Integrals of p_a(tau) p_b(tau) over tau (EDM2, App. C), float64 [A, B].

    With m = min(t_a, t_b): (g_a + 1)(g_b + 1)/(g_a + g_b + 1) (m/t_a)^g_a (m/t_b)^g_b / max(t_a, t_b).
    """
    t_a, gamma_a = torch.tensor(first, dtype=torch.float64)[:, None, :].unbind(-1)
    t_b, gamma_b = torch.tensor(second, dtype=torch.float64)[None, :, :].unbind(-1)
    smaller = torch.minimum(t_a, t_b)
    factor = (gamma_a + 1) * (gamma_b + 1) / (gamma_a + gamma_b + 1)
    return factor * (smaller / t_a) ** gamma_a * (smaller / t_b) ** gamma_b / torch.maximum(t_a, t_b)


class ProfileBasis:
    """Stored profiles, of which others are made up."""

    def __init__(self, stored: Sequence[Profile]) -> None:
        self.stored = [Profile(*profile) for profile in stored]
        self._gram = inner_products(self.stored, self.stored)
        norms = self._gram.diagonal().sqrt()
        values, vectors = torch.linalg.eigh(self._gram / norms[:, None] / norms)
        kept = values > _RANK * values[-1]
        self._inverse = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T / norms[:, None] / norms

    def fit(self, target: Profile) -> Fit:
        """The combination nearest to `target` in L2 among those whose weights sum to 1.

        The sum keeps what all the averages have in common exact: where weights lie far from 0 and move little, a sum
        of 0.999 would cost more than all the rest. A profile that is stored is itself.
        """
        if target in self.stored:
            weights = torch.zeros(len(self.stored), dtype=torch.float64)
            weights[self.stored.index(target)] = 1.0
            return Fit(weights, 0.0)
        products = inner_products(self.stored, [target])[:, 0]
        free, along = self._inverse @ products, self._inverse.sum(dim=1)
        weights = free + along * (1 - free.sum()) / along.sum()
        norm = inner_products([target], [target])[0, 0]
        square = (weights @ self._gram @ weights - 2 * products @ weights + norm) / norm
        return Fit(weights, float(square.clamp(min=0).sqrt()))


def posthoc_weights(stored: Sequence[Profile], target: Profile) -> Tensor:
    """What each stored average counts in the one that is wanted: float64 [K]; see `ProfileBasis.fit`."""
    return ProfileBasis(stored).fit(target).weights


def length_name(length: float) -> str:
    """A length as files and messages write it: 0.05, 0.1."""
    return repr(float(length))


def parse_length(text: str, *, argument: str) -> float:
    """A length (EDM2's sigma_rel) that a user wrote for `argument`.

    Raises:
        UsageError: it is no number, or not one of a power-function average.
    """
    try:
        length = float(text)
    except ValueError:
        length = math.nan
    if not MIN_LENGTH <= length <= MAX_LENGTH or round(length, 6) != length:
        raise UsageError(
            f"`{argument}` '{text.strip()}': a length is a number from {MIN_LENGTH} to {MAX_LENGTH} of at most 6 "
            "decimals: the average's standard deviation in time over the time of training, for example 0.1"
        )
    return length
