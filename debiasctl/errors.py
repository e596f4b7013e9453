"""The errors that debiasctl raises for its users; each prints as one message, without a traceback."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Hint:
    """Options of a data set with which a refused request would be served: each of `ways` was tried.

    `problem` is the message without them.
    """

    problem: str
    ways: tuple[Mapping[str, Any], ...]


class DebiasctlError(Exception):
    """Something failed: the message says what, and what to do next. Exit code 1."""

    exit_code = 1
    hint: Hint | None = None  # the command line shows it as options of the command that was given


class UsageError(DebiasctlError):
    """The request makes no sense: a bad name, value or combination. Exit code 2."""

    exit_code = 2


class ReferenceSyntaxError(UsageError):
    """A plugin reference (`name:key=value,...`) that cannot be read."""


class UnknownPluginError(UsageError):
    """No installed distribution offers a plugin of that kind and name."""


class PluginOptionsError(UsageError):
    """The options of a plugin reference do not fit the plugin."""


class PluginConflictError(DebiasctlError):
    """Two installed distributions claim one plugin name."""


class PluginLoadError(DebiasctlError):
    """A plugin is installed but cannot be imported, or is not what its kind asks for."""


class PluginVersionError(PluginLoadError):
    """A plugin's distribution needs another version of debiasctl."""


class PluginError(DebiasctlError):
    """A plugin's code raised something, or returned what its kind does not allow; the message names the plugin."""


class SpecError(UsageError):
    """A run spec, or a part of one, is not valid."""


class RunNameError(UsageError):
    """A run's name is not allowed, is taken, or names no run."""


class RunError(DebiasctlError):
    """A run cannot be used as asked: it is damaged, has no checkpoint, or comes from a newer version."""


class RunBusyError(RunError):
    """Another process is training the run."""


class CheckpointError(RunError):
    """A checkpoint is missing, cut short or does not fit the run."""


class ForeignPartError(CheckpointError):
    """A stored part, such as a checkpoint or a set of samples, belongs to another run or request."""


class ArchiveError(DebiasctlError):
    """An archive is not a run's, or is not safe to unpack."""


class DataError(DebiasctlError):
    """A data set cannot be found, downloaded or read."""


class ModelError(DebiasctlError):
    """A model from elsewhere is not what its format says, or cannot be read."""


class EvaluationError(DebiasctlError):
    """Images cannot be measured as asked."""


class UnsuitableDataError(EvaluationError):
    """Features cannot be made from this data well enough for distances in them to say something."""


class MissingWeightsError(EvaluationError):
    """A network's weights are neither there nor to be had."""


class ComparisonError(DebiasctlError):
    """Runs cannot be compared as asked."""


class TrainingError(DebiasctlError):
    """Training cannot continue: a loss or gradient is not finite, or a resource ran out."""


class Interrupted(DebiasctlError):
    """Training was stopped, after a checkpoint was written. Exit code 128 + the signal's number, or 0 without one."""

    def __init__(self, message: str, *, signal_number: int | None) -> None:
        super().__init__(message)
        self.exit_code = 0 if signal_number is None else 128 + signal_number
