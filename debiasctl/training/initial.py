"""Starting a run from another run's weights."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from torch import Tensor, nn

from debiasctl.compute import processes
from debiasctl.errors import CheckpointError, DebiasctlError, UsageError
from debiasctl.models.ema_snapshots import verify_file
from debiasctl.models.posthoc_ema import StoredAverage, store_average
from debiasctl.models.tensor_files import misfit, read_tensors
from debiasctl.models.weights import parse_weights
from debiasctl.runs.manifest import WEIGHT_FILES, verify
from debiasctl.runs.pins import pin_chosen
from debiasctl.runs.store import Run
from debiasctl.specs.sections import InitFromSection


def initial_weights(
    run: Run, weights: str = "ema", *, step: int | None = None
) -> tuple[dict[str, Tensor], InitFromSection]:
    """The weights of a run's checkpoint (default: the last), and their origin.

    `weights` is "ema", "ema:LENGTH" or "raw". If several processes train, each of them calls this; only the first
    reconstructs an average of another length and stores it in that run's folder.

    Raises:
        UsageError: if `weights` is none of these, that length cannot be reconstructed, or there is no such checkpoint.
        CheckpointError: if the run has no checkpoint, or the checkpoint is damaged.
    """
    kind, length = parse_weights(weights, argument="training.init_from.weights")
    if length is None:
        with ExitStack() as pins:
            chosen = pin_chosen(run, None if step is None else str(step), pins)
            path = run.checkpoint_path(chosen) / WEIGHT_FILES[kind]
            checksum = verify(path.parent, run, only=path.name)[path.name]
            tensors = _read(path, run)
        return tensors, InitFromSection(run=run.name, step=chosen, weights=weights, sha256=checksum)
    stored = _store_once(run, length, step=step)
    origin = InitFromSection(run=run.name, step=stored.step, weights=weights, sha256=stored.sha256)
    return _read(stored.path, run), origin


def _read(path: Path, run: Run) -> dict[str, Tensor]:
    try:
        return read_tensors(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} of run '{run.name}' is damaged: {error}. Restore it from a copy") from error


def _store_once(run: Run, length: float, *, step: int | None) -> StoredAverage:
    """Run `store_average` in the first process only; the others wait for its result and write nothing."""
    outcome: StoredAverage | DebiasctlError | None = None
    is_first = processes.rank() == 0
    if is_first:
        try:
            outcome = store_average(run, length, step=step)
        except DebiasctlError as error:
            outcome = error
    outcome = processes.agreed(outcome)
    if isinstance(outcome, DebiasctlError):
        raise outcome
    assert outcome is not None, "the first process broadcasts an outcome"
    if not is_first:
        verify_file(outcome.path, run, sha256=outcome.sha256)
    return outcome


def load_initial(network: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Load the weights of run `source` into a network, which must have tensors of the same names and shapes.

    Raises:
        UsageError: if a name or shape differs; the network is then unchanged.
    """
    differences = misfit(state, network.state_dict())
    if differences:
        raise UsageError(
            f"the weights of run '{source}' do not fit this run's network: {differences}. Use the data, "
            "`model.backbone`, `model.prediction`, model.conditional, model.label_dropout and model.learned_variance "
            f"that run was trained with; its spec.json states them (debiasctl runs path {source})"
        )
    network.load_state_dict(dict(state))
