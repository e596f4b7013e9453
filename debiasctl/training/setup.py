"""From a spec to the objects that train: built once, before the first step."""

import hashlib
import logging
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin
from torch import nn

from debiasctl.api import Extension, LearnedWeighting, LoadedDataset
from debiasctl.diffusion.objective import Objective
from debiasctl.diffusion.parameterization import Parameterization
from debiasctl.diffusion.process import process_of
from debiasctl.errors import UsageError
from debiasctl.registry import resolve
from debiasctl.specs import RunSpec, image_shape
from debiasctl.training.data import BatchSource
from debiasctl.training.ema import EMA

_LOG = logging.getLogger(__name__)


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
    learned: LearnedWeight | None = None

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
    if isinstance(weighting, LearnedWeighting):
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
    learned = _learned_weight(objective, accelerator)
    return Training(spec, objective, model, ema, prepared, batches, extensions, accelerator, learned)


def _learned_weight(objective: Objective, accelerator: Accelerator) -> LearnedWeight | None:
    if objective.learned is None:
        return None
    assert isinstance(objective.weighting, LearnedWeighting), "only such a weighting builds a module"
    module = objective.learned.to(accelerator.device)
    optimizer = torch.optim.Adam(module.parameters(), lr=objective.weighting.learning_rate, betas=(0.9, 0.99))
    return LearnedWeight(*accelerator.prepare(module, optimizer))


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
