"""Tiny data and tiny trainings, which end within a second on a CPU."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from debiasctl import registry
from debiasctl.api import DataLocation, Extension, LoadedDataset
from debiasctl.compute.device import make_accelerator
from debiasctl.data.content import content_section
from debiasctl.files import write_json
from debiasctl.models.tensor_files import read_state, read_tensors
from debiasctl.runs.manifest import STATE_FILE, WEIGHTS_SUFFIX
from debiasctl.runs.parts import SPEC
from debiasctl.runs.provenance import provenance
from debiasctl.runs.status import new_status
from debiasctl.runs.store import Run
from debiasctl.specs.resolve import resolve_spec
from debiasctl.testing.laws import Broken, same
from debiasctl.training.checkpoints import load_last
from debiasctl.training.loop import Progress, fit
from debiasctl.training.setup import resolve_compute, set_up

_DATASET = "gaussian-mixture:image_size=8,channels=1,components=3,num=48"
_SETTINGS: dict[str, Any] = {
    "data": {"dataset": _DATASET, "horizontal_flip": False},
    "model": {"backbone": "dit:patch_size=2,hidden_size=16,depth=1,num_heads=2", "prediction": "eps"},
    "diffusion": {"schedule": "linear"},
    "optimizer": {"lr": 1e-3, "warmup_steps": 0, "decay": "cosine", "clip_grad_norm": 1.0},
    "training": {"batch_size": 8, "heldout_images": 4, "log_every": 1},
    "compute": {"precision": "fp32", "compile": False},
}
_STEPS, _KILLED = 4, 2  # of a training, and those after which it is killed

OnStep = Callable[[int, nn.Module, Sequence[Extension]], None]


@dataclass(frozen=True)
class TinyTraining:
    """What a tiny training ends with.

    `network` and `averaged` are the last weights and their average, `losses` those of each step, `extensions` the
    extensions' objects, and `state` everything in the last checkpoint, by name.
    """

    network: nn.Module
    averaged: nn.Module
    losses: tuple[float, ...]
    extensions: tuple[Extension, ...]
    state: Mapping[str, Any]


@lru_cache(maxsize=1)
def _cache() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="debiasctl-testing-")


def no_files() -> DataLocation:
    """Where no files of a data set are: a cache that is empty at first and removed when the process ends."""
    return DataLocation(data_dir=None, cache_dir=Path(_cache().name))


def tiny_dataset(image_size: int = 8, channels: int = 1, classes: int = 3, num: int = 48) -> LoadedDataset:
    """Smooth grey or colour images, uint8, in a few classes; a quarter as many as `num` more are held out."""
    reference = f"gaussian-mixture:image_size={image_size},channels={channels},components={classes},num={num}"
    loaded: LoadedDataset = registry.create("datasets", reference).load(no_files())
    return loaded


def tiny_training(
    settings: Mapping[str, Any] | None = None, *, steps: int = _STEPS, on_step: OnStep | None = None
) -> TinyTraining:
    """Train a tiny network as `debiasctl train` does, in memory but for a temporary folder.

    `settings` are those of a spec, by section, such as `{"loss": {"weighting": "min-snr"}, "extensions": ["mine"]}`;
    by default a transformer is trained on images of 8x8 pixels in three classes. `on_step(done, network, extensions)`
    is called after each step.

    Raises:
        DebiasctlError: if training does.
    """
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        return _Tiny(Path(folder) / "run", settings or {}, steps).train(on_step)


def expect_exact_resume(settings: Mapping[str, Any]) -> None:
    """Check that a training that was killed and is resumed ends in the same bits as one that was not.

    Raises:
        Broken: if it does not; the message names what differs.
    """
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        tiny = _Tiny(Path(folder) / "run", settings, _STEPS)
        whole = tiny.train().state
        again = _Tiny(Path(folder) / "again", settings, _STEPS).train().state
        _expect_same_state(whole, again, "a training that was repeated")
        unstored = _Tiny(Path(folder) / "unstored", settings, _STEPS, middle=0).train().state
        _expect_same_state(whole, unstored, f"a training with a checkpoint after step {_KILLED}")
        tiny.forget()
        _expect_same_state(whole, tiny.train().state, f"a training that was killed after step {_KILLED} and resumed")


def _expect_same_state(first: Mapping[str, Any], second: Mapping[str, Any], what: str) -> None:
    apart = [name for name in sorted({*first, *second}) if not same(first.get(name), second.get(name))]
    if apart:
        shown = ", ".join(apart[:3]) + (f" and {len(apart) - 3} more" if len(apart) > 3 else "")
        raise Broken(
            f"{what} and another one that ran through, both from the same seed differ after step {_STEPS}, in {shown}"
        )


class _Tiny:
    """A run in a folder of its own, trained as the command line trains."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], steps: int, *, middle: int | None = None) -> None:
        middle = min(_KILLED, steps) if middle is None else middle
        kept = {"training": {"steps": steps, "checkpoint_every": steps, "keep_steps": sorted({0, middle})}}
        spec, _ = resolve_spec([_SETTINGS, settings, kept], no_files())
        self._spec = resolve_compute(spec, torch.device("cpu"))
        self._run, self._steps, self._middle = Run(folder), steps, middle

    def train(self, on_step: OnStep | None = None) -> TinyTraining:
        """Train from the last checkpoint, or from the start."""
        data: LoadedDataset = self._spec.data.dataset.create("datasets").load(no_files())
        if not self._run.path.exists():
            self._begin(data)
        training = set_up(self._run.spec(), data, accelerator=make_accelerator("cpu", self._spec.compute))
        losses: list[float] = []

        def on_progress(progress: Progress) -> None:
            losses.append(progress.loss)
            if on_step is not None:
                on_step(progress.step, training.network, training.extensions)

        fit(self._run, training, data, on_progress=on_progress, restored=load_last(self._run, training))
        return TinyTraining(
            training.network, training.ema.network, tuple(losses), tuple(training.extensions), self._state()
        )

    def forget(self) -> None:
        """Leave what a killed training leaves: the checkpoint in the middle is the last."""
        for step in self._run.checkpoint_steps():
            if step > self._middle:
                shutil.rmtree(self._run.checkpoint_path(step))

    def _begin(self, data: LoadedDataset) -> None:
        self._run.path.mkdir(parents=True)
        spec = self._spec.model_copy(update={"content": content_section(data), "provenance": provenance()})
        write_json(self._run.path / SPEC, spec.model_dump(mode="json"))
        status = new_status(num_steps=self._steps, dataset="tiny", weighting=spec.loss.weighting.name, seed=0)
        self._run.write_status(status)

    def _state(self) -> dict[str, Any]:
        """All that the last checkpoint holds, by name."""
        folder = self._run.checkpoint_path(self._steps)
        found: dict[str, Any] = {}
        for path in sorted(folder.glob(f"*{WEIGHTS_SUFFIX}")):
            stem = path.name.removesuffix(WEIGHTS_SUFFIX)
            found |= {f"{stem}/{name}": tensor for name, tensor in read_tensors(path).items()}
        return found | dict(_flat(read_state(folder / STATE_FILE)))


def _flat(value: Any, prefix: str = "state") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}/{key}")
    elif isinstance(value, list | tuple):
        yield from _flat(dict(enumerate(value)), prefix)
    else:
        yield prefix, value
