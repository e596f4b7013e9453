"""The implementations that `train.py` compares, each a function that builds a training and returns its step.

debiasctl        its own `train_step`, as `debiasctl train` sets it up
bf16             the same with `--precision bf16`, which on a CPU without such instructions is emulated
straightforward  the same network and loss in the plainest PyTorch: contiguous images, textbook attention, AdamW and the
                 average of the weights one tensor after the other, float32
diffusers        UNet2DModel of like size by the recipe of diffusers' training examples
guided-diffusion the public code that the paper's authors built on (github.com/openai/guided-diffusion), from a checkout
"""

import contextlib
import copy
import json
import math
import subprocess
import sys
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

IMAGES = 512  # synthetic ones
PARTS = ("forward", "backward", "optimizer", "EMA", "data")

Step = Callable[[int], None]


@dataclass(frozen=True)
class Config:
    """A published training; `widths` are of the levels of a U-Net, which has attention at 16 px."""

    backbone: str
    image_size: int
    num_classes: int
    batch_size: int
    widths: tuple[int, ...] = ()


CONFIGS = {
    "cifar10": Config("unet", 32, 10, 32, (128, 256, 256, 256)),
    "256": Config("unet", 256, 0, 8, (128, 128, 256, 256, 512, 512)),
    "dit": Config("dit:patch_size=2,hidden_size=384,depth=12,num_heads=6", 32, 10, 32),
}


class Stopwatch:
    """Sums up seconds by part; on a GPU it waits for it before and after."""

    def __init__(self, device: str) -> None:
        self.synchronize: Callable[[], None] = torch.cuda.synchronize if device == "cuda" else lambda: None
        self.parts: dict[str, float] = {}

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with its time added to the part's."""

        def call(*args: Any, **kwargs: Any) -> Any:
            self.synchronize()
            begun = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.synchronize()
                self.parts[part] = self.parts.get(part, 0.0) + time.perf_counter() - begun

        return call


def synthetic(config: Config) -> tuple[Tensor, Tensor | None]:
    """uint8 images [N, 3, H, W] and their classes."""
    generator = torch.Generator().manual_seed(0)
    size = config.image_size
    images = torch.randint(0, 256, (IMAGES, 3, size, size), dtype=torch.uint8, generator=generator)
    return images, torch.randint(0, config.num_classes, (IMAGES,), generator=generator) if config.num_classes else None


def bf16_instructions() -> str | None:
    """The instructions for bfloat16 that this CPU has, by Linux's names; None if it has none, or nobody says."""
    try:
        with open("/proc/cpuinfo") as stream:
            line = next((line for line in stream if line.startswith(("flags", "Features"))), "")
    except OSError:
        return None
    return ", ".join(sorted({"amx_bf16", "avx512_bf16", "bf16"} & set(line.split()))) or None


def run_spec(config: Config, batch_size: int, **compute: str) -> Any:
    """The paper's settings; the data set's name is not used."""
    from debiasctl.specs.resolve import validate_spec

    return validate_spec(
        {
            "data": {"dataset": "digits", "horizontal_flip": True},
            "model": {"backbone": config.backbone, "learned_variance": True, "conditional": config.num_classes > 0},
            "diffusion": {"schedule": "linear"},
            "loss": {"weighting": "debiased"},
            "optimizer": {"lr": 2e-5},
            "training": {"batch_size": batch_size, "steps": 100_000},
            "compute": compute,
        }
    )


def network_on_meta(config: Config) -> nn.Module:
    from debiasctl.models.build import build_network

    with torch.device("meta"):
        spec = run_spec(config, 1)
        return build_network(spec, image_size=config.image_size, channels=3, num_classes=config.num_classes)


# ---------------------------------------------------------------- debiasctl


class _Watched:
    """A callable object whose calls are timed; its attributes are its own."""

    def __init__(self, inner: Any, call: Callable[..., Any]) -> None:
        self._inner, self._call = inner, call

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def debiasctl(config: Config, device: str, batch_size: int, watch: Stopwatch, **compute: str) -> Step:
    from debiasctl.api import ArraySplit, DatasetInfo, LoadedDataset
    from debiasctl.compute.allocator import prepare_process
    from debiasctl.compute.device import choose_device, make_accelerator
    from debiasctl.training.setup import resolve_compute, set_up
    from debiasctl.training.step import train_step

    prepare_process()
    images, targets = synthetic(config)
    split = ArraySplit(images, targets)
    info = DatasetInfo(config.image_size, 3, tuple(map(str, range(config.num_classes))), IMAGES, IMAGES)
    spec = resolve_compute(run_spec(config, batch_size, **compute), choose_device(device))
    accelerator = make_accelerator(device, spec.compute)
    training = set_up(spec, LoadedDataset(info, split, split, "none"), accelerator=accelerator)

    network = training.network
    called = "_compiled_call_impl" if network._compiled_call_impl is not None else "forward"
    setattr(network, called, watch.timed("forward", getattr(network, called)))
    accelerator.backward = watch.timed("backward", accelerator.backward)
    training.optimizer.step = watch.timed("optimizer", training.optimizer.step)
    training.ema.update = watch.timed("EMA", training.ema.update)  # type: ignore[method-assign]
    training.batches = _Watched(training.batches, watch.timed("data", training.batches))  # type: ignore[assignment]
    return lambda step: train_step(training, step) and None


def bf16(config: Config, device: str, batch_size: int, watch: Stopwatch) -> Step:
    """The same training in bfloat16."""
    return debiasctl(config, device, batch_size, watch, precision="bf16")


def without_winograd(config: Config, device: str, batch_size: int, watch: Stopwatch) -> Step:
    """The same training with torch's own convolutions throughout: what Winograd's algorithm is worth."""
    from debiasctl.builtin.backbones import winograd

    winograd.pays = lambda *_: False  # type: ignore[assignment]  # in a process of its own
    return debiasctl(config, device, batch_size, watch)


# ---------------------------------------------------------------- the straightforward one


def _textbook_block(self: Any, x: Tensor) -> Tensor:
    """`layers.AttentionBlock.forward` as it is written down first: [N, C, H, W] to the same."""
    n, channels, height, width = x.shape
    tokens = x.reshape(n, channels, height * width)
    q, k, v = self.qkv(self.norm(tokens)).reshape(n * self.num_heads, -1, height * width).chunk(3, dim=1)
    weight = torch.softmax(torch.einsum("nct,ncs->nts", q, k) / math.sqrt(q.shape[1]), dim=-1)
    mixed = torch.einsum("nts,ncs->nct", weight, v).reshape(n, channels, height * width)
    return (tokens + self.proj_out(mixed)).reshape(x.shape)


def _textbook_attention(self: Any, x: Tensor) -> Tensor:
    """`dit.Attention.forward`, likewise: [N, L, D] to the same."""
    n, length, width = x.shape
    q, k, v = self.qkv(x).reshape(n, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
    weight = torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), dim=-1)
    return self.proj((weight @ v).transpose(1, 2).reshape(n, length, width))  # type: ignore[no-any-return]


def straighten(network: nn.Module) -> nn.Module:
    """The same network, computed in the plainest way."""
    from debiasctl.builtin.backbones.dit import Attention
    from debiasctl.builtin.backbones.layers import AttentionBlock

    if hasattr(network, "memory_format"):
        network.memory_format = torch.contiguous_format  # type: ignore[assignment]
    for module in network.modules():
        if isinstance(module, AttentionBlock):
            module.forward = types.MethodType(_textbook_block, module)  # type: ignore[method-assign]
        elif isinstance(module, Attention):
            module.forward = types.MethodType(_textbook_attention, module)  # type: ignore[method-assign]
    return network


def straightforward(config: Config, device: str, batch_size: int, watch: Stopwatch) -> Step:
    from debiasctl.models.build import build_network

    images, targets = synthetic(config)
    spec = run_spec(config, batch_size)
    network = build_network(spec, image_size=config.image_size, channels=3, num_classes=config.num_classes)
    network = straighten(network).to(device)
    averages = [parameter.detach().clone() for parameter in network.parameters()]
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-5, weight_decay=0.0, foreach=False, fused=False)
    alphas_cumprod = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0).float().to(device)

    def data() -> tuple[Tensor, Tensor | None]:
        chosen = torch.randint(0, IMAGES, (batch_size,))
        x0 = images[chosen].to(device).float() / 127.5 - 1
        x0 = torch.where(torch.rand(batch_size, 1, 1, 1, device=device) < 0.5, x0.flip(-1), x0)
        return x0, None if targets is None else targets[chosen].to(device)

    @torch.no_grad()
    def update_averages() -> None:
        for average, parameter in zip(averages, network.parameters(), strict=True):
            average.mul_(0.9999).add_(parameter, alpha=1 - 0.9999)

    def step(_: int) -> None:
        x0, labels = watch.timed("data", data)()
        t, eps = torch.randint(0, 1000, (batch_size,), device=device), torch.randn_like(x0)
        kept = alphas_cumprod[t]
        x_t = kept.sqrt()[:, None, None, None] * x0 + (1 - kept).sqrt()[:, None, None, None] * eps
        output = watch.timed("forward", network)(x_t, t.float(), labels)
        weight = ((1 - kept) / kept).sqrt()
        loss = (weight * (output[:, :3] - eps).square().mean(dim=(1, 2, 3))).mean()
        optimizer.zero_grad()
        watch.timed("backward", loss.backward)()
        watch.timed("optimizer", optimizer.step)()
        watch.timed("EMA", update_averages)()

    return step


# ---------------------------------------------------------------- diffusers


def diffusers_unet(config: Config) -> Any:
    """A UNet2DModel of like size."""
    from diffusers import UNet2DModel

    levels = range(len(config.widths))
    attended = [config.image_size >> level == 16 for level in levels]
    return UNet2DModel(
        sample_size=config.image_size,
        in_channels=3,
        out_channels=3,
        layers_per_block=1,
        block_out_channels=config.widths,
        down_block_types=tuple("AttnDownBlock2D" if here else "DownBlock2D" for here in attended),
        up_block_types=tuple("AttnUpBlock2D" if here else "UpBlock2D" for here in reversed(attended)),
        attention_head_dim=64,
        resnet_time_scale_shift="scale_shift",
        num_class_embeds=config.num_classes or None,
    )


def diffusers(config: Config, device: str, batch_size: int, watch: Stopwatch) -> Step:
    """After diffusers' examples/unconditional_image_generation, which takes float32 unless it is told otherwise."""
    from accelerate import Accelerator
    from diffusers import DDPMScheduler, UNet2DModel
    from diffusers.optimization import get_scheduler
    from diffusers.training_utils import EMAModel
    from torch.utils.data import DataLoader, TensorDataset

    images, targets = synthetic(config)
    model = diffusers_unet(config)
    accelerator = Accelerator(cpu=device == "cpu")
    average = EMAModel(model.parameters(), decay=0.9999, use_ema_warmup=True, model_cls=UNet2DModel)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8)
    tensors = [images] if targets is None else [images, targets]
    loader = DataLoader(TensorDataset(*tensors), batch_size=batch_size, shuffle=True, drop_last=True)
    schedule = get_scheduler("cosine", optimizer=optimizer, num_warmup_steps=500, num_training_steps=100_000)
    model, optimizer, loader, schedule = accelerator.prepare(model, optimizer, loader, schedule)
    average.to(accelerator.device)
    noise_scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear")
    batches = iter(())

    def data() -> tuple[Tensor, Tensor | None]:
        nonlocal batches
        batch = next(batches, None)
        if batch is None:
            batches = iter(loader)
            batch = next(batches)
        x0 = batch[0].float() / 127.5 - 1
        x0 = torch.where(torch.rand(len(x0), 1, 1, 1, device=x0.device) < 0.5, x0.flip(-1), x0)
        return x0, batch[1] if len(batch) > 1 else None

    def step(_: int) -> None:
        x0, labels = watch.timed("data", data)()
        noise = torch.randn(x0.shape, device=x0.device)
        timesteps = torch.randint(0, 1000, (len(x0),), device=x0.device).long()
        noisy = noise_scheduler.add_noise(x0, noise, timesteps)
        predicted = watch.timed("forward", model)(noisy, timesteps, class_labels=labels).sample
        loss = functional.mse_loss(predicted.float(), noise.float())
        watch.timed("backward", accelerator.backward)(loss)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        watch.timed("optimizer", optimizer.step)()
        schedule.step()
        optimizer.zero_grad()
        watch.timed("EMA", average.step)(model.parameters())

    return step


# ---------------------------------------------------------------- guided-diffusion


def guided_diffusion(config: Config, device: str, batch_size: int, watch: Stopwatch) -> Step:
    """The step of its `TrainLoop` in float32, without `DistributedDataParallel`; its messages go to standard error."""
    with contextlib.redirect_stdout(sys.stderr):
        from guided_diffusion.fp16_util import MixedPrecisionTrainer
        from guided_diffusion.nn import update_ema
        from guided_diffusion.resample import UniformSampler
        from guided_diffusion.script_util import create_gaussian_diffusion
        from guided_diffusion.unet import UNetModel

    images, targets = synthetic(config)
    model = UNetModel(
        image_size=config.image_size,
        in_channels=3,
        model_channels=config.widths[0],
        out_channels=6,
        num_res_blocks=1,
        attention_resolutions=(config.image_size // 16,),
        channel_mult=tuple(width // config.widths[0] for width in config.widths),
        num_classes=config.num_classes or None,
        num_head_channels=64,
        use_scale_shift_norm=True,
        resblock_updown=True,
    ).to(device)
    diffusion = create_gaussian_diffusion(steps=1000, learn_sigma=True, noise_schedule="linear")
    trainer = MixedPrecisionTrainer(model=model, use_fp16=False)
    optimizer = torch.optim.AdamW(trainer.master_params, lr=2e-5, weight_decay=0.0)
    averages = copy.deepcopy(trainer.master_params)
    sampler = UniformSampler(diffusion)

    def data() -> tuple[Tensor, dict[str, Tensor]]:
        chosen = torch.randint(0, IMAGES, (batch_size,))
        x0 = images[chosen].to(device).float() / 127.5 - 1
        return x0, {} if targets is None else {"y": targets[chosen].to(device)}

    def step(_: int) -> None:
        x0, labels = watch.timed("data", data)()
        trainer.zero_grad()
        t, weights = sampler.sample(batch_size, device)
        losses = watch.timed("forward", diffusion.training_losses)(model, x0, t, model_kwargs=labels)
        watch.timed("backward", trainer.backward)((losses["loss"] * weights).mean())
        with contextlib.redirect_stdout(sys.stderr):
            watch.timed("optimizer", trainer.optimize)(optimizer)
        watch.timed("EMA", update_ema)(averages, trainer.master_params, rate=0.9999)

    return step


CONTENDERS: dict[str, Callable[[Config, str, int, Stopwatch], Step]] = {
    "straightforward": straightforward,
    "debiasctl": debiasctl,
    "bf16": bf16,
    "without-winograd": without_winograd,
    "diffusers": diffusers,
    "guided-diffusion": guided_diffusion,
}


def answer(process: "subprocess.Popen[str]") -> Any:
    """What a process that waits for its turn says of the one step that it is told to make: JSON, one line."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise SystemExit("a process ended before its time; its message is above")
    return json.loads(line)
