"""Setting how many OpenMP threads there are and how they wait, best before torch is imported."""

import os
import sys
from collections.abc import MutableMapping

_SPIN_COUNT = "20000"  # about 50 µs


def wait_briefly(environment: MutableMapping[str, str] = os.environ) -> None:
    """Make waiting threads of libgomp (torch's OpenMP runtime on Linux) sleep early instead of spinning.

    By default they spin for milliseconds. Where cores are shared, this takes the core from the very thread that they
    wait for; where they are not, it gains nothing, because pauses within a training step are shorter than `_SPIN_COUNT`
    spins. A value that the user has set is kept. Results do not change.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", _SPIN_COUNT)


def compute_with(threads: int, environment: MutableMapping[str, str] = os.environ) -> None:
    """Let torch compute with so many threads on the CPU, from here on: sums of other numbers differ by rounding."""
    if "torch" not in sys.modules:
        wait_briefly(environment)
        environment["OMP_NUM_THREADS"] = environment["MKL_NUM_THREADS"] = str(threads)
    import torch

    torch.set_num_threads(threads)
