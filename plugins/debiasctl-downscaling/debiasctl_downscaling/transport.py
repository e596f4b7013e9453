"""The entropic optimal-transport map from biased low-resolution images to true ones (arXiv 2305.15618, §3.2)."""

import math
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from debiasctl.api import DataError, EvaluationError, UsageError, atomic_file

FORMAT, VERSION = "debiasctl-downscaling-map", 1
_DENSE = 2**27  # entries of a plan that is held as a whole (1 GiB); larger ones are computed in blocks
_BLOCK = 2**22  # entries of a block
_ANNEALING = 4.0  # factor by which epsilon falls from one solution to the next
_FIRST = 1.0  # epsilon of the first solution, in units of the mean cost


@dataclass(frozen=True)
class Convergence:
    """How well Sinkhorn's iteration converged: `error` is the plan's distance to the second marginal, in total
    variation (L1) norm; the first is exact.
    """

    error: float
    iterations: int
    tolerance: float


@dataclass(frozen=True)
class TransportMap:
    """T(x) = sum_j w_j(x) y_j with w_j(x) proportional to exp((g_j - |x - y_j|²)/epsilon): E[y | x] under the plan.

    At the images that it was fitted on it is the plan's barycentric projection, and elsewhere its extension by the
    dual potential g (Pooladian & Niles-Weed, 2021, arXiv 2109.12004). `targets` are float64 [n, d], `potential`
    float64 [n]; `shape` is that of an image (C, h, w); `relative` is epsilon over the mean cost, `scale`.
    """

    targets: Tensor
    potential: Tensor
    shape: tuple[int, ...]
    epsilon: float
    relative: float
    scale: float
    num_sources: int
    convergence: Convergence

    def __call__(self, images: Tensor) -> Tensor:
        """The debiased images, of the form, dtype and device of `images` [N, C, h, w].

        Raises:
            UsageError: if they are of another shape than those that the map was fitted on.
        """
        if tuple(images.shape[1:]) != self.shape:
            raise UsageError(
                f"the map is for images of {_shape(self.shape)}, and these are {_shape(images.shape[1:])}. Fit a map "
                "on images like these"
            )
        x = images.reshape(len(images), -1).to(self.targets)
        rows = max(1, _BLOCK // len(self.targets))
        moved = [
            torch.softmax((self.potential - squared_distances(part, self.targets)) / self.epsilon, dim=1) @ self.targets
            for part in torch.split(x, rows)
        ]
        return torch.cat(moved).reshape(images.shape).to(images)

    def to(self, device: torch.device) -> "TransportMap":
        """The map on a device."""
        return TransportMap(
            **{**vars(self), "targets": self.targets.to(device), "potential": self.potential.to(device)}
        )

    def save(self, path: Path) -> None:
        """Write the map to an .npz, which appears as a whole.

        Raises:
            UsageError: if the name does not end in .npz; DebiasctlError: if it cannot be written.
        """
        if path.suffix != ".npz":
            raise UsageError(f"{path}: a map is kept in an .npz file. Give a name that ends in .npz")
        arrays: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "targets": self.targets.cpu().numpy().astype(np.float32),
            "potential": self.potential.cpu().numpy(),
            "shape": self.shape,
            "epsilon": self.epsilon,
            "relative": self.relative,
            "scale": self.scale,
            "num_sources": self.num_sources,
            **vars(self.convergence),
        }
        with atomic_file(path) as stream:
            np.savez(stream, **arrays)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a map that `save` wrote.

        Raises:
            UsageError: if there is no such file; DataError: if it is no map, is damaged, or a newer version wrote it.
        """
        if not path.is_file():
            raise UsageError(f"there is no file {path}. `debiasctl downscale fit-map` writes one")
        try:
            with np.load(path, allow_pickle=False) as stored:
                found: dict[str, Any] = {name: stored[name] for name in stored.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"{path} is no map, or is damaged ({error}). Fit it again") from error
        if str(found.get("format")) != FORMAT:
            raise DataError(f"{path} is an .npz of something else than a map. `debiasctl downscale fit-map` writes one")
        if int(found["version"]) != VERSION:
            raise DataError(
                f"{path} is a map of version {int(found['version'])}, and this is version {VERSION}. Fit it again"
            )
        try:
            convergence = Convergence(float(found["error"]), int(found["iterations"]), float(found["tolerance"]))
            made = cls(
                torch.from_numpy(found["targets"]).double(),
                torch.from_numpy(found["potential"]).double(),
                tuple(int(size) for size in found["shape"]),
                float(found["epsilon"]),
                float(found["relative"]),
                float(found["scale"]),
                int(found["num_sources"]),
                convergence,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path} is a damaged map ({error}). Fit it again") from error
        made._check(path)
        return made

    def _check(self, path: Path) -> None:
        n, d = len(self.potential), math.prod(self.shape)
        is_finite = bool(torch.isfinite(self.targets).all()) and bool(torch.isfinite(self.potential).all())
        if self.targets.shape != (n, d) or self.potential.ndim != 1 or not is_finite or not self.epsilon > 0:
            raise DataError(f"{path} is a damaged map: its parts do not fit each other. Fit it again")


def fit_map(
    biased: Tensor,
    true: Tensor,
    *,
    epsilon: float = 0.01,
    tolerance: float = 1e-3,
    iterations: int = 20_000,
    device: torch.device | None = None,
) -> TransportMap:
    """Solve entropic optimal transport between two sets of low-resolution images [N, C, h, w], [M, C, h, w].

    The cost is the squared distance, and the plan P minimises <P, cost> + eps KL(P | uniform x uniform) with eps =
    `epsilon` times the mean cost. Sinkhorn's iterations are POT's, in the logarithmic domain, from large eps to small
    with a warm start. They end when the plan's second marginal is right to `tolerance` in L1.

    Raises:
        UsageError: if the images are not of one shape, or a number is out of its range.
        EvaluationError: if the iterations did not converge.
    """
    _check_arguments(biased, true, epsilon=epsilon, tolerance=tolerance, iterations=iterations)
    device = device or torch.device("cpu")
    x = biased.reshape(len(biased), -1).to(device, torch.float64)
    # targets as a file holds them, so that a map that was saved and read is the same
    y = true.reshape(len(true), -1).to(device, torch.float32).double()
    scale = mean_cost(x, y)
    if not scale > 0:
        raise UsageError("the images are all the same one: there is nothing to transport")
    potential, steps, error = solve(x, y, epsilon * scale, scale=scale, tolerance=tolerance, iterations=iterations)
    convergence = Convergence(error, steps, tolerance)
    if not error <= tolerance:
        raise EvaluationError(
            f"Sinkhorn's iterations did not converge: after {steps:,} the plan's marginal is off by {error:.2g}, "
            f"and `tolerance={tolerance:g}` is allowed. Raise `epsilon` (it is {epsilon:g} of the mean cost) or "
            "`iterations`"
        )
    shape = tuple(true.shape[1:])
    return TransportMap(y, potential, shape, epsilon * scale, epsilon, scale, len(x), convergence)


def solve(
    x: Tensor, y: Tensor, epsilon: float, *, scale: float, tolerance: float, iterations: int
) -> tuple[Tensor, int, float]:
    """Potential g [M], iterations made and the error of the marginal, for points x [N, d] and y [M, d] of equal weight.

    The plan is exp((f_i + g_j - |x_i - y_j|²)/epsilon)/(N M), f being the soft transform of g.
    """
    schedule = [epsilon]
    while schedule[-1] * _ANNEALING < _FIRST * scale:
        schedule.append(schedule[-1] * _ANNEALING)
    g = y.new_zeros(len(y))
    done, error = 0, math.inf
    for eps in reversed(schedule):
        is_last = eps == epsilon
        wanted = tolerance if is_last else max(tolerance, 1e-2)
        while True:
            left = iterations - done
            if left <= 0:
                return g, done, marginal_error(x, y, g, epsilon)  # at this epsilon, however far it has come
            g, made, error = _iterate(x, y, eps, g, tolerance=wanted, iterations=left)
            done += made
            if error <= wanted:
                break
    return g, done, error


def _iterate(
    x: Tensor, y: Tensor, eps: float, g: Tensor, *, tolerance: float, iterations: int
) -> tuple[Tensor, int, float]:
    """POT's iterations at one epsilon, until its own measure of convergence is met; g, their number and our error."""
    from ot.bregman import empirical_sinkhorn, sinkhorn_log

    n, m = len(x), len(y)
    a, b = x.new_full((n,), 1 / n), y.new_full((m,), 1 / m)
    start = soft_transform(x, y, g, eps) / eps - math.log(n), g / eps - math.log(m)
    # POT's dense solver measures in L2: |.|_1 <= sqrt(M) |.|_2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where it does not converge, which our error says
        if n * m <= _DENSE:
            threshold = tolerance / math.sqrt(m)
            _, log = sinkhorn_log(
                a, b, squared_distances(x, y), eps, numItermax=iterations, stopThr=threshold, log=True, warmstart=start
            )
            v = log["log_v"]
        else:
            rows = max(1, _BLOCK // max(n, m))
            _, v, log = empirical_sinkhorn(
                x, y, eps, a=a, b=b, isLazy=True, batchSize=rows, numIterMax=iterations, stopThr=tolerance, log=True,
                warmstart=start,
            )  # fmt: skip
    found = eps * (v + math.log(m))
    return found, int(log["niter"]) + 1, marginal_error(x, y, found, eps)


def soft_transform(x: Tensor, y: Tensor, g: Tensor, eps: float) -> Tensor:
    """The potential f [N] at x that makes the plan's first marginal exact, given g [M] at y of equal weights."""
    rows = max(1, _BLOCK // len(y))
    parts = [torch.logsumexp((g - squared_distances(part, y)) / eps, dim=1) for part in torch.split(x, rows)]
    return eps * (math.log(len(y)) - torch.cat(parts))


def marginal_error(x: Tensor, y: Tensor, g: Tensor, eps: float) -> float:
    """The L1 distance of the plan's second marginal to equal weights; the first is exact."""
    total = torch.zeros_like(g)
    for part in torch.split(x, max(1, _BLOCK // len(y))):
        total += torch.softmax((g - squared_distances(part, y)) / eps, dim=1).sum(dim=0)
    return float((total / len(x) - 1 / len(y)).abs().sum())


def mean_cost(x: Tensor, y: Tensor) -> float:
    """The mean of |x_i - y_j|² over all pairs."""
    spread = x.var(dim=0, correction=0).sum() + y.var(dim=0, correction=0).sum()
    return float(spread + (x.mean(dim=0) - y.mean(dim=0)).square().sum())


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """|x_i - y_j|², [N, M]."""
    squares = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1) - 2 * x @ y.T
    return squares.clamp(min=0)


def _check_arguments(biased: Tensor, true: Tensor, *, epsilon: float, tolerance: float, iterations: int) -> None:
    if biased.shape[1:] != true.shape[1:]:
        raise UsageError(
            f"the biased images are {_shape(biased.shape[1:])}, and the true ones {_shape(true.shape[1:])} once they "
            "are downsampled. They must have one size"
        )
    for images, name in ((biased, "biased"), (true, "true")):
        if len(images) < 2:
            raise UsageError(f"a map needs at least 2 {name} images, and better hundreds")
        if not bool(torch.isfinite(images).all()):
            raise UsageError(f"the {name} images hold values that are not finite")
    if not (0 < epsilon < math.inf and 0 < tolerance < 1 and iterations >= 1):
        raise UsageError("`epsilon` must be above 0, `tolerance` between 0 and 1, and `iterations` at least 1")


def _shape(shape: Any) -> str:
    return "x".join(map(str, shape))
