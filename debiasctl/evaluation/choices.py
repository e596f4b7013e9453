"""What a user may choose of a measurement; imported before anything heavy is."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Choices:
    """What a user may choose of a measurement: `reference` as `--reference` names it, None for a run's own data.

    `export` is a file that the reference's statistics are written to.
    """

    features: str | None = None
    feature_weights: Path | None = None
    metrics: Sequence[str] | None = None
    reference: str | None = None
    export: Path | None = None
