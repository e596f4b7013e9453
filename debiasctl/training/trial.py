"""A trial: settings that show in about ten minutes on this machine whether and what a model learns from the data."""

import math
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from debiasctl.api import DatasetInfo, content_key, num_cores
from debiasctl.files import write_json
from debiasctl.reading.documents import read_json
from debiasctl.specs.latents import trained_info
from debiasctl.specs.sections import RunSpec
from debiasctl.training.speed import busy_note, seconds_per_step, total_flops

MINUTES = 10
_MOST = (
    1.2 * 60 * MINUTES
)  # seconds that the steps may take; as their number is coarse, they take half of it on average
_FEWEST, _LARGEST = 100, 50_000
_SMALL = 5e13  # operations: a training of so few is a trial already; 8 minutes at 100 GFLOP/s
_VERSION = 2  # of what is measured and kept


def is_trial(recommended: RunSpec, info: DatasetInfo) -> bool:
    """Whether a data set's recommended settings are small enough for a trial: the same answer on every machine."""
    return total_flops(recommended, info) <= _SMALL


def trial_settings(info: DatasetInfo, *, kind: str) -> dict[str, Any]:
    """The network, batch and optimizer of a trial: a function of the images' size and the kind of device (cpu or gpu).

    `info` is of the latents, for a training on these. The settings do not depend on the weighting, so that trials of
    several weightings are comparable.
    """
    size, is_gpu = info.image_size, kind == "gpu"
    batch = 64 if size <= 16 else 32 if size <= 32 else 16 if size <= 64 else 8
    return {
        "model": {"backbone": _backbone(size, channels=64 if is_gpu else 32), "prediction": "v"},
        "diffusion": {"schedule": "cosine"},
        "optimizer": {
            "lr": 2e-3 if size <= 16 else 1e-3,
            "decay": "cosine",
            "weight_decay": 0.0,
            "clip_grad_norm": 1.0,
        },
        "training": {"batch_size": 2 * batch if is_gpu else batch},
    }


def budget_settings(steps: int) -> dict[str, Any]:
    """The settings that follow from the number of steps; the average covers about the last tenth of them."""
    return {
        "optimizer": {"warmup_steps": max(1, min(100, steps // 10))},
        "ema": {"kind": "decay", "decay": round(1 - 10 / max(20, steps), 6), "warmup": True},
        "training": {
            "steps": steps,
            "checkpoint_every": max(1, steps // 4),
            "heldout_every": max(1, steps // 4),
            "log_every": min(50, max(1, steps // 10)),
        },
    }


def trial_steps(spec: RunSpec, info: DatasetInfo, *, device: str, kind: str, cache_dir: Path) -> tuple[int, float]:
    """The number of steps of a trial here, 1, 2 or 5 times a power of ten, and the seconds that one takes."""
    seconds = measured_step(spec, info, device=device, kind=kind, cache_dir=cache_dir)
    return coarse_steps(_MOST / seconds), seconds


def measured_step(
    spec: RunSpec, info: DatasetInfo, *, device: str, kind: str, cache_dir: Path, threads: int | None = None
) -> float:
    """The seconds that a step takes here: measured once, and read from then on.

    What was measured is kept for the machine, the images' shape, the network and the `threads`, where they are not all
    cores, so that later trials have the same number of steps; what a busy machine measured, only while it is busy.
    """
    file = cache_dir / "trials" / f"{_key(spec, info, kind, threads)}.json"
    busy = busy_note(kind) is not None
    kept = _read(file, busy=busy)
    if kept is not None:
        return kept
    seconds = seconds_per_step(spec, info, device=device)
    write_json(file, {"seconds_per_step": seconds, "busy": busy})
    return seconds


def coarse_steps(most: float) -> int:
    """The largest of 1, 2 and 5 times a power of ten that is at most this many, within bounds."""
    numbers = [factor * 10**power for power in range(2, 5) for factor in (1, 2, 5)]
    return max((number for number in numbers if _FEWEST <= number <= min(most, _LARGEST)), default=_FEWEST)


def _backbone(size: int, *, channels: int) -> str:
    """A U-Net that halves the images to 8 pixels or fewer, or a transformer where they cannot be halved."""
    if size % 2:
        return f"dit:hidden_size={3 * channels},depth=4"
    levels = [size]
    while levels[-1] % 2 == 0 and (levels[-1] > 8 or len(levels) < 2):
        levels.append(levels[-1] // 2)
    widths = [1] * max(1, len(levels) - 2) + [2] * min(2, len(levels) - 1)
    listed = ",".join(map(str, widths))
    return f"unet:channels={channels},channel_mult=[{listed}],attention_resolutions=[{levels[-1]}]"


def _key(spec: RunSpec, info: DatasetInfo, kind: str, threads: int | None) -> str:
    """What the time of a step depends on, but for the weighting."""
    machine: dict[str, Any] = {"node": platform.node(), "cores": num_cores(), "kind": kind}
    if threads is not None:
        machine["threads"] = threads
    if torch.cuda.is_available():
        machine["gpu"] = torch.cuda.get_device_name()
    settings = spec.model_dump(mode="json", include={"model", "compute"})
    trained = trained_info(spec, info)
    shape = [trained.image_size, trained.channels, len(info.classes), spec.training.batch_size]
    return content_key({"machine": machine, "settings": settings, "shape": shape, "version": _VERSION})


def _read(file: Path, *, busy: bool) -> float | None:
    """What was kept, or None where nothing usable was; what was measured while `busy` is of use only while busy."""
    try:
        kept: Mapping[str, Any] = read_json(file)
        seconds, was_busy = kept["seconds_per_step"], kept["busy"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if was_busy is not False and not (was_busy is True and busy):
        return None
    return seconds if isinstance(seconds, float) and 0 < seconds < math.inf else None
