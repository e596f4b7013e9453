"""Reading study files."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from debiasctl.errors import UsageError
from debiasctl.reading.documents import parse_yaml, yaml_lines
from debiasctl.reading.regular import read_text
from debiasctl.registry.messages import describe_problem, problems_of
from debiasctl.sweeps.study import Origin, Place, Study
from debiasctl.wording import one_line

ENDINGS = (".yaml", ".yml", ".json")


def is_study_file(text: str) -> bool:
    """Whether what was given as a sweep's data set is the path of a study file."""
    return text.lower().endswith(ENDINGS)


def read_study(path: Path) -> tuple[Study, Origin]:
    """Read a study in YAML, or in JSON, which is YAML too; without a name it has the file's.

    Raises:
        UsageError: if the file cannot be read, or is no study; the message names the line.
    """
    try:
        text = read_text(path)
        raw = parse_yaml(text)
    except OSError as error:
        raise UsageError(f"study file {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"study file {path} cannot be read: {one_line(error)}") from error
    if not isinstance(raw, dict):
        raise UsageError(f"study file {path} must hold keys such as dataset, grid and seeds")
    origin = Origin(str(path), yaml_lines(text))
    _check_finite(raw, origin)
    try:
        study = Study.model_validate(raw)
    except ValidationError as error:
        problem = min(problems_of(error), key=lambda one: origin.lines.get(tuple(one["loc"])[:1], 0))
        raise UsageError(f"{origin.at(tuple(problem['loc']))}{describe_problem(problem, Study)}") from error
    return (study if study.name is not None else study.model_copy(update={"name": path.stem})), origin


def _check_finite(raw: Mapping[str, Any], origin: Origin) -> None:
    """Refuse YAML's .nan and .inf, which no setting takes and no record can hold."""
    waiting: list[tuple[Place, Any]] = [((), raw)]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"{origin.at(place)}{value} is not a finite number. Give one that is")
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        waiting += [((*place, key), one) for key, one in inner]
