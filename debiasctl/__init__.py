"""Find out which loss weighting to train a diffusion model with, and why (arXiv 2310.08442)."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "analyze",
    "compare",
    "dataset",
    "evaluate",
    "identify",
    "run",
    "sampler",
    "timesteps",
    "weighting",
]

# where each name of the Python API is defined, which is imported when it is first used: torch takes seconds
_HOMES = {
    "analyze": "debiasctl.python.analyses",
    "compare": "debiasctl.python.measure",
    "dataset": "debiasctl.python.plugins",
    "evaluate": "debiasctl.python.measure",
    "identify": "debiasctl.analysis.identify",
    "run": "debiasctl.python.runs",
    "sampler": "debiasctl.python.plugins",
    "timesteps": "debiasctl.python.timesteps",
    "weighting": "debiasctl.python.weights",
}

if TYPE_CHECKING:
    from debiasctl.analysis.identify import identify
    from debiasctl.python.analyses import analyze
    from debiasctl.python.measure import compare, evaluate
    from debiasctl.python.plugins import dataset, sampler
    from debiasctl.python.runs import run
    from debiasctl.python.timesteps import timesteps
    from debiasctl.python.weights import weighting
else:  # a type checker that saw it would allow any name

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'debiasctl' has no attribute '{name}'. It has: {', '.join(sorted(_HOMES))}")
        found = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
