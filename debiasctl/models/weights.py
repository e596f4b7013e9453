"""Which weights of a checkpoint are meant, and loading them."""

from typing import Literal

from safetensors.torch import load_file
from torch import nn

from debiasctl.errors import CheckpointError, UsageError
from debiasctl.models.checkpoint_files import load_weights
from debiasctl.models.posthoc_ema import store_average
from debiasctl.models.power_profiles import parse_length
from debiasctl.runs.store import Run


def parse_weights(text: str, *, argument: str = "weights") -> tuple[Literal["ema", "raw"], float | None]:
    """`ema`, `ema:LENGTH` or `raw`; the length, where there is one.

    Raises:
        UsageError: it is none of these.
    """
    if text == "raw":
        return "raw", None
    kind, colon, length = text.partition(":")
    if kind != "ema":
        raise UsageError(
            f"`{argument}={text}`: choose ema (the average of the weights), ema:LENGTH (one of another length, such as "
            "ema:0.1) or raw (the last ones)"
        )
    return "ema", parse_length(length, argument=f"{argument}=ema:LENGTH") if colon else None


def load_named_weights(run: Run, network: nn.Module, *, step: int, weights: str) -> str:
    """Load what `weights` names ("ema", "ema:LENGTH" or "raw") at a checkpoint's step; returns its file's SHA-256.

    Raises:
        UsageError: there is no such name; and what `load_weights` and `load_average` raise.
    """
    kind, length = parse_weights(weights)
    if length is None:
        return load_weights(run, network, step=step, weights=kind)
    return load_average(run, network, length=length, step=step)


def load_average(run: Run, network: nn.Module, *, length: float, step: int) -> str:
    """Load the average of `length` after `step` steps into a network; returns the SHA-256 of the file it is from.

    It is the checkpoint's own where that tracks this length first, else a reconstruction, which the run then keeps.

    Raises:
        UsageError, CheckpointError: see `reconstruct`; or the weights do not fit the network.
    """
    spec = run.spec().ema
    if spec.kind == "power" and length == spec.lengths[0] and step in run.checkpoint_steps():
        return load_weights(run, network, step=step, weights="ema")
    stored = store_average(run, length, step=step)
    try:
        network.load_state_dict(load_file(stored.path))
    except RuntimeError as error:
        raise CheckpointError(f"the snapshots of run '{run.name}' do not fit its spec: {error}") from error
    return stored.sha256
