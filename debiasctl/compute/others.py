"""How much other processes keep this machine's cores busy."""

import os
import time
from typing import Any

_SHORTEST = 0.5  # seconds over which the clocks of the cores, which tick a hundred times a second, say enough


class Others:
    """Watches, from its creation on, how many cores other processes use: of those that this process may use."""

    def __init__(self) -> None:
        self._begun, self._busy, self._own = time.monotonic(), _busy_seconds(), time.process_time()

    def num_cores(self) -> float:
        """How many cores others kept busy on average since; 0 where it was watched for too short a time."""
        watched = time.monotonic() - self._begun
        if watched < _SHORTEST:
            return 0.0
        others = _busy_seconds() - self._busy - (time.process_time() - self._own)
        return max(0.0, others / watched)


def _busy_seconds() -> float:
    import psutil

    cores = psutil.cpu_times(percpu=True)
    if hasattr(os, "sched_getaffinity"):
        allowed = os.sched_getaffinity(0)
        cores = [core for number, core in enumerate(cores) if number in allowed]
    return sum(map(_busy, cores))


def _busy(times: Any) -> float:
    """A core's seconds that were not idle; a guest's are among the user's already."""
    counted = times._asdict()
    idle = ("idle", "iowait", "guest", "guest_nice")
    return float(sum(seconds for name, seconds in counted.items() if name not in idle))
