"""From a spec to the objects that train: built once, before the first step."""

import hashlib
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin
from torch import Tensor, nn

from debiasctl.api import Extension, ImageShape, LoadedDataset, Space
from debiasctl.diffusion.parameterization import Parameterization
from debiasctl.diffusion.process import DiffusionProcess, process_of
from debiasctl.diffusion.weighting import effective_weight
from debiasctl.errors import DebiasctlError, UsageError
from debiasctl.registry import resolve
from debiasctl.specs import RunSpec
from debiasctl.training.data import BatchSource
from debiasctl.training.ema import EMA


@dataclass(frozen=True)
class Objective:
    """What is minimised: tables over t. `weight` is the effective weight on F, times base/q where q is corrected."""

    process: DiffusionProcess
    parameterization: Parameterization
    weight: Tensor  # float64 [T]
    cumulative: Tensor  # float64 [T], the distribution function of t

    def timesteps(self, uniforms: Tensor) -> Tensor:
        """t = quantile(u): int64 [N] for u float64 [N] in [0, 1)."""
        cumulative = self.cumulative.to(uniforms.device)
        return torch.searchsorted(cumulative, uniforms, right=True).clamp(max=len(cumulative) - 1)


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
    return Parameterization(spec.model.prediction, process)


def build_objective(spec: RunSpec) -> Objective:
    """Process, parameterization, weights and the distribution of t.

    Raises:
        UsageError: see `build_parameterization`.
    """
    prediction: Space = spec.model.prediction
    parameterization = build_parameterization(spec)
    process = parameterization.process
    base = torch.full_like(process.snr, 1 / process.num_timesteps)
    weight = effective_weight(
        spec.loss.weighting.create("weightings"), prediction, snr=process.snr, base=base, normalize=spec.loss.normalize
    )
    distribution = spec.loss.timesteps.create("timesteps")
    density = distribution.probabilities(process.snr)
    if density.shape != base.shape or not bool((density > 0).all()) or abs(density.sum().item() - 1) > 1e-9:
        raise DebiasctlError(f"timestep distribution '{spec.loss.timesteps.name}' gives no probability for every t")
    if distribution.corrected:
        weight = weight * base / density
    return Objective(process, parameterization, weight, density.cumsum(0))


def build_network(spec: RunSpec, *, image_size: int, channels: int, num_classes: int) -> nn.Module:
    """The backbone, with weights drawn from the run's seed.

    Raises:
        UsageError: the backbone cannot be built for images of this size.
    """
    shape = ImageShape(image_size=image_size, in_channels=channels, out_channels=channels)
    backbone = spec.model.backbone.create("backbones")
    with torch.random.fork_rng():
        torch.manual_seed(derived_seed(spec.training.seed, "weights"))
        network: nn.Module = backbone.build(shape, num_classes if spec.model.conditional else 0)
    return network


def set_up(spec: RunSpec, data: LoadedDataset, *, accelerator: Accelerator) -> Training:
    """All the objects of a training, on the accelerator's device, at step 0.

    Raises:
        UsageError: the batch cannot be shared evenly among the processes, or see `build_objective`, `build_network`.
    """
    if spec.training.batch_size % accelerator.num_processes:
        raise UsageError(
            f"a batch of {spec.training.batch_size} cannot be shared evenly by {accelerator.num_processes} processes. "
            "Choose --batch-size as a multiple of their number"
        )
    objective = build_objective(spec)
    info = data.info
    network = build_network(spec, image_size=info.image_size, channels=info.channels, num_classes=len(info.classes)).to(
        accelerator.device
    )
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=spec.optimizer.lr,
        betas=spec.optimizer.betas,
        eps=spec.optimizer.eps,
        weight_decay=spec.optimizer.weight_decay,
        fused=True,
    )
    ema = EMA(network, spec.ema)
    model, prepared = accelerator.prepare(network, optimizer)
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
    return Training(spec, objective, model, ema, prepared, batches, extensions, accelerator)


def make_accelerator(device: str) -> Accelerator:
    """Hugging Face Accelerate on `auto` (a GPU where there is one), `cpu` or `cuda`.

    Raises:
        UsageError: CUDA was asked for and there is none.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"unknown device '{device}'. Allowed: auto, cpu, cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch sees no CUDA GPU. Use --device cpu, or install a CUDA build of torch")
    # both stated, for Accelerate would take them from environment variables, which no spec records
    return Accelerator(
        cpu=device == "cpu" or not torch.cuda.is_available(),
        mixed_precision="no",
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
    )


def derived_seed(*parts: int | str) -> int:
    """A 63-bit seed from any parts, for generators that take only one number."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
