"""Building the objects of a training from its spec, once before the first step."""

from collections.abc import Callable

import torch
from accelerate import Accelerator
from torch import nn

from debiasctl.api import Backbone, LoadedDataset
from debiasctl.boundary import origin_of, plugin_call
from debiasctl.compute.allocator import prepare_process
from debiasctl.diffusion.objective import Objective
from debiasctl.errors import UsageError
from debiasctl.models.build import build_network
from debiasctl.models.ema import EMA
from debiasctl.models.objective import build_objective
from debiasctl.specs.sections import RunSpec
from debiasctl.training.batches import BatchSource
from debiasctl.training.guard import Guard
from debiasctl.training.optimizers import LearnedWeight, Optimizers
from debiasctl.training.training import Training

_COMPILED_STEPS = 5000  # steps from which torch.compile's minutes of compilation pay off


def resolve_compute(spec: RunSpec, device: torch.device) -> RunSpec:
    """Fill in the settings of a spec that depend on the device."""
    compute, is_gpu = spec.compute, device.type == "cuda"
    changes: dict[str, object] = {}
    if compute.precision == "auto":
        changes["precision"] = "bf16" if is_gpu and torch.cuda.is_bf16_supported() else "fp32"
    if compute.compile is None:
        changes["compile"] = is_gpu and spec.training.steps >= _COMPILED_STEPS
    return spec.model_copy(update={"compute": compute.model_copy(update=changes)})


def set_up(
    spec: RunSpec,
    data: LoadedDataset,
    *,
    accelerator: Accelerator,
    initialize: Callable[[nn.Module], None] | None = None,
    warn: bool = True,
) -> Training:
    """Build all objects of a training on the accelerator's device, at step 0.

    `initialize` may load other weights into the new network before anything else uses it. The caller has checked that
    the training can be split among the processes (`check_sharing`).

    Raises:
        UsageError: if `build_objective`, `build_network` or an extension raises it, or the network has nothing to
            train.
    """
    prepare_process()
    objective = build_objective(spec, warn=warn)
    info = data.info
    network = build_network(spec, image_size=info.image_size, channels=info.channels, num_classes=len(info.classes))
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise UsageError(
            f"`model.backbone={spec.model.backbone.name}`: this network has no parameters to train. Choose another one"
        )
    if spec.compute.precision == "fp64":
        network = network.double()
    if initialize is not None:
        initialize(network)
    set_layout(network, spec.model.backbone.create("backbones"), channels_last=spec.compute.channels_last)
    network = network.to(accelerator.device)
    with plugin_call(origin_of(network), "network"):
        ema = EMA(network, spec.ema, batch_size=spec.training.batch_size)  # copies it
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
    # a sharded network gathers its weights and gradients itself, and Accelerate only sets its precision
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
    guard = Guard(network, accelerator)
    null_label = len(info.classes) if spec.model.label_dropout else None
    optimizers = Optimizers(model, prepared, accelerator=accelerator, guard=guard, learned=learned)
    training = Training(
        spec, info, objective, model, ema, optimizers, batches, extensions, accelerator, guard, null_label
    )
    for extension in extensions:
        extension.on_init(training.context(0))
    if extensions:
        ema.restart(network)
    if spec.compute.compile:
        network.compile()
    return training


def shard(network: nn.Module, accelerator: Accelerator) -> None:
    """Shard a network's weights, gradients and averages over all processes (FSDP), block by block."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    for blocks in [module for module in network.modules() if isinstance(module, nn.ModuleList)]:
        for block in blocks:
            if any(parameter.numel() for parameter in block.parameters()):
                fully_shard(block, mesh=mesh)
    # stated, because the outermost module would otherwise stay whole after a forward pass without a backward pass
    fully_shard(network, mesh=mesh, reshard_after_forward=True)


def _learned_weight(objective: Objective, accelerator: Accelerator, dtype: torch.dtype) -> LearnedWeight | None:
    if objective.learned is None:
        return None
    module = objective.learned.module.to(accelerator.device, dtype)
    # fused, because fp16's scaler otherwise waits for the device at every step
    optimizer = torch.optim.Adam(module.parameters(), lr=objective.learned.learning_rate, betas=(0.9, 0.99), fused=True)
    # not prepared, because each prepared optimizer updates fp16's scaler, which has to be updated once per step
    return LearnedWeight(accelerator.prepare_model(module), optimizer)


def set_layout(network: nn.Module, backbone: Backbone, *, channels_last: bool | None) -> None:
    """Set the memory layout that the backbone's network computes in; None keeps the network's own.

    Raises:
        UsageError: if the backbone has no choice of layouts, so that the setting would have no effect.
    """
    if channels_last is None:
        return
    if not backbone.set_memory_format(network, torch.channels_last if channels_last else torch.contiguous_format):
        raise UsageError(
            "compute.channels_last has no effect on this backbone, which has no choice of memory layouts. Leave it out"
        )
