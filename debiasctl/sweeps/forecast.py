"""What a sweep will take, measured on a few steps of each of its networks."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from debiasctl import registry
from debiasctl.api import DataLocation, Dataset, DatasetInfo, Engine, content_key, num_cores
from debiasctl.compute.threads import compute_with
from debiasctl.specs.latents import trained_info
from debiasctl.specs.sections import RunSpec
from debiasctl.sweeps.progress import progress_of
from debiasctl.sweeps.store import StoredSweep, Sweep

_FORWARD = 1 / 3  # of a training step's time: the backward pass takes twice the forward pass


@dataclass(frozen=True)
class ArmForecast:
    """What each run of an arm takes: `training` and `sampling` in seconds alone on its threads, `disk` in bytes."""

    name: str
    parameters: int
    num_steps: int
    training: float
    sampling: float
    disk: int


@dataclass(frozen=True)
class SweepForecast:
    """What the rest of a sweep takes: `seconds` with `at_once` runs at a time, and `disk` in bytes for new runs."""

    arms: tuple[ArmForecast, ...]
    runs: int
    done: int
    at_once: int
    seconds: float
    disk: int


def sampling_seconds(step: float, spec: RunSpec, *, num: int, steps: Sequence[int]) -> float:
    """What drawing so many images takes, each in so many sampling steps, where a training step takes `step` seconds."""
    return step / spec.training.batch_size * _FORWARD * num * sum(steps)


def step_key(spec: RunSpec, info: DatasetInfo) -> str:
    """A key of all that the time of a training step depends on, on one device with the same threads."""
    settings = spec.model_dump(mode="json", include={"model", "compute"})
    return content_key([settings, spec.training.batch_size, asdict(trained_info(spec, info))])


def places(threads: int, *, device: str, jobs: int | None) -> int:
    """How many runs of so many threads the engine of this machine runs at once."""
    import torch

    from debiasctl.compute.device import choose_device

    chosen = choose_device(device)
    if jobs is not None:
        return jobs
    if chosen.type == "cuda":
        return 1 if chosen.index is not None else torch.cuda.device_count()
    return max(1, num_cores() // threads)


def forecast_sweep(
    sweep: Sweep, stored: StoredSweep, location: DataLocation, *, device: str, jobs: int | None
) -> SweepForecast:
    """Measure what a sweep will take here; nothing of it is stored, and what is trained already is left out.

    Where its jobs run elsewhere, it is measured on the device and in the precision that this machine has.

    Raises:
        UsageError: if an arm cannot be trained.
    """
    compute_with(stored.threads)
    engine: Engine = registry.create("engines", stored.engine)
    here = engine.runs_here()
    from debiasctl.training.estimate import estimate
    from debiasctl.training.speed import seconds_per_step

    times: dict[str, float] = {}
    found: dict[str, ArmForecast] = {}
    for arm in stored.arms:
        spec = arm.run_spec()
        dataset: Dataset = registry.create("datasets", spec.data.dataset.ref)
        info = dataset.info(location)
        key = step_key(spec, info)
        if key not in times:
            compute = spec.compute if here else spec.compute.model_copy(update={"precision": "auto"})
            measured = spec.model_copy(update={"compute": compute})
            times[key] = seconds_per_step(measured, info, device=device if here else "auto")
        plan = estimate(spec, info)
        count, steps = stored.evaluate.num, stored.evaluate.steps
        images = count * info.channels * info.image_size**2 * len(steps)
        kept = spec.training.keep_last + len(spec.training.keep_steps)
        found[arm.name] = ArmForecast(
            arm.name,
            plan.parameters,
            spec.training.steps,
            times[key] * spec.training.steps,
            sampling_seconds(times[key], spec, num=count, steps=steps),
            kept * plan.memory["checkpoint"] + images,
        )
    runs = progress_of(sweep, stored)
    seconds = 0.0
    for one in runs:
        if one.state != "done":
            own = found[one.arm]
            seconds += own.training * (1 - one.step / one.num_steps) + own.sampling
    at_once = min(places(stored.threads, device=device if here else "auto", jobs=jobs), len(runs))
    new = [one for one in runs if not one.run.path.is_dir()]
    return SweepForecast(
        tuple(found.values()),
        len(runs),
        sum(one.state == "done" for one in runs),
        at_once,
        seconds / at_once,
        sum(found[one.arm].disk for one in new),
    )
