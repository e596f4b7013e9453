"""The machine that a plugin computes on."""

import os

from debiasctl.frames import is_importing as is_importing


def num_cores(*, at_most: int | None = None) -> int:
    """The number of cores that this process may use, limited to `at_most` if given."""
    # the cores that a cluster or `taskset` assigns to the process, where the system reports them
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores if at_most is None else min(cores, at_most)
