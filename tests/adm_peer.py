"""The forward pass of guided-diffusion's U-Net, written from its publication over the tensors of a checkpoint alone.

It shares no code with the backbone: layers are told apart by the names of their tensors (2105.05233, 2102.09672).
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def forward(
    state: dict[str, Tensor],
    x: Tensor,
    t: Tensor,
    labels: Tensor | None = None,
    *,
    num_res_blocks: int,
    head_channels: int,
    new_order: bool = False,
) -> Tensor:
    """x [N, C, H, W] and t [N] in 0 ... T - 1."""
    channels = state["time_embed.0.weight"].shape[1]
    angles = t[:, None].float() * torch.exp(-math.log(10000) * torch.arange(channels // 2) / (channels // 2))
    emb = linear(state, "time_embed.0", torch.cat([angles.cos(), angles.sin()], 1))
    emb = linear(state, "time_embed.2", F.silu(emb))
    if labels is not None:
        emb = emb + state["label_emb.weight"][labels]

    def stage(name: str, h: Tensor, *, down: bool = False) -> Tensor:
        number = 0
        while any(key.startswith(f"{name}.{number}.") for key in state) or (down and number == 0):
            layer = f"{name}.{number}"
            if f"{layer}.qkv.weight" in state:
                h = attention(state, layer, h, head_channels, new_order)
            elif f"{layer}.in_layers.2.weight" in state:
                up = number > 0 and name.startswith("output")
                h = res_block(state, layer, h, emb, 0.5 if down else 2.0 if up else 1.0)
            elif f"{layer}.op.weight" in state:
                h = F.conv2d(h, state[f"{layer}.op.weight"], state[f"{layer}.op.bias"], stride=2, padding=1)
            elif f"{layer}.conv.weight" in state:
                h = conv(state, f"{layer}.conv", F.interpolate(h, scale_factor=2, mode="nearest"))
            elif f"{layer}.weight" in state:
                h = conv(state, layer, h)
            number += 1
        return h

    stages = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("input_blocks."))
    skips, h = [], x
    for number in range(stages):
        h = stage(f"input_blocks.{number}", h, down=number > 0 and number % (num_res_blocks + 1) == 0)
        skips.append(h)
    h = res_block(state, "middle_block.0", h, emb, 1.0)
    h = attention(state, "middle_block.1", h, head_channels, new_order)
    h = res_block(state, "middle_block.2", h, emb, 1.0)
    for number in range(stages):
        h = stage(f"output_blocks.{number}", torch.cat([h, skips.pop()], 1))
    return conv(state, "out.2", F.silu(norm(state, "out.0", h)))


def linear(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def conv(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    weight = state[f"{name}.weight"]
    return F.conv2d(x, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2)


def norm(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    """Group norm of 32 groups, eps 1e-5."""
    groups = x.reshape(len(x), 32, -1)
    mean, variance = groups.mean(2, keepdim=True), groups.var(2, keepdim=True, unbiased=False)
    y = ((groups - mean) / (variance + 1e-5).sqrt()).reshape(x.shape)
    shape = (1, -1, *[1] * (x.ndim - 2))
    return y * state[f"{name}.weight"].reshape(shape) + state[f"{name}.bias"].reshape(shape)


def res_block(state: dict[str, Tensor], name: str, x: Tensor, emb: Tensor, factor: float) -> Tensor:
    def resized(y: Tensor) -> Tensor:
        if factor == 1.0:
            return y
        return F.avg_pool2d(y, 2) if factor < 1 else F.interpolate(y, scale_factor=2, mode="nearest")

    h = conv(state, f"{name}.in_layers.2", resized(F.silu(norm(state, f"{name}.in_layers.0", x))))
    told = linear(state, f"{name}.emb_layers.1", F.silu(emb))[:, :, None, None]
    if told.shape[1] == 2 * h.shape[1]:
        scale, shift = told.chunk(2, 1)
        h = norm(state, f"{name}.out_layers.0", h) * (1 + scale) + shift
    else:
        h = norm(state, f"{name}.out_layers.0", h + told)
    x = resized(x)
    if f"{name}.skip_connection.weight" in state:
        x = conv(state, f"{name}.skip_connection", x)
    return x + conv(state, f"{name}.out_layers.3", F.silu(h))


def attention(state: dict[str, Tensor], name: str, x: Tensor, head_channels: int, new_order: bool) -> Tensor:
    n, channels = x.shape[:2]
    flat = norm(state, f"{name}.norm", x).reshape(n, channels, -1)
    qkv = torch.einsum("oc,ncl->nol", state[f"{name}.qkv.weight"][:, :, 0], flat) + state[f"{name}.qkv.bias"][:, None]
    heads = channels // head_channels
    if new_order:  # q, k and v first, heads within each
        q, k, v = (part.reshape(n * heads, head_channels, -1) for part in qkv.chunk(3, 1))
    else:  # heads first, q, k and v within each
        q, k, v = qkv.reshape(n * heads, 3 * head_channels, -1).split(head_channels, 1)
    weight = torch.softmax(torch.einsum("bcq,bcl->bql", q, k) / math.sqrt(head_channels), -1)
    mixed = torch.einsum("bql,bcl->bcq", weight, v).reshape(n, channels, -1)
    out = torch.einsum("oc,ncl->nol", state[f"{name}.proj_out.weight"][:, :, 0], mixed)
    return x + (out + state[f"{name}.proj_out.bias"][:, None]).reshape(x.shape)
