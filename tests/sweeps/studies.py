"""Arms of studies, without training."""

from pathlib import Path
from typing import Any

from debiasctl.api import DataLocation
from debiasctl.cli.options import SETTINGS
from debiasctl.sweeps.plan import Arm, Common, make_arms
from debiasctl.sweeps.study import Origin, Study

LOCATION = DataLocation(data_dir=None, cache_dir=Path("no-cache"))
SHORT = {name.removeprefix("--").replace("-", "_"): setting for name, setting in SETTINGS.items()}


def arms_of(study: Study, origin: Origin | None = None, **common: Any) -> list[Arm]:
    return make_arms(study, Common(**common), LOCATION, short=SHORT, origin=origin or Origin())[0]


def names(**study: Any) -> list[str]:
    return [arm.name for arm in arms_of(Study(dataset="digits", **study))]
