"""diffusers' DiT, DiTTransformer2DModel."""

from collections.abc import Mapping
from typing import Any, Literal, Self, get_args

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from debiasctl.api import Backbone, ImageShape, PluginOptions, UsageError
from debiasctl_diffusers.network import built, check_inputs

Preset = Literal["S/2", "S/4", "S/8", "B/2", "B/4", "B/8", "L/2", "L/4", "L/8", "XL/2", "XL/4", "XL/8"]
_SIZES = {"S": (6, 64, 12), "B": (12, 64, 12), "L": (16, 64, 24), "XL": (16, 72, 28)}  # 2212.09748, Table 1


class DiffusersDiT(Backbone):
    """The transformer DiTTransformer2DModel of diffusers (Peebles & Xie, 2022, arXiv 2212.09748).

    Its options are those of DiTTransformer2DModel's configuration, by the same names. Each of its blocks embeds the
    noise level and the class by itself, and frequencies differ slightly from those of DiT's authors and of `dit`.
    """

    class Options(PluginOptions):
        """DiTTransformer2DModel's configuration, by default small enough for a CPU."""

        preset: Preset | None = Field(
            None, exclude=True, description="published size: patch_size, heads, their width, and layers"
        )
        patch_size: int | None = Field(
            None, ge=1, description="side of a patch in px, a divisor of the image size; unset: 2, or 1 for an odd size"
        )
        num_attention_heads: int = Field(4, ge=1, le=1024, description="attention heads")
        attention_head_dim: int = Field(32, ge=1, le=4096, description="width of a head")
        num_layers: int = Field(6, ge=1, le=1024, description="transformer blocks")
        dropout: float = Field(0.0, ge=0, lt=1, description="dropout in the blocks")
        attention_bias: bool = Field(True, description="biases in the attention's maps")
        activation_fn: Literal["gelu", "gelu-approximate", "geglu", "geglu-approximate"] = Field(
            "gelu-approximate", description="activation function of the blocks' MLPs"
        )
        norm_elementwise_affine: bool = Field(False, description="scales and shifts of their own in the layer norms")
        norm_eps: float = Field(1e-5, gt=0, description="added to variances in the layer norms before the MLPs")
        upcast_attention: bool = Field(False, description="attention computed in float32 in any precision")
        use_checkpoint: bool = Field(
            False, description="recompute activations in the backward pass, to save memory; no part of diffusers' own"
        )

        @model_validator(mode="before")
        @classmethod
        def _filled_in(cls, data: Any) -> Any:
            """Put a preset's options below those that are given."""
            preset = data.get("preset") if isinstance(data, Mapping) else None
            if not isinstance(preset, str) or preset not in get_args(Preset):
                return data  # an unknown name is refused by its type, which lists the known ones
            return {**preset_options(preset), **data}

        @model_validator(mode="after")
        def _fits(self) -> Self:
            if self.num_attention_heads * self.attention_head_dim % 4:
                raise ValueError(
                    "num_attention_heads times attention_head_dim, the width, must be a multiple of 4 (its position "
                    "embedding has four parts)"
                )
            return self

    options: Options

    @classmethod
    def resolve_options(cls, options: Options, shape: ImageShape) -> Options:
        """Choose a patch size, if none is given.

        Raises:
            UsageError: if the given patch size does not divide the image size.
        """
        size = shape.image_size
        if options.patch_size is None:
            return options.model_copy(update={"patch_size": 1 if size % 2 else 2})
        if size % options.patch_size:
            divisors = [divisor for divisor in range(1, size + 1) if size % divisor == 0]
            raise UsageError(
                f"diffusers-dit: patch_size {options.patch_size} does not divide the image size {size}. "
                f"Allowed: {', '.join(map(str, divisors))}"
            )
        return options

    def build(self, shape: ImageShape, num_classes: int) -> nn.Module:
        """Build a module with `forward(x, noise_level, labels=None)`, whose output is zero before training.

        Raises:
            UsageError: if the options do not fit the image or one another.
        """
        return DiT(self.resolve_options(self.options, shape), shape, num_classes=num_classes)


def preset_options(preset: str) -> dict[str, Any]:
    """The options of a published network, such as XL/2."""
    size, _, patch_size = preset.partition("/")
    heads, head_dim, layers = _SIZES[size]
    return {
        "patch_size": int(patch_size),
        "num_attention_heads": heads,
        "attention_head_dim": head_dim,
        "num_layers": layers,
    }


def config_of(options: DiffusersDiT.Options, shape: ImageShape, num_classes: int) -> dict[str, Any]:
    """DiTTransformer2DModel's configuration; it embeds one class more than num_embeds_ada_norm, as no class."""
    return {
        **options.model_dump(exclude={"use_checkpoint"}),
        "sample_size": shape.image_size,
        "in_channels": shape.in_channels,
        "out_channels": shape.out_channels,
        "num_embeds_ada_norm": max(0, num_classes - 1),
    }


class DiT(nn.Module):
    """DiTTransformer2DModel as `transformer`, called as debiasctl calls networks.

    A network without classes has one row of them, whose label is always 0.
    """

    def __init__(self, options: DiffusersDiT.Options, shape: ImageShape, *, num_classes: int) -> None:
        from diffusers import DiTTransformer2DModel

        super().__init__()
        self.shape, self.num_classes = shape, num_classes
        self.transformer = built("diffusers-dit", DiTTransformer2DModel, config_of(options, shape, num_classes))
        for block in self.transformer.transformer_blocks:
            block.norm1.emb.class_embedder.dropout_prob = 0.0  # labels are dropped by debiasctl, or not at all
        for last in (self.transformer.proj_out_1, self.transformer.proj_out_2):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        for block in self.transformer.transformer_blocks:  # adaLN-Zero
            nn.init.zeros_(block.norm1.linear.weight)
            nn.init.zeros_(block.norm1.linear.bias)
        if options.use_checkpoint:
            self.transformer.enable_gradient_checkpointing()

    def forward(self, x: Tensor, noise_level: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map x [N, in_channels, H, W], noise_level [N] and labels (int64 [N] or None) to [N, out_channels, H, W]."""
        check_inputs(x, noise_level, labels, shape=self.shape, num_classes=self.num_classes)
        rows = torch.zeros(len(x), dtype=torch.int64, device=x.device) if labels is None else labels
        out: Tensor = self.transformer(x, timestep=noise_level, class_labels=rows, return_dict=False)[0]
        return out
