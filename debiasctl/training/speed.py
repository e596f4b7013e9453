"""How long a training will take here, measured on a few steps of the same network on images of noise."""

import os
import statistics
import time
from contextlib import suppress

import torch

from debiasctl.api import ArraySplit, DatasetInfo, LoadedDataset, num_cores
from debiasctl.compute.device import choose_device, make_accelerator
from debiasctl.compute.memory import available_memory
from debiasctl.errors import ModelError, PluginError, UsageError
from debiasctl.models.build import network_without_memory
from debiasctl.models.network_size import size_of
from debiasctl.specs.latents import trained_info
from debiasctl.specs.recorded import ContentSection
from debiasctl.specs.sections import RunSpec
from debiasctl.training.estimate import state_bytes
from debiasctl.training.meters import flops_per_image
from debiasctl.training.setup import resolve_compute, set_up
from debiasctl.training.step import train_step
from debiasctl.wording import format_bytes

_STEPS, _SECONDS = 20, 4.0  # the most that is measured, after a first step that warms up
_LEAST = 2  # steps that are measured however long they take, unless the first one took longer than this many seconds:
_LONG_STEP = 20.0
_MOST_PER_CORE = 5e12  # operations of a step for each core of a CPU: one of more would take minutes
_BUSY = 1.25  # processes that want to run for each core, from which a machine is busy; this one is among them


class UnmeasuredError(UsageError):
    """Measuring a step would take more memory than this machine has free, or minutes."""


def seconds_per_step(spec: RunSpec, info: DatasetInfo, *, device: str) -> float:
    """Measure the training step of a spec: the median time of a few steps, without torch.compile and extensions.

    Nothing of it stays, and a training that follows is the same as without it.

    Raises:
        UnmeasuredError: if the network and its optimizer do not fit into free memory, or a step takes minutes.
        UsageError: if the spec cannot be trained (see `set_up`).
    """
    with suppress(PluginError, ModelError):  # a network that needs real numbers is measured
        _check_measurable(spec, info, choose_device(device))
    info = trained_info(spec, info)
    spec = resolve_compute(spec, choose_device(device))
    compute = spec.compute.model_copy(update={"compile": False})
    spec = spec.model_copy(update={"compute": compute, "extensions": ()})
    accelerator = make_accelerator(device, spec.compute)
    times: list[float] = []
    with torch.random.fork_rng():
        training = set_up(spec, _noise(spec, info), accelerator=accelerator, warn=False)
        with training.batches:
            while len(times) < _STEPS and (len(times) <= _LEAST or sum(times[1:]) < _SECONDS):
                start = time.perf_counter()
                train_step(training, len(times))
                if accelerator.device.type == "cuda":
                    torch.cuda.synchronize()
                times.append(time.perf_counter() - start)
                if times[0] > _LONG_STEP:
                    break
    del training
    if accelerator.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return statistics.median(times[1:] or times)


def busy_note(kind: str) -> str | None:
    """A note where other work keeps more cores busy than there are, so that a step on a CPU takes longer than alone."""
    import psutil

    load, cores = psutil.getloadavg()[0], os.cpu_count() or 1
    if kind != "cpu" or load <= _BUSY * cores:
        return None
    return (
        f"other work runs on this machine (load average {load:.1f} on {cores} core{'s' if cores > 1 else ''}), so a "
        "step takes longer now than it would alone"
    )


def total_flops(spec: RunSpec, info: DatasetInfo) -> float:
    """The floating-point operations of a whole training, counted on a network without memory."""
    return _counted(spec, info)[1] * spec.training.steps


def _check_measurable(spec: RunSpec, info: DatasetInfo, device: torch.device) -> None:
    """Raise UnmeasuredError where measuring a step would take the machine's memory, or minutes."""
    parameters, operations = _counted(spec, info)
    needed, memory = sum(state_bytes(spec, parameters).values()), available_memory(device)
    if needed > memory:
        raise UnmeasuredError(
            f"a step is not measured: the network's weights, their averages and the optimizer's state take "
            f"{size_of(needed)}, and {format_bytes(memory)} of memory are free here. Measure it on a machine with "
            "more, or choose a smaller `model.backbone`"
        )
    cores = num_cores()
    if device.type == "cpu" and operations > _MOST_PER_CORE * cores:
        raise UnmeasuredError(
            f"a step is not measured: it takes {operations:.1e} operations, which are minutes or hours on "
            f"{cores} core{'s' if cores > 1 else ''}. Measure it on a GPU, or choose a smaller `model.backbone` or "
            "`training.batch_size`"
        )


def _counted(spec: RunSpec, info: DatasetInfo) -> tuple[int, float]:
    """The parameters of the network, and the operations of a training step."""
    info = trained_info(spec, info)
    content = ContentSection(
        image_size=info.image_size,
        channels=info.channels,
        classes=info.classes,
        class_counts=(),
        num_train=info.num_train,
        num_heldout=info.num_heldout,
        content_hash="",
    )
    network = network_without_memory(spec, content)
    counted = spec.model_copy(update={"content": content})
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return parameters, float(flops_per_image(network, counted)) * spec.training.batch_size


def _noise(spec: RunSpec, info: DatasetInfo) -> LoadedDataset:
    """Images of noise, as many as a batch, in the form of the data."""
    num = spec.training.batch_size
    generator = torch.Generator().manual_seed(0)
    shape = (num, info.channels, info.image_size, info.image_size)
    images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    labels = torch.arange(num) % len(info.classes) if info.classes else None
    split = ArraySplit(images, labels)
    return LoadedDataset(info, split, split, content_hash="")
