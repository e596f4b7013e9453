"""How a training is conducted; importing this does not import torch, so the command line can make one early."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from debiasctl.api import LoadedDataset
    from debiasctl.models.latent_space import LatentSpace
    from debiasctl.runs.store import Run
    from debiasctl.specs.sections import RunSpec
    from debiasctl.training.loop import Observer, Progress
    from debiasctl.training.training import Training


@dataclass(frozen=True)
class Conduct:
    """The settings of how a training is conducted, which do not influence its results.

    `device` is auto, cpu or cuda; `on_start(run, spec, parameters, step)` is called before the first step, which is the
    one after `step`; callbacks are called in the first process only. `observer` is called if the spec has a monitor,
    with the images and what makes images of latents, if the network is trained on these.
    """

    device: str = "auto"
    max_hours: float | None = None
    trackers: tuple[str, ...] = ()
    on_start: "Callable[[Run, RunSpec, int, int], None]" = lambda run, spec, parameters, step: None
    on_progress: "Callable[[Progress], None]" = lambda progress: None
    observer: "Callable[[Training, LoadedDataset, LatentSpace | None], Observer] | None" = None
