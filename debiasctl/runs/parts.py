"""The parts of a run's folder: what each holds, and which of its files an archive takes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_SAFE = "[A-Za-z0-9][A-Za-z0-9._-]{0,127}"


@dataclass(frozen=True)
class Part:
    """An entry of a run's folder.

    `files` is the pattern of the paths in it that an archive takes ("" is the entry itself, a single file), `folders`
    that of the folders in it. A part without `files` is not exported.
    """

    holds: str
    files: str | None = None
    folders: str | None = None

    @property
    def exported(self) -> bool:
        """Whether an archive takes the part."""
        return self.files is not None


SPEC, STATUS, METRICS = "spec.json", "status.json", "metrics.jsonl"
CHECKPOINTS, EMA, SAMPLES, GRIDS = "checkpoints", "ema", "samples", "grids"
EVALUATIONS, ANALYSES, TRACKERS = "evaluations", "analyses", "trackers"
MANIFEST = "manifest.json"  # in a checkpoint's folder; a folder without one is no checkpoint
LOCK, TRAINER = ".lock", ".trainer.json"

PARTS: Mapping[str, Part] = {
    SPEC: Part("the settings", ""),
    STATUS: Part("how far the run is", ""),
    METRICS: Part("the figures of training, by step", ""),
    CHECKPOINTS: Part(
        "a folder for each checkpoint", rf"[0-9]{{1,12}}/{_SAFE}\.(safetensors|pt|json)", "([0-9]{1,12})?"
    ),
    EMA: Part("snapshots of averaged weights, and averages made from them", rf"{_SAFE}\.(safetensors|json)", ""),
    SAMPLES: Part("a folder for each set of images drawn", rf"{_SAFE}/{_SAFE}\.(png|npz|json)", f"({_SAFE})?"),
    GRIDS: Part("images drawn during training, by step", rf"{_SAFE}\.png", ""),
    EVALUATIONS: Part("measurements, and the features of the images", rf"{_SAFE}\.(json|features\.npz)", ""),
    ANALYSES: Part("analyses that earlier versions stored", rf"{_SAFE}\.json", ""),
    TRACKERS: Part("what trackers write, in any form"),
    LOCK: Part("the lock of the process that trains"),
    TRAINER: Part("the process that trains"),
}


def is_exported(path: str, *, folder: bool) -> bool:
    """Whether an archive may hold a file, or a folder, of that path in a run's folder; its parts are joined by '/'."""
    name, _, rest = path.partition("/")
    part = PARTS.get(name)
    allowed = None if part is None else part.folders if folder else part.files
    return allowed is not None and re.fullmatch(allowed, rest) is not None
