"""Profiles of power-function averages, and fits of one by a combination of others (EDM2, arXiv 2312.02696)."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from debiasctl.errors import UsageError

MIN_LENGTH, MAX_LENGTH = 0.001, 0.28  # sigma_rel; 1/sqrt(12) = 0.2887 is the plain mean of all weights
_RANK = 1e-13  # relative to the largest eigenvalue: smaller ones are rounding error


class Profile(NamedTuple):
    """The weight p(tau) = (gamma + 1) tau^gamma / t^(gamma + 1) on [0, t] of each step in an average at step `t`."""

    t: float
    gamma: float


class Fit(NamedTuple):
    """A fitted combination: `weights` float64 [K], which sum to 1, and `residual` = ||sum_k w_k p_k - p|| / ||p||."""

    weights: Tensor
    residual: float


def gamma_of(length: float) -> float:
    """The exponent gamma >= 0 of the profile with standard deviation `length` times t, 0 < length <= 1/sqrt(12).

    sigma_rel^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)) (EDM2, §3.1) is a cubic with three real roots; the result
    is the largest, by Viète's formula.
    """
    s = length**-2
    p, q = -s - 1 / 3, 686 / 27 - 7 * (16 - s) / 3 + 12 - s  # coefficients of y^3 + p y + q with y = gamma + 7/3
    cosine = 3 * q / (2 * p) * math.sqrt(-3 / p)
    return 2 * math.sqrt(-p / 3) * math.cos(math.acos(max(-1.0, min(1.0, cosine))) / 3) - 7 / 3


def power_decay(gamma: float, step: int) -> float:
    """The decay beta_gamma(t) = (1 - 1/t)^(gamma + 1) at step t = 1, 2, … (EDM2, Eq. 5); it is 0 at the first step.

    After t steps, step k has the weight (k/t)^(gamma + 1) - ((k - 1)/t)^(gamma + 1), the profile's integral over it.
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
    """The profiles of stored averages, as a basis for fitting others."""

    def __init__(self, stored: Sequence[Profile]) -> None:
        self.stored = [Profile(*profile) for profile in stored]
        self._gram = inner_products(self.stored, self.stored)
        norms = self._gram.diagonal().sqrt()
        values, vectors = torch.linalg.eigh(self._gram / norms[:, None] / norms)
        kept = values > _RANK * values[-1]
        self._inverse = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T / norms[:, None] / norms

    def fit(self, target: Profile) -> Fit:
        """Find the combination nearest to `target` in L2 among those whose weights sum to 1.

        A sum of 1 preserves exactly what all averages have in common: where the network's weights are far from 0 and
        change little, a sum of 0.999 would cause most of the error. A stored profile is fitted by itself alone.
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


def length_name(length: float) -> str:
    """Format a length as in file names and messages: 0.05, 0.1."""
    return repr(float(length))


def parse_length(text: str, *, argument: str) -> float:
    """Parse a length (EDM2's sigma_rel) that a user wrote for `argument`.

    Raises:
        UsageError: if it is not a number in the range of power-function averages.
    """
    try:
        length = float(text)
    except ValueError:
        length = math.nan
    if not MIN_LENGTH <= length <= MAX_LENGTH or round(length, 6) != length:
        raise UsageError(
            f"`{argument}` '{text.strip()}': a length is a number from {MIN_LENGTH} to {MAX_LENGTH} with at most 6 "
            "decimals, the standard deviation of the average's profile relative to the training time, for example 0.1"
        )
    return length
