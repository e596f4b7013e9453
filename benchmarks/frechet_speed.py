"""The Fréchet distance against clean-fid's, on spectra as steep as Inception's: time, paired, and agreement.

python benchmarks/frechet_speed.py [--dimension 2048] [--rounds 2]

Both measure one set after another against one reference, whose root debiasctl keeps with its statistics. clean-fid
calls scipy.linalg.sqrtm(disp=False), which SciPy 1.18 has no more; it is given that signature back.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import cleanfid.fid
import scipy.linalg
import torch
from torch import Tensor

from debiasctl.evaluation.metrics.distances import covariance_root, frechet_distance

_SQRTM = scipy.linalg.sqrtm


def with_disp(matrix: Any, disp: bool = True) -> Any:
    root = _SQRTM(matrix)
    return root if disp else (root, 0.0)


def moments(dimension: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Of a Gaussian with eigenvalues 10/k², turned a little for seeds other than 0."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(dimension, dimension, generator=generator, dtype=torch.float64))[0]
    spectrum = 10 * torch.arange(1, dimension + 1, dtype=torch.float64) ** -2.0 * (1 + 0.1 * seed)
    if seed:
        generator.manual_seed(seed)
        turn = torch.randn(dimension, dimension, generator=generator, dtype=torch.float64) / dimension**0.5
        basis = torch.linalg.qr(basis + 0.01 * basis @ turn)[0]
    mean = 0.05 * seed * torch.randn(dimension, generator=generator, dtype=torch.float64)
    return mean, basis * spectrum @ basis.T


def timed(function: Callable[[], float]) -> tuple[float, float]:
    start = time.perf_counter()
    value = function()
    return time.perf_counter() - start, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dimension", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    cleanfid.fid.linalg.sqrtm = with_disp
    mean2, cov2 = moments(options.dimension, seed=0)
    seconds, root = timed(lambda: covariance_root(cov2))  # type: ignore[arg-type,return-value]
    print(f"d = {options.dimension}, {torch.get_num_threads()} thread(s); the reference's root, once: {seconds:.2f} s")
    ratios = []
    for seed in range(1, options.rounds + 1):
        mean1, cov1 = moments(options.dimension, seed=seed)
        given = (mean1, cov1, mean2, cov2)
        own, value = timed(lambda given=given: frechet_distance(*given, root2=root))
        arrays = [tensor.numpy() for tensor in given]
        theirs, other = timed(lambda arrays=arrays: float(cleanfid.fid.frechet_distance(*arrays)))
        ratios.append(theirs / own)
        print(
            f"debiasctl {own:.2f} s, clean-fid {theirs:.2f} s, ratio {theirs / own:.1f}; "
            f"{value:.9g} and {other:.9g}: relative difference {abs(value - other) / other:.1e}",
            flush=True,
        )
    print(f"median ratio {statistics.median(ratios):.1f}")


if __name__ == "__main__":
    main()
