"""The errors that plugins raise for their users; each is printed as one message, without a traceback."""

from debiasctl.errors import (
    DataError,
    DebiasctlError,
    EvaluationError,
    Hint,
    ModelError,
    UnsuitableDataError,
    UsageError,
)

__all__ = ["DataError", "DebiasctlError", "EvaluationError", "Hint", "ModelError", "UnsuitableDataError", "UsageError"]
