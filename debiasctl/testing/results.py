"""What comes of checking a law."""

from dataclasses import dataclass
from typing import Literal

State = Literal["passed", "failed", "not checked"]


@dataclass(frozen=True)
class Result:
    """What came of checking one law."""

    law: str
    state: State
    detail: str = ""
