"""A checkpoint's manifest, written last: its step, and its files' checksums, by which it is verified."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from debiasctl.errors import CheckpointError
from debiasctl.reading.documents import read_json
from debiasctl.reading.regular import sha256_file
from debiasctl.registry.messages import damage
from debiasctl.runs.parts import MANIFEST
from debiasctl.runs.store import Run

RAW, EMA = "model", "ema"  # names of the weights and of their primary average
Weights = Literal["ema", "raw"]
WEIGHTS_SUFFIX = ".safetensors"
WEIGHT_FILES: Mapping[Weights, str] = {"ema": f"{EMA}{WEIGHTS_SUFFIX}", "raw": f"{RAW}{WEIGHTS_SUFFIX}"}
STATE_FILE = "state.pt"
_FURTHER = re.compile(r"ema-[0-9]{1,6}(\.[0-9]{1,6})?\.safetensors")  # further averages


class Manifest(BaseModel):
    """The contents of a manifest; `sha256` is by file name, `run` the run's identity (None in old runs)."""

    model_config = ConfigDict(frozen=True, strict=True)

    step: int
    run: str | None = None
    sha256: dict[str, str]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the manifest in a checkpoint's folder.

        Raises:
            OSError: if it cannot be read; ValueError: if it is damaged.
        """
        try:
            return cls.model_validate(read_json(folder / MANIFEST))
        except ValidationError as error:
            raise ValueError(damage(error)) from error

    def to_bytes(self) -> bytes:
        """Return the manifest as it is stored."""
        return (json.dumps(self.model_dump(mode="json"), indent=2) + "\n").encode()


def verify(path: Path, run: Run, only: str | None = None) -> dict[str, str]:
    """Verify a checkpoint's files (or `only` one of them), and return the checksums in its manifest by file name.

    Raises:
        CheckpointError: if a file is missing, truncated or changed; the message names it.
        ForeignPartError: if it is another run's checkpoint.
    """
    try:
        manifest = Manifest.read(path)
        sums = manifest.sha256
        # an imported manifest could name any file
        if {*WEIGHT_FILES.values(), STATE_FILE} != {name for name in sums if not _FURTHER.fullmatch(name)}:
            raise ValueError(f"{MANIFEST} does not name the files of a checkpoint")
        if manifest.step != int(path.name):
            raise ValueError(f"{MANIFEST} states step {manifest.step}")
        run.check_identity(
            manifest.run,
            what=f"checkpoint {int(path.name)} in {path}",
            way_on="Move it away, to the run that it belongs to",
        )
        damaged = [
            name for name, expected in sums.items() if only in (None, name) and sha256_file(path / name) != expected
        ]
    except (OSError, ValueError) as error:
        if not path.exists():
            raise CheckpointError(
                f"checkpoint {int(path.name)} of run '{run.name}' is not there any more: {path} was removed"
            ) from error
        raise CheckpointError(damage_of(path, run, f"{type(error).__name__}: {error}")) from error
    if damaged:
        raise CheckpointError(damage_of(path, run, f"{', '.join(damaged)} differs from its checksum"))
    return sums


def damage_of(path: Path, run: Run, cause: str) -> str:
    """The message that a checkpoint is damaged."""
    return f"checkpoint {int(path.name)} of run '{run.name}' is damaged ({cause}): {path}"
