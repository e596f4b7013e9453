"""EDM2's U-Net (arXiv 2312.02696, configuration G)."""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from debiasctl.api import ImageShape
from debiasctl_edm2.blocks import DecoderBlock, EncoderBlock, Settings
from debiasctl_edm2.magnitude import ClassEmbedding, Conv, FourierFeatures, Linear, mp_cat, mp_silu, mp_sum

# a timestep of 0 … 1000 becomes c_noise of -1.55 … 1.1, the range of ln(sigma)/4 for EDM's sigma of 0.002 … 80
TIMESTEP_SCALE, TIMESTEP_SHIFT = 2.65e-3, -1.55


class MagnitudePreservingUNet(nn.Module):
    """The network. Its output is zero before training, and of about unit magnitude times a learned gain after.

    `widths` are the channels of each level, the largest image first; `attended` says which levels have attention.
    `memory_format` is the layout of all images inside, by default channels-last.
    """

    def __init__(
        self,
        shape: ImageShape,
        num_classes: int,
        settings: Settings,
        *,
        widths: tuple[int, ...],
        num_blocks: int,
        attended: tuple[bool, ...],
        head_channels: int,
        class_balance: float,
        concat_balance: float,
        from_timesteps: bool,
        use_checkpoint: bool,
    ) -> None:
        super().__init__()
        self.shape, self.num_classes = shape, num_classes
        self.class_balance, self.concat_balance = class_balance, concat_balance
        self.from_timesteps, self.use_checkpoint = from_timesteps, use_checkpoint
        self.memory_format: torch.memory_format = torch.channels_last

        self.features = FourierFeatures(widths[0])
        self.noise_embedding = Linear(widths[0], settings.embedding_channels)
        self.class_embedding = ClassEmbedding(num_classes, settings.embedding_channels) if num_classes else None
        self.first = Conv(shape.in_channels + 1, widths[0], 3)  # one more channel, of ones, is in place of biases
        heads = [width // head_channels if attends else 0 for width, attends in zip(widths, attended, strict=True)]
        self.encoder = nn.ModuleList(_encoder(widths, num_blocks, heads, settings))
        middle = widths[-1] // head_channels
        self.decoder = nn.ModuleList(_decoder(widths, num_blocks, heads, settings, middle_heads=middle))
        self.last = Conv(widths[0], shape.out_channels, 3)
        self.output_gain = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, noise_level: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map x [N, in_channels, H, W], noise_level [N] and labels (int64 [N] or None) to [N, out_channels, H, W]."""
        self._check(x, noise_level, labels)
        embedding = self._embed(noise_level, labels)
        h = torch.cat([x, torch.ones_like(x[:, :1])], dim=1).contiguous(memory_format=self.memory_format)
        h = self.first(h)
        skips = [h]
        for block in self.encoder:
            h = self._run(block, h, embedding)
            skips.append(h)
        for block in self.decoder:
            if block.takes_skip:
                h = mp_cat(h, skips.pop(), self.concat_balance)
            h = self._run(block, h, embedding)
        out: Tensor = self.last(h, self.output_gain)
        return out

    def _embed(self, noise_level: Tensor, labels: Tensor | None) -> Tensor:
        """The embedding [N, E] of noise levels and classes."""
        c_noise = TIMESTEP_SCALE * noise_level + TIMESTEP_SHIFT if self.from_timesteps else noise_level
        embedding: Tensor = self.noise_embedding(self.features(c_noise))
        if self.class_embedding is not None:
            embedding = mp_sum(embedding, self.class_embedding(labels), self.class_balance)
        return mp_silu(embedding)

    def _run(self, block: nn.Module, x: Tensor, embedding: Tensor) -> Tensor:
        if self.use_checkpoint and torch.is_grad_enabled():
            out: Tensor = checkpoint(block, x, embedding, use_reentrant=False)
        else:
            out = block(x, embedding)
        return out

    def _check(self, x: Tensor, noise_level: Tensor, labels: Tensor | None) -> None:
        size = (self.shape.in_channels, self.shape.image_size, self.shape.image_size)
        if x.ndim != 4 or tuple(x.shape[1:]) != size:
            raise ValueError(f"x has shape {tuple(x.shape)}; this network takes [N, {size[0]}, {size[1]}, {size[2]}]")
        if noise_level.shape != x.shape[:1]:
            raise ValueError(f"noise_level has shape {tuple(noise_level.shape)}; it takes one per image, [{len(x)}]")
        if (labels is None) != (self.num_classes == 0):
            known = f"{self.num_classes} classes and needs labels" if self.num_classes else "no classes: give no labels"
            raise ValueError(f"this network has {known}")
        if labels is not None and labels.shape != x.shape[:1]:
            raise ValueError(f"labels have shape {tuple(labels.shape)}; it takes one per image, [{len(x)}]")


def _encoder(widths: tuple[int, ...], num_blocks: int, heads: list[int], settings: Settings) -> Iterator[EncoderBlock]:
    """Each level's blocks, after one that halves the size below the first level."""
    width = widths[0]
    for level, wanted in enumerate(widths):
        if level:
            yield EncoderBlock(width, width, settings, down=True)
        for _ in range(num_blocks):
            yield EncoderBlock(width, wanted, settings, num_heads=heads[level])
            width = wanted


def _decoder(
    widths: tuple[int, ...], num_blocks: int, heads: list[int], settings: Settings, *, middle_heads: int
) -> Iterator[DecoderBlock]:
    """Two blocks in the middle, and for each level one block for each output of the encoder there, the last first."""
    width = widths[-1]
    yield DecoderBlock(width, width, settings, num_heads=middle_heads)
    yield DecoderBlock(width, width, settings)
    for level in reversed(range(len(widths))):
        for taken in reversed(_outputs(widths, num_blocks)[level]):
            yield DecoderBlock(width + taken, widths[level], settings, num_heads=heads[level], takes_skip=True)
            width = widths[level]
        if level:
            yield DecoderBlock(width, width, settings, up=True)


def _outputs(widths: tuple[int, ...], num_blocks: int) -> list[list[int]]:
    """The widths of the encoder's outputs at each level: of the block that halves the size, or the first layer."""
    entering = [widths[0], *(above for above, _ in pairwise(widths))]
    return [[enters, *[width] * num_blocks] for enters, width in zip(entering, widths, strict=True)]
