"""The device, its precision, and the configuration of Accelerate."""

import os
from collections.abc import Sequence

import torch
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin, InitProcessGroupKwargs

from debiasctl.compute import processes
from debiasctl.compute.device_names import check_device_name
from debiasctl.errors import UsageError
from debiasctl.reading.launched import launched
from debiasctl.specs.sections import ComputeSection
from debiasctl.wording import did_you_mean, quoted

_OVERRIDES = (
    "ACCELERATE_USE_FSDP",
    "ACCELERATE_USE_DEEPSPEED",
    "ACCELERATE_USE_MEGATRON_LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG",
    "ACCELERATE_USE_SAGEMAKER",
)
_TRUE = {"1", "true", "t", "yes", "y", "on"}


def make_accelerator(
    device: str, compute: ComputeSection | None = None, *, trackers: Sequence[str] = (), resumed: str | None = None
) -> Accelerator:
    """Make Hugging Face's Accelerator on `auto` (a GPU if there is one), `cpu` or `cuda`, for one process or several.

    `resumed` is the name of the run being resumed, for messages.

    Raises:
        UsageError: if `choose_device`, `check_environment`, `check_precision` or `check_trackers` raises it.
    """
    compute, chosen = compute or ComputeSection(), choose_device(device)
    check_environment()
    check_precision(compute, chosen, resumed=resumed)
    if compute.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = compute.precision == "tf32"
    precision = compute.precision if compute.precision in ("bf16", "fp16") else "no"
    _forget_another(chosen, precision)
    # all stated, because Accelerate would otherwise read environment variables, which no spec records
    return Accelerator(
        cpu=chosen.type == "cpu",
        mixed_precision=precision,
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        log_with=check_trackers(trackers) or None,
        dynamo_backend="no",
        kwargs_handlers=[InitProcessGroupKwargs(timeout=processes.PATIENCE)],
        project_dir=".",  # replaced by the run's folder once it exists; nothing is written before that
    )


def forget_computation() -> None:
    """Let the next training in this process choose its precision and its kernels, as the first one did."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    torch.use_deterministic_algorithms(False)


def _forget_another(device: torch.device, precision: str) -> None:
    """Drop Accelerate's state, of which a process has one, if it is of another precision or kind of device."""
    from accelerate.state import AcceleratorState, PartialState

    state = AcceleratorState._shared_state
    before = PartialState._shared_state.get("device", device)
    if before.type != device.type:
        AcceleratorState._reset_state(reset_partial_state=True)
    elif state and state.get("_mixed_precision") != precision:
        AcceleratorState._reset_state()  # and not the group of the processes


def choose_device(device: str) -> torch.device:
    """The torch device for `auto` (a GPU if there is one), `cpu`, `cuda`, or one of several GPUs, such as `cuda:1`.

    A numbered GPU becomes this process' current one.

    Raises:
        UsageError: if the name is unknown, or there is no such GPU.
    """
    name, number = check_device_name(device)
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            f"`device={device}`: torch sees no CUDA GPU. Use `device=cpu`, or install a CUDA build of torch"
        )
    if number is not None:
        if number >= torch.cuda.device_count():
            raise UsageError(f"`device={device}`: torch sees {torch.cuda.device_count()} GPUs, numbered from 0")
        torch.cuda.set_device(number)
        return torch.device("cuda", number)
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def check_environment() -> None:
    """Check that no environment variable makes Accelerate compute otherwise than the spec says.

    Raises:
        UsageError: if one does (configurations of `accelerate launch` set such variables), or `launched` raises it.
    """
    launched()
    for name in _OVERRIDES:
        if os.environ.get(name, "").strip().lower() in _TRUE:
            raise UsageError(
                f"the environment variable {name} is set (configurations of accelerate launch do this), and would "
                "change the computation without the spec recording it. Unset it, or choose another configuration. To "
                "shard the weights over processes, use `compute.sharding=fsdp`"
            )


def check_precision(compute: ComputeSection, device: torch.device, *, resumed: str | None = None) -> None:
    """Check that the device supports the precision; `resumed` is the name of the run being resumed, for messages.

    Raises:
        UsageError: if it does not.
    """
    if device.type != "cpu" or compute.precision not in ("fp16", "tf32"):
        return
    if resumed is None:
        raise UsageError(
            f"`compute.precision={compute.precision}` needs a CUDA GPU. On a CPU choose fp32, bf16 or fp64"
        )
    raise UsageError(
        f"run '{resumed}' is trained in {compute.precision}, which needs a CUDA GPU. Resume it on one "
        f"(`device=cuda`), or start a new run from its weights: `init_from={resumed}` `compute.precision=fp32`"
    )


def check_trackers(names: Sequence[str]) -> list[str]:
    """Return the trackers' names after checking that Accelerate knows each and that it is installed.

    Raises:
        UsageError: if one is unknown or not installed.
    """
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    known = sorted(map(str, LOGGER_TYPE_TO_CLASS))
    available = list(map(str, get_available_trackers()))
    for name in names:
        if name not in known:
            raise UsageError(f"unknown tracker {quoted(name)}.{did_you_mean(name, known)} Known: {', '.join(known)}")
        if name not in available:
            raise UsageError(f"`trackers={name}`: its package is not installed here. For example: pip install {name}")
    return list(names)
