"""Checkpoints of guided-diffusion's family, of small networks with random weights."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from debiasctl.api import ImageShape
from debiasctl.builtin.backbones.unet import UNet

SIZE = 8
SMALL: dict[str, Any] = {
    "channels": 32,
    "channel_mult": (1, 2),
    "num_res_blocks": 1,
    "attention_resolutions": (4,),
    "num_head_channels": 16,
}
# the options that its file does not say
GIVEN = (
    f"image_size={SIZE},num_head_channels=16,use_new_attention_order=false,schedule=linear,num_timesteps=1000,dropout=0"
)


def network(
    *, size: int = SIZE, colours: int = 3, classes: int = 10, learned_variance: bool = True, **options: Any
) -> torch.nn.Module:
    """A U-Net whose layers all matter, unlike one that was never trained."""
    shape = ImageShape(size, colours, (1 + learned_variance) * colours)
    heads = {} if "num_heads" not in options else {"num_head_channels": None}
    made = UNet(UNet.Options(**{**SMALL, **heads, **options})).build(shape, classes)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return made


def save_small(path: Path, **options: Any) -> dict[str, Tensor]:
    """Write the tensors of a small network as the family's programs do, and return them."""
    state = dict(network(**options).state_dict())
    torch.save(state, path)
    return state
