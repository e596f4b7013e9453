"""From a spec to the objects that train: built once, before the first step."""

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin, InitProcessGroupKwargs
from torch import nn

from debiasctl import processes
from debiasctl.api import Extension, LearnedWeighting, LoadedDataset
from debiasctl.diffusion.objective import Objective
from debiasctl.diffusion.parameterization import Parameterization
from debiasctl.diffusion.process import process_of
from debiasctl.errors import DebiasctlError, UsageError
from debiasctl.registry import resolve
from debiasctl.specs import ComputeSection, RunSpec, embedded_classes, image_shape
from debiasctl.training.checks import check_environment, check_precision, check_trackers
from debiasctl.training.data import BatchSource
from debiasctl.training.ema import EMA
from debiasctl.training.guard import Guard
from debiasctl.training.speed import prepare_process, set_layout

_LOG = logging.getLogger(__name__)
COMPILED_STEPS = 5000  # from which on torch.compile's minutes pay for themselves


@dataclass
class LearnedWeight:
    """What a weighting learns beside the network, with an optimizer of its own."""

    module: nn.Module
    optimizer: torch.optim.Optimizer


@dataclass
class Training:
    """Everything that a training step touches."""

    spec: RunSpec
    objective: Objective
    model: nn.Module
    ema: EMA
    optimizer: torch.optim.Optimizer
    batches: BatchSource
    extensions: list[Extension]
    accelerator: Accelerator
    guard: Guard
    learned: LearnedWeight | None = None
    null_label: int | None = None  # the class that stands for none, where some images are shown without theirs

    @property
    def dtype(self) -> torch.dtype:
        """That of the weights and of x_t; lower precisions are autocast's business."""
        return torch.float64 if self.spec.compute.precision == "fp64" else torch.float32

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]:
        """The network's, and that of a learned weighting."""
        return [self.optimizer, *([self.learned.optimizer] if self.learned else [])]

    @property
    def modules(self) -> list[nn.Module]:
        """All that has gradients, as it is called."""
        return [self.model, *([self.learned.module] if self.learned else [])]

    @property
    def network(self) -> nn.Module:
        """The network itself, without what distribution wraps around it."""
        network: nn.Module = self.accelerator.unwrap_model(self.model)
        return network


def build_parameterization(spec: RunSpec) -> Parameterization:
    """Process and prediction type: all that sampling needs of an objective.

    Raises:
        UsageError: the two cannot be combined (eps-prediction at zero terminal SNR).
    """
    schedule = resolve("schedules", spec.diffusion.schedule.ref)
    process = process_of(schedule.create(), schedule.options)  # type: ignore[arg-type]
    return Parameterization(
        spec.model.prediction,
        process,
        sigma_data=spec.model.sigma_data,
        learned_variance=spec.model.learned_variance,
    )


def build_objective(spec: RunSpec) -> Objective:
    """Process, parameterization, weighting and distribution of t; warns where sampling starts from what is ignored.

    Raises:
        UsageError: see `build_parameterization`; DebiasctlError: see `Objective.tables`.
    """
    weighting = spec.loss.weighting.create("weightings")
    learned = None
    if hasattr(weighting, "build"):
        if not isinstance(weighting, LearnedWeighting):
            raise DebiasctlError(
                f"weighting '{spec.loss.weighting.name}' has build() and so is learned, but no learning_rate. "
                "See LearnedWeighting in debiasctl.api"
            )
        with torch.random.fork_rng():
            torch.manual_seed(derived_seed(spec.training.seed, "weighting"))
            learned = weighting.build()
    objective = Objective(
        build_parameterization(spec),
        weighting,
        spec.loss.timesteps.create("timesteps"),
        normalize=spec.loss.normalize,
        variance_weight=spec.loss.variance_weight,
        learned=learned,
    )
    warning = objective.warning()
    if warning:
        _LOG.warning("note: %s", warning)
    return objective


def build_network(spec: RunSpec, *, image_size: int, channels: int, num_classes: int) -> nn.Module:
    """The backbone, with weights drawn from the run's seed.

    Raises:
        UsageError: the backbone cannot be built for images of this size.
    """
    shape = image_shape(spec.model, image_size=image_size, channels=channels)
    backbone = spec.model.backbone.create("backbones")
    with torch.random.fork_rng():
        torch.manual_seed(derived_seed(spec.training.seed, "weights"))
        network: nn.Module = backbone.build(shape, embedded_classes(spec.model, num_classes))
    return network


def set_up(
    spec: RunSpec,
    data: LoadedDataset,
    *,
    accelerator: Accelerator,
    initialize: Callable[[nn.Module], None] | None = None,
) -> Training:
    """All the objects of a training, on the accelerator's device, at step 0.

    `initialize` may put other weights into the new network, before anything is made of it.

    Raises:
        UsageError: see `build_objective`, `build_network`. That the processes can share it out was seen before.
    """
    prepare_process()
    objective = build_objective(spec)
    info = data.info
    network = build_network(spec, image_size=info.image_size, channels=info.channels, num_classes=len(info.classes))
    if spec.compute.precision == "fp64":
        network = network.double()
    if initialize is not None:
        initialize(network)
    set_layout(network, channels_last=spec.compute.channels_last)
    network = network.to(accelerator.device)
    ema = EMA(network, spec.ema, batch_size=spec.training.batch_size)
    if spec.compute.sharding == "fsdp":
        for module in (network, ema.network, *ema.averages.values()):
            shard(module, accelerator)
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=spec.optimizer.lr,
        betas=spec.optimizer.betas,
        eps=spec.optimizer.eps,
        weight_decay=spec.optimizer.weight_decay,
        fused=True if spec.compute.sharding == "none" else None,
    )
    # one that is shared out gathers its weights and gradients itself, and is only to be given its precision
    model = accelerator.prepare_model(network, evaluation_mode=spec.compute.sharding == "fsdp")
    prepared = accelerator.prepare_optimizer(optimizer)
    batches = BatchSource(
        data.train,
        seed=spec.training.seed,
        batch_size=spec.training.batch_size,
        horizontal_flip=spec.data.horizontal_flip,
        conditional=bool(spec.model.conditional),
        device=accelerator.device,
        process_index=accelerator.process_index,
        num_processes=accelerator.num_processes,
    )
    extensions = [choice.create("extensions") for choice in spec.extensions]
    learned = _learned_weight(objective, accelerator, next(network.parameters()).dtype)
    if spec.compute.compile:
        network.compile()
    guard = Guard(network, accelerator)
    null_label = len(info.classes) if spec.model.label_dropout else None
    return Training(spec, objective, model, ema, prepared, batches, extensions, accelerator, guard, learned, null_label)


def shard(network: nn.Module, accelerator: Accelerator) -> None:
    """Share the network's weights, gradients and averages out among all processes (FSDP), block by block."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    for blocks in [module for module in network.modules() if isinstance(module, nn.ModuleList)]:
        for block in blocks:
            if any(parameter.numel() for parameter in block.parameters()):
                fully_shard(block, mesh=mesh)
    # stated, for the outermost would else stay whole after a forward pass without a backward one
    fully_shard(network, mesh=mesh, reshard_after_forward=True)


def _learned_weight(objective: Objective, accelerator: Accelerator, dtype: torch.dtype) -> LearnedWeight | None:
    if objective.learned is None:
        return None
    assert isinstance(objective.weighting, LearnedWeighting), "only such a weighting builds a module"
    module = objective.learned.to(accelerator.device, dtype)
    learning_rate = objective.weighting.learning_rate
    # fused, or else fp16's scaler waits for the device at every step
    optimizer = torch.optim.Adam(module.parameters(), lr=learning_rate, betas=(0.9, 0.99), fused=True)
    # not prepared: as prepared, each would update fp16's scaler, which is to be updated once a step
    return LearnedWeight(accelerator.prepare_model(module), optimizer)


def make_accelerator(
    device: str, compute: ComputeSection | None = None, *, trackers: Sequence[str] = (), resumed: str | None = None
) -> Accelerator:
    """Hugging Face Accelerate on `auto` (a GPU where there is one), `cpu` or `cuda`, for one process or several.

    `resumed` names the run that is gone on with, for messages.

    Raises:
        UsageError: see `choose_device`, `check_environment`, `check_precision` and `check_trackers`.
    """
    compute, chosen = compute or ComputeSection(), choose_device(device)
    check_environment()
    check_precision(compute, chosen, resumed=resumed)
    if compute.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = compute.precision == "tf32"
    # all stated, for Accelerate would take them from environment variables, which no spec records
    return Accelerator(
        cpu=chosen.type == "cpu",
        mixed_precision=compute.precision if compute.precision in ("bf16", "fp16") else "no",
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        log_with=check_trackers(trackers) or None,
        dynamo_backend="no",
        kwargs_handlers=[InitProcessGroupKwargs(timeout=processes.PATIENCE)],
        project_dir=".",  # the run's folder takes its place once there is one; until then nothing is written
    )


def choose_device(device: str) -> torch.device:
    """What `auto` (a GPU where there is one), `cpu` or `cuda` stands for here.

    Raises:
        UsageError: the name is unknown; or CUDA was asked for and there is none.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"unknown device '{device}'. Allowed: auto, cpu, cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch sees no CUDA GPU. Use --device cpu, or install a CUDA build of torch")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def resolve_compute(spec: RunSpec, device: torch.device) -> RunSpec:
    """The spec with what is decided by the device written out."""
    compute, is_gpu = spec.compute, device.type == "cuda"
    changes: dict[str, object] = {}
    if compute.precision == "auto":
        changes["precision"] = "bf16" if is_gpu and torch.cuda.is_bf16_supported() else "fp32"
    if compute.compile is None:
        changes["compile"] = is_gpu and spec.training.steps >= COMPILED_STEPS
    return spec.model_copy(update={"compute": compute.model_copy(update=changes)})


def derived_seed(*parts: int | str) -> int:
    """A 63-bit seed from any parts, for generators that take only one number."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
