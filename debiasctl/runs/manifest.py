"""A checkpoint's manifest, written last: its step, and the checksum of each of its files."""

import json
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from debiasctl.reading.documents import read_json
from debiasctl.registry.messages import damage
from debiasctl.runs.parts import MANIFEST


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
