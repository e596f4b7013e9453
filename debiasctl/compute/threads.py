"""How threads that compute together wait for one another; to be set before torch is imported."""

import os
from collections.abc import MutableMapping

_SPIN_COUNT = "20000"  # about 50 µs


def wait_briefly(environment: MutableMapping[str, str] = os.environ) -> None:
    """Have threads of libgomp, torch's on Linux, sleep soon when they wait for one that another program keeps waiting.

    By default they spin for milliseconds. That takes the core from the very thread that is waited for where the cores
    are shared, and gains nothing where they are not: pauses within a training step are shorter than this. What the user
    has set stands. Numbers do not change.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", _SPIN_COUNT)
