"""Reconstruct averages of any length from stored snapshots of others (EDM2, arXiv 2312.02696, §3.2)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor

from debiasctl.api import Extension
from debiasctl.errors import CheckpointError, DebiasctlError, RunError, UnknownPluginError, UsageError
from debiasctl.files import content_key
from debiasctl.models.ema_snapshots import (
    AverageDescription,
    Snapshot,
    folder_of,
    open_snapshot,
    read_description,
    snapshots,
    verify_file,
    write_tensors,
)
from debiasctl.models.power_profiles import Profile, ProfileBasis, gamma_of, length_name
from debiasctl.runs.store import Run

# The largest residual of the profile's fit. Up to it, the reconstructed weights are off by less than 1 % of the
# distance between the average and the raw weights; at twice as much they no longer are (measured on the trajectory of
# tests/models/test_posthoc_ema.py).
MAX_RESIDUAL = 0.02
_VERSION = 1  # of the reconstruction: increased when the same snapshots would give other weights
_TRIED = [number / 1000 for number in range(1, 281)]  # lengths that are tried, to report which can be reconstructed


@dataclass(frozen=True)
class StoredAverage:
    """A reconstructed average in the run's folder; `reused` says that it had been reconstructed before."""

    path: Path
    length: float
    step: int
    num_snapshots: int
    residual: float
    sha256: str
    reused: bool


@dataclass(frozen=True)
class _Plan:
    """The linear combination to compute: for each snapshot, the weight of each of its averages."""

    snapshots: Sequence[Snapshot]
    weights: Sequence[Mapping[float, float]]
    residual: float


def store_average(run: Run, length: float, *, step: int | None = None) -> StoredAverage:
    """Reconstruct the weights' power-function average of `length` after `step` steps (default: the last checkpoint's).

    It is stored in the run's folder; a stored one made from the same snapshots is reused. Snapshots are read one by
    one; only their sum is held, in float64 (twice the weights' size in float32). Buffers come from the last snapshot up
    to `step`, or from the first one.

    Raises:
        UsageError: if that average does not follow from the snapshots.
        CheckpointError: if there are no snapshots, or one is damaged; RunError: if an extension is not installed.
    """
    step = choose_average_step(run, step)
    sources = usable_snapshots(run, step)
    path = folder_of(run) / f"length-{length_name(length)}-{step:08d}.safetensors"
    identity = {"snapshots": [[source.step, source.sha256] for source in sources], "version": _VERSION}
    key = content_key(identity | {"length": length, "step": step})
    if path.is_file() and path.with_suffix(".json").is_file():
        stored, checksum = read_description(path, run, AverageDescription)
        if stored.key == key:
            verify_file(path, run, sha256=checksum)
            return StoredAverage(path, length, step, len(sources), stored.residual, checksum, True)
    plan = _plan(run, sources, length, step)
    about = AverageDescription(
        length=length,
        step=step,
        last_snapshot=sources[-1].step,
        num_snapshots=len(sources),
        residual=plan.residual,
        key=key,
    )
    checksum = write_tensors(path, _add_up(run, plan, step, _extensions(run)), about, run=run)
    return StoredAverage(path, length, step, len(sources), plan.residual, checksum, False)


def choose_average_step(run: Run, step: int | None) -> int:
    """Choose the step of an average: `step`, or the last checkpoint's if it is None.

    Raises:
        CheckpointError: if the run has no snapshot yet; UsageError: if it keeps none, or `step` is after the last one.
    """
    found = snapshots(run)
    if not found:
        raise _without_snapshots(run)
    last = found[-1].step
    chosen = (run.checkpoint_steps() or [last])[-1] if step is None else step
    if not 1 <= chosen <= last:
        what = "its last checkpoint is at step" if step is None else "it has none for step"
        raise UsageError(
            f"run '{run.name}' has snapshots of its averages up to step {last}; {what} {chosen}. "
            f"Choose a step from 1 to {last}, preferably one with a snapshot: {_some(found)}"
        )
    return chosen


def usable_snapshots(run: Run, step: int) -> list[Snapshot]:
    """The snapshots up to `step`, followed by the next one if there is none at that step itself."""
    found = snapshots(run)
    count = sum(snapshot.step < step for snapshot in found)
    return found[: count + 1]


def _plan(run: Run, sources: Sequence[Snapshot], length: float, step: int) -> _Plan:
    parts = [(number, stored) for number, source in enumerate(sources) for stored in source.lengths]
    basis = ProfileBasis([Profile(sources[number].step, gamma_of(stored)) for number, stored in parts])
    fit = basis.fit(Profile(step, gamma_of(length)))
    if fit.residual > MAX_RESIDUAL:
        raise UsageError(_unreachable(run, sources, basis, length, step, fit.residual))
    weights: list[dict[float, float]] = [{} for _ in sources]
    for (number, stored), weight in zip(parts, fit.weights.tolist(), strict=True):
        if weight:
            weights[number][stored] = weight
    return _Plan(sources, weights, fit.residual)


def _add_up(run: Run, plan: _Plan, step: int, extensions: Sequence[Extension]) -> dict[str, Tensor]:
    total: dict[str, Tensor] = {}
    dtypes: dict[str, torch.dtype] = {}
    buffers: dict[str, Tensor] = {}
    # the one whose buffers are taken, and that is the newest to the extensions
    holder = [plan.snapshots[0], *(source for source in plan.snapshots if source.step <= step)][-1]
    for source, weights in zip(plan.snapshots, plan.weights, strict=True):
        if not weights and source is not holder:
            continue
        with open_snapshot(source, run) as reader:
            for length, weight in weights.items():
                for name, tensor in reader.average(length):
                    if name not in total:
                        total[name], dtypes[name] = torch.zeros(tensor.shape, dtype=torch.float64), tensor.dtype
                    total[name].add_(tensor, alpha=weight)
            if source is holder:
                buffers = dict(reader.buffers())
    for name, dtype in dtypes.items():
        total[name] = total[name].to(dtype)  # one by one, so that never all of them are copied at once
    if extensions:
        with open_snapshot(holder, run) as reader:
            for name, newest in reader.average(holder.lengths[0]):
                for extension in extensions:
                    total[name] = extension.reconstructed(name, total[name], newest)
    return total | buffers


def _extensions(run: Run) -> list[Extension]:
    """The extensions that the run was trained with, which may change what follows from its snapshots.

    Raises:
        RunError: if one is not installed.
    """
    found = []
    for choice in run.spec().extensions:
        try:
            found.append(choice.create("extensions"))
        except UnknownPluginError as error:
            origin = "" if choice.distribution is None else f" of {choice.distribution} {choice.version}"
            way = "it" if choice.distribution is None else f"it, for example: pip install {choice.distribution}"
            raise RunError(
                f"run '{run.name}' was trained with extension '{choice.name}'{origin}, which is not installed here, "
                f"and averages are reconstructed with it. Install {way}; or use `weights=ema`, which needs none"
            ) from error
    return found


def _unreachable(
    run: Run, sources: Sequence[Snapshot], basis: ProfileBasis, length: float, step: int, residual: float
) -> str:
    message = (
        f"run '{run.name}': no combination of its {len(sources)} snapshots gives the average of length "
        f"{length_name(length)} at step {step}: the best fit has a residual of {residual:.1%} (allowed: "
        f"{MAX_RESIDUAL:.1%}). "
    )
    near = [near for near in sources if near.step == step]
    if not near:
        return f"{message}That step has no snapshot; choose one that has: {_some(snapshots(run))}"
    fits = [basis.fit(Profile(step, gamma_of(tried))) for tried in _TRIED]
    had = [tried if fit.residual <= MAX_RESIDUAL else None for tried, fit in zip(_TRIED, fits, strict=True)]
    ranges = [list(group) for there, group in groupby(had, key=bool) if there]
    reach = ", ".join(f"{group[0]}" if len(group) == 1 else f"{group[0]} to {group[-1]}" for group in ranges)
    return (
        f"{message}Available lengths: {reach or ', '.join(map(length_name, near[0].lengths))}. More snapshots in "
        "training (a smaller ema.snapshot_every) or other ema.lengths would give others"
    )


def _without_snapshots(run: Run) -> DebiasctlError:
    spec = run.spec().ema
    if spec.kind == "power":
        when = f"every {spec.snapshot_every} steps" if spec.snapshot_every else "with each checkpoint"
        return CheckpointError(
            f"run '{run.name}' has no snapshot of its averages yet; they are written {when}. "
            f"Train it further: debiasctl train --resume {run.typed}"
        )
    if run.spec().imported is not None:
        return UsageError(
            f"run '{run.name}' holds a model from elsewhere: one set of weights, and no snapshots of averages to "
            "reconstruct others from. Use `weights=ema`"
        )
    return UsageError(
        f"run '{run.name}' keeps one average (ema.kind={spec.kind}) and no snapshots to reconstruct others from. Train "
        "a run with `ema.kind=power` (and ema.lengths, ema.snapshot_every)"
    )


def _some(found: Sequence[Snapshot]) -> str:
    """List the steps of the last ten snapshots."""
    steps = [str(snapshot.step) for snapshot in found]
    return ", ".join((["…"] if len(steps) > 10 else []) + steps[-10:])
