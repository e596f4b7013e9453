"""The machine that a plugin computes on."""

import os


def num_cores(*, at_most: int | None = None) -> int:
    """How many cores this process may use, `at_most` so many where that is given."""
    # what a cluster or `taskset` leaves to the process; not every system tells
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores if at_most is None else min(cores, at_most)
