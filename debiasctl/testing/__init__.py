"""For the tests of plugins' packages: `check_weighting(MyScheme)` and the like, and what such tests need besides.

A check raises an AssertionError that lists every law of the kind that the plugin breaks, by which inputs, and what was
found; a law that cannot be checked here, because a file is lacking, say, is a `NotCheckedWarning`. The plugin needs no
entry point, and its options are given as a mapping: `check_weighting(MyScheme, {"gamma": 5})`. Nothing is downloaded.
"""

import importlib
from typing import TYPE_CHECKING, Any

__all__ = [
    "GaussianDenoiser",
    "NotCheckedWarning",
    "TinyTraining",
    "check_autoencoder",
    "check_backbone",
    "check_command",
    "check_dataset",
    "check_engine",
    "check_extension",
    "check_features",
    "check_model_source",
    "check_sampler",
    "check_schedule",
    "check_timesteps",
    "check_weighting",
    "tiny_dataset",
    "tiny_training",
]

if TYPE_CHECKING:
    from debiasctl.testing.checks import (
        NotCheckedWarning,
        check_autoencoder,
        check_backbone,
        check_command,
        check_dataset,
        check_engine,
        check_extension,
        check_features,
        check_model_source,
        check_sampler,
        check_schedule,
        check_timesteps,
        check_weighting,
    )
    from debiasctl.testing.gaussian import GaussianDenoiser
    from debiasctl.testing.tiny import TinyTraining, tiny_dataset, tiny_training
else:  # imported when they are first used: workers of engines import this package, and torch takes seconds
    _HOMES = {"GaussianDenoiser": "gaussian", "TinyTraining": "tiny", "tiny_dataset": "tiny", "tiny_training": "tiny"}

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'checks')}"), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
