"""Checkpoints in the layout of DiT's authors (facebookresearch/DiT)."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, ValidationError
from torch import Tensor

from debiasctl.api import (
    ExternalModel,
    ImageShape,
    ModelError,
    ModelSource,
    NestedSchedule,
    PluginOptions,
    UsageError,
    read_state_dict,
    state_dict_differences,
)
from debiasctl.api.files import one_line, quoted
from debiasctl.builtin.backbones.dit import SIZES, DiT, DiTModel, position_embedding
from debiasctl.builtin.models._support.state_files import (
    AbsolutePath,
    check_ending,
    check_weights,
    shape_of,
    write_state,
)

# the beginnings of published names and of ours, outside and inside of blocks
_OUTSIDE = (
    ("pos_embed", "pos_embed"),
    ("x_embedder.proj", "patch_embed"),
    ("t_embedder.mlp", "time_embed"),
    ("y_embedder.embedding_table", "label_embed"),
    ("final_layer.linear", "final"),
    ("final_layer.adaLN_modulation", "final_adaln"),
)
_INSIDE = (("attn", "attention"), ("mlp.fc1", "mlp.0"), ("mlp.fc2", "mlp.2"), ("adaLN_modulation", "adaln"))
_PATCHES, _PLACES, _FINAL = "x_embedder.proj.weight", "pos_embed", "final_layer.linear.weight"
_CLASSES, _FIRST_BLOCK = "y_embedder.embedding_table.weight", "blocks.0.mlp.fc1.weight"
_BLOCK = re.compile(r"(blocks\.(\d+)\.)(.+)")
_HEADS = {(width, depth): heads for width, depth, heads in SIZES.values()}


def published_name(own: str) -> str:
    """The published name of a tensor of our `dit`."""
    block = _BLOCK.fullmatch(own)
    start, rest = (block[1], block[3]) if block else ("", own)
    for theirs, ours in _INSIDE if block else _OUTSIDE:
        if rest == ours or rest.startswith(f"{ours}."):
            return f"{start}{theirs}{rest.removeprefix(ours)}"
    raise KeyError(own)


def as_published(own: Mapping[str, Tensor], *, patch_size: int) -> dict[str, Tensor]:
    """Our tensors by their published names; patches are embedded by a convolution [D, C, p, p] there."""
    state = {published_name(name): tensor for name, tensor in own.items()}
    weight = state[_PATCHES]
    grid = weight.reshape(weight.shape[0], patch_size, patch_size, -1)  # ours is [D, p p C]
    return {**state, _PATCHES: grid.permute(0, 3, 1, 2).contiguous()}


def from_published(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published tensors by the names of `own`: the inverse of `as_published`."""
    flat = state[_PATCHES].permute(0, 2, 3, 1).flatten(1).contiguous()
    theirs = {name: published_name(name) for name in own}
    return {name: flat if there == _PATCHES else state[there] for name, there in theirs.items()}


class DiTCheckpoint(ModelSource):
    """A checkpoint of DiT in its authors' layout (Peebles & Xie, 2022, arXiv 2212.09748), as DiT-XL-2-256x256.pt is.

    The file is a mapping of names to tensors, or holds such as `ema` and `model`, as DiT's training writes it. The
    network's options follow from the tensors. The published networks draw latents of Stable Diffusion's autoencoder, in
    4 channels and an eighth of the images' size.
    """

    class Options(PluginOptions):
        """What the file does not say, with what DiT's authors published as the defaults."""

        path: AbsolutePath = Field(description="the file, .pt or .safetensors")
        weights: Literal["ema", "model"] | None = Field(
            None, description="which, in a file that has both: averaged ones or those without averaging; unset: ema"
        )
        num_heads: int | None = Field(
            None, ge=1, description="attention heads; unset: those of the published S, B, L or XL of the same size"
        )
        num_classes: int | None = Field(
            None, ge=1, description="number of classes; unset: the table's rows but the last, which stands for no class"
        )
        prediction: Literal["eps", "x0", "v"] = Field("eps", description="what the network predicts")
        schedule: NestedSchedule = Field("linear", validate_default=True, description="noise schedule")

    options: Options

    def read(self) -> ExternalModel:
        """Read the tensors, infer the network's options, and check that it has exactly these.

        Raises:
            UsageError: if there is no such file, or the attention heads do not follow from it and are not given.
            ModelError: if it is not a checkpoint of DiT.
        """
        state = read_state_dict(self.options.path, part=self.options.weights, parts=("ema", "model"), holds=_PATCHES)
        backbone, shape = self._inferred(state)
        rows = len(self._tensor(state, _CLASSES, 2)) if _CLASSES in state else 0
        own = _tensors(backbone, shape, rows)
        described = _described(backbone, shape)
        differences = state_dict_differences(state, as_published(own, patch_size=backbone.patch_size or 0))
        if differences:
            raise ModelError(f"{self.options.path} does not hold all of a DiT with {described}: {differences}")
        classes = self._num_classes(rows)
        notes = [f"from its tensors: {described}, {rows} rows of classes"]
        if rows > classes:
            notes.append(
                f"the last of {rows} rows of classes stands for no class, as published; num_classes={rows} if none does"
            )
        return ExternalModel(
            backbone="dit",
            backbone_options=backbone.model_dump(mode="json"),
            weights=from_published(state, own),
            image_size=shape.image_size,
            channels=shape.in_channels,
            prediction=self.options.prediction,
            schedule=self.options.schedule.name,
            schedule_options=self.options.schedule.options,
            num_classes=classes,
            null_class=rows > classes,
            learned_variance=shape.out_channels > shape.in_channels,
            notes=tuple(notes),
        )

    @classmethod
    def write(cls, model: ExternalModel, path: Path) -> tuple[str, ...]:
        """Write the tensors by their published names; returns how DiT's code loads them.

        Raises:
            UsageError: if it is another backbone's network, or the file's name has another ending.
        """
        check_ending(path)
        if model.backbone != "dit":
            raise UsageError(f"dit holds transformers (backbone dit), and this network is a '{model.backbone}'")
        options = DiT.Options.model_validate(dict(model.backbone_options))
        shape = shape_of(model)
        options = DiT.resolve_options(options, shape)
        check_weights(model, _tensors(options, shape, model.num_classes + model.null_class))
        patch_size = options.patch_size or 0  # never 0: it is resolved
        places = position_embedding(model.image_size // patch_size, options.hidden_size)
        write_state(as_published({_PLACES: places[None], **model.weights}, patch_size=patch_size), path)
        return _how_to_load(model, options)

    def _inferred(self, state: Mapping[str, Tensor]) -> tuple[DiT.Options, ImageShape]:
        """The options of the network that has these tensors, and the shapes of its images.

        Raises:
            UsageError: if the attention heads do not follow and are not given; ModelError: if it is no DiT.
        """
        width, channels, patch_size, across = self._tensor(state, _PATCHES, 4).shape
        _, places, _ = self._tensor(state, _PLACES, 3).shape
        inner, outputs = (len(self._tensor(state, name, 2)) for name in (_FIRST_BLOCK, _FINAL))
        depth = len({block[2] for name in state if (block := _BLOCK.fullmatch(name))})
        side = math.isqrt(places)
        if across != patch_size or side**2 != places or outputs not in (channels * across**2, 2 * channels * across**2):
            raise ModelError(
                f"{self.options.path} is no DiT of square images and patches: patches of {patch_size}x{across}, "
                f"{places} of them, {channels} channels, {outputs} outputs a patch"
            )
        heads = self.options.num_heads or _HEADS.get((width, depth))
        if heads is None:
            raise UsageError(
                f"dit: no published DiT has {depth} blocks of width {width}, so the attention heads do not follow from "
                "the file. Give them: num_heads=N"
            )
        options = {"patch_size": patch_size, "hidden_size": width, "depth": depth, "num_heads": heads}
        try:
            backbone = DiT.Options.model_validate({**options, "mlp_ratio": inner / width, "pos_embed": "stored"})
        except ValidationError as error:
            raise UsageError(f"dit: {one_line(error.errors()[0]['msg'].removeprefix('Value error, '))}") from error
        return backbone, ImageShape(side * patch_size, channels, outputs // patch_size**2)

    def _tensor(self, state: Mapping[str, Tensor], name: str, dimensions: int) -> Tensor:
        tensor = state.get(name)
        if tensor is not None and tensor.ndim == dimensions and tensor.numel():
            return tensor
        wrong = "does not hold" if tensor is None else f"holds {list(tensor.shape)} as"
        instead = (
            "; guided-diffusion's have such names" if any(key.startswith("input_blocks.") for key in state) else ""
        )
        raise ModelError(
            f"{self.options.path} is not a checkpoint of DiT: it {wrong} '{name}'. It has {len(state):,} tensors, such "
            f"as {', '.join(map(quoted, list(state)[:4]))}{instead}"
        )

    def _num_classes(self, rows: int) -> int:
        given = self.options.num_classes
        if given is None:
            return max(rows - 1, min(rows, 1))
        if given not in (rows, rows - 1):
            raise UsageError(f"dit: num_classes={given}, and the table of classes has {rows} rows. Leave it out")
        return given


def _tensors(options: DiT.Options, shape: ImageShape, rows: int) -> dict[str, Tensor]:
    """The tensors of the network, without their numbers."""
    with torch.device("meta"):
        return dict(DiTModel(options, shape, num_classes=rows).state_dict())


def _described(options: DiT.Options, shape: ImageShape) -> str:
    size = next(
        (name for name, own in SIZES.items() if own == (options.hidden_size, options.depth, options.num_heads)), ""
    )
    of_size = f" (DiT-{size}/{options.patch_size})" if size and options.mlp_ratio == 4 else ""
    variance = "a" if shape.out_channels > shape.in_channels else "no"
    return (
        f"{options.depth} blocks of width {options.hidden_size}, {options.num_heads} heads and patches of "
        f"{options.patch_size}{of_size}, {shape.in_channels} channels of {shape.image_size} px, {variance} learned "
        "variance"
    )


def _how_to_load(model: ExternalModel, options: DiT.Options) -> tuple[str, ...]:
    """The arguments of DiT's own class for the network, and what its programs cannot know."""
    arguments = {
        "input_size": model.image_size,
        "patch_size": options.patch_size,
        "in_channels": model.channels,
        "hidden_size": options.hidden_size,
        "depth": options.depth,
        "num_heads": options.num_heads,
        "mlp_ratio": f"{options.mlp_ratio:g}",
        "class_dropout_prob": 0.1 if model.null_class else 0,
        "num_classes": model.num_classes,
        "learn_sigma": model.learned_variance,
    }
    notes = [f"DiT's code builds it as DiT({', '.join(f'{name}={value}' for name, value in arguments.items())})"]
    if not model.num_classes:
        notes.append("it knows no classes, and DiT's own code always embeds some: take y_embedder out of it")
    if model.prediction != "eps":
        notes.append(f"DiT's programs take what it predicts for eps, and it predicts {model.prediction}")
    return tuple(notes)
