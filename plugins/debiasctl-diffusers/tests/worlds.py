"""Small networks and pipelines of diffusers, equal noise for both sides, and the command line in this process."""

import contextlib
import io
import json
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from debiasctl_diffusers.sampler import DiffusersSampler
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from torch import Tensor, nn

import debiasctl

SHAPE = (4, 3, 8, 8)
TINY: dict[str, Any] = {
    "sample_size": 8, "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4,
    "attention_head_dim": 4, "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}  # fmt: skip


def normal(number: int) -> Tensor:
    """Standard normal noise of that number, the same at every call; that of number 0 is where images begin."""
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(1000 + number))


def network(seed: int = 0, **options: Any) -> UNet2DModel:
    """A network with random weights, whose output is of the size of a trained one's."""
    torch.manual_seed(seed)
    made = UNet2DModel(**{**TINY, **options}).eval()
    nn.init.normal_(made.conv_out.weight, std=0.05)
    return made


def saved(folder: Path, scheduler: Any = None, unet: UNet2DModel | None = None) -> Path:
    """A folder that DDPMPipeline saved."""
    DDPMPipeline(unet=unet or network(), scheduler=scheduler or DDPMScheduler()).save_pretrained(folder)
    return folder


@contextlib.contextmanager
def given_noise(*modules: str, start: int = 1) -> Iterator[None]:
    """Have code in diffusers' modules draw `normal(start)`, `normal(start + 1)`, ..."""
    drawn = iter(range(start, 10_000))

    def draw(shape: Any, **_: Any) -> Tensor:
        assert tuple(shape) == SHAPE
        return normal(next(drawn))

    with contextlib.ExitStack() as patches:
        for module in modules:
            if hasattr(sys.modules[module], "randn_tensor"):
                patches.enter_context(patch.object(sys.modules[module], "randn_tensor", draw))
        yield


def pipeline_images(pipeline: Any, num_steps: int, **options: Any) -> Tensor:
    """What a pipeline draws from `normal(0)`, clipped to [-1, 1]."""
    with given_noise(type(pipeline).__module__, type(pipeline.scheduler).__module__, start=0):
        images = pipeline(
            batch_size=SHAPE[0], num_inference_steps=num_steps, output_type="pt", return_dict=False, **options
        )[0]
    return 2 * images - 1


def loop_images(scheduler: Any, unet: Callable[..., Tensor], num_steps: int, **step: Any) -> Tensor:
    """What diffusers' own loop draws from `normal(0)`, as its pipelines write it."""
    scheduler.set_timesteps(num_steps)
    x = normal(0) * float(getattr(scheduler, "init_noise_sigma", 1.0))
    with torch.no_grad(), given_noise(type(scheduler).__module__):
        for t in scheduler.timesteps:
            seen = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
            x = scheduler.step(unet(seen, t.expand(len(x)).float()), t, x, **step, return_dict=False)[0]
    return x


def sampler(reference: str, **options: Any) -> Any:
    """A sampler by its name: one that comes with debiasctl, or that of this package."""
    (found,) = entry_points(group="debiasctl.samplers", name=reference)
    cls = found.load()
    return cls(cls.Options(**options))


def own_images(run: str, made: Any, num_steps: int, labels: Tensor | None = None, **which: Any) -> Tensor:
    """What a run draws from `normal(0)` by a sampler, clipped to [-1, 1]."""
    denoiser = debiasctl.run(run).denoiser(device="cpu", **which)
    with torch.no_grad():
        found: Tensor = made(denoiser, normal(0), num_steps=num_steps, noise=normal, labels=labels)
    return found.clamp(-1, 1)


def diffusers_sampler(**options: Any) -> DiffusersSampler:
    """This package's sampler."""
    return DiffusersSampler(DiffusersSampler.Options(**options))


def cli(*arguments: str | Path) -> tuple[int, str, str]:
    """Run a command in this process: its exit code, and what it wrote to stdout and stderr."""
    (script,) = entry_points(group="console_scripts", name="debiasctl")
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with (
        patch.object(sys, "argv", ["debiasctl", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            script.load()()
        except SystemExit as end:
            code = int(end.code or 0)
    return code, out.getvalue(), err.getvalue()


def add(name: str, folder: Path, **options: Any) -> dict[str, Any]:
    """Add a pipeline's folder as a run; returns what the command prints as JSON."""
    reference = ",".join([f"diffusers:path={folder}", *(f"{key}={value}" for key, value in options.items())])
    code, out, err = cli("runs", "add-model", name, reference, "--json")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def distance(one: Tensor, other: Tensor) -> float:
    """The largest difference of two tensors."""
    return float((one - other).abs().max())
