"""How many cases are drawn, from which seed, and how they are counted.

`DEBIASCTL_FUZZ_CASES` (in process, all targets together), `DEBIASCTL_FUZZ_COMMANDS` (whole commands) and
`DEBIASCTL_FUZZ_SEED` change them.
"""

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

CASES = int(os.environ.get("DEBIASCTL_FUZZ_CASES", "600"))
COMMANDS = int(os.environ.get("DEBIASCTL_FUZZ_COMMANDS", "12"))
SEED = int(os.environ.get("DEBIASCTL_FUZZ_SEED", "0"))
counted: Counter[str] = Counter()  # cases that ran, and how they ended, by target


def fuzz(share: float, *, total: int = CASES, **drawn: SearchStrategy[Any]) -> Callable[..., Any]:
    """Make a test of one case into one of `share` of all cases, which runs with the slow tests."""

    def decorate(test: Callable[..., Any]) -> Callable[..., Any]:
        examples = max(3, round(total * share))
        held = settings(
            max_examples=examples,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
            print_blob=False,
        )
        return pytest.mark.slow(seed(SEED)(held(given(**drawn)(test))))

    return decorate


def count(target: str, ended: object) -> None:
    """Count a case of `target` by how it ended."""
    counted[target, str(ended)] += 1
