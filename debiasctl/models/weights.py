"""Choosing the weights of a checkpoint by name, and loading them."""

import hashlib
from typing import Literal

from torch import nn

from debiasctl.errors import CheckpointError, UsageError
from debiasctl.models.checkpoint_files import load_weights
from debiasctl.models.posthoc_ema import store_average
from debiasctl.models.power_profiles import length_name, parse_length
from debiasctl.models.tensor_files import misfit, read_tensors
from debiasctl.runs.store import Run


def parse_weights(text: str, *, argument: str = "weights") -> tuple[Literal["ema", "raw"], float | None]:
    """Parse `ema`, `ema:LENGTH` or `raw` into the kind and the length, if there is one.

    Raises:
        UsageError: if the text is none of these.
    """
    if text == "raw":
        return "raw", None
    kind, colon, length = text.partition(":")
    if kind != "ema":
        raise UsageError(
            f"`{argument}={text}`: choose ema (the averaged weights), ema:LENGTH (an average of another length, such "
            "as ema:0.1) or raw (the weights without averaging)"
        )
    return "ema", parse_length(length, argument=f"{argument}=ema:LENGTH") if colon else None


def weights_name(text: str, *, argument: str = "weights") -> str:
    """The one spelling of the weights that `text` names, which keys of results contain.

    Raises:
        UsageError: if `parse_weights` raises it.
    """
    kind, length = parse_weights(text, argument=argument)
    return kind if length is None else f"{kind}:{length_name(length)}"


def load_named_weights(run: Run, network: nn.Module, *, step: int, weights: str) -> str:
    """Load `weights` ("ema", "ema:LENGTH" or "raw") at a checkpoint's step, and return the SHA-256 of what they are.

    That is their file's, or that of it and of code outside plugins which the network runs.

    Raises:
        UsageError: if the name is none of these; and the errors of `load_weights` and `load_average`.
    """
    kind, length = parse_weights(weights)
    if length is None:
        checksum = load_weights(run, network, step=step, weights=kind)
    else:
        checksum = load_average(run, network, length=length, step=step)
    code = run.spec().model.backbone.create("backbones").code_sha256()
    return checksum if code is None else hashlib.sha256(f"{checksum} {code}".encode()).hexdigest()


def load_average(run: Run, network: nn.Module, *, length: float, step: int) -> str:
    """Load the average of `length` after `step` steps into a network, and return its file's SHA-256.

    It is the checkpoint's primary average if that has this length, and else a reconstruction that the run then stores.

    Raises:
        UsageError: if that average does not follow from the snapshots.
        CheckpointError: if there are no snapshots, one is damaged, or the weights do not fit the network.
    """
    spec = run.spec().ema
    if spec.kind == "power" and length == spec.lengths[0] and step in run.checkpoint_steps():
        return load_weights(run, network, step=step, weights="ema")
    stored = store_average(run, length, step=step)
    try:
        tensors = read_tensors(stored.path)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{stored.path} is damaged: {error}. Remove it and its .json: it is made again"
        ) from error
    problem = misfit(tensors, network.state_dict())
    if problem:
        raise CheckpointError(f"the snapshots of run '{run.name}' do not fit its spec: {problem}")
    network.load_state_dict(tensors)
    return stored.sha256
