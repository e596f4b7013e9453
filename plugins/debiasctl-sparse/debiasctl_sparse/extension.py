"""Training with sparse weights from the first step to the last."""

from collections.abc import Mapping
from typing import Any, Literal, Self
from weakref import WeakSet

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from debiasctl.api import Extension, PluginOptions, StepContext, UsageError
from debiasctl_sparse.distribution import Distribution, active_counts
from debiasctl_sparse.flops import Flops, count_flops
from debiasctl_sparse.layers import Layer, find_layers
from debiasctl_sparse.masks import changed, generator, random_mask, update_fraction

_UPDATE_EVERY = 100  # steps, in trainings that are long enough
_OF_CHANGES = ("update_every", "update_fraction", "end_fraction")  # options of changing masks alone
_MASKED: WeakSet[nn.Module] = WeakSet()  # networks with masks


class Sparse(Extension):
    """Sparse-to-sparse training (arXiv 2504.21380): a fixed random mask, RigL (arXiv 1911.11134), or MagRan."""

    class Options(PluginOptions):
        """Which weights are active, and how they change."""

        method: Literal["static", "rigl", "magran"] = Field(
            "rigl",
            description="static: a fixed random mask; rigl: prune the smallest weights, regrow where gradients are "
            "largest; magran: prune the smallest, regrow at random",
        )
        sparsity: float = Field(0.5, ge=0, lt=1, description="share of the weights of sparse layers that is zero")
        distribution: Distribution = Field(
            "erk", description="sparsity over layers: erk (Erdős–Rényi kernel: large layers sparser) or uniform"
        )
        update_every: int | None = Field(
            None, ge=1, description="steps between changes of the mask (default: 100, or a tenth of a shorter course)"
        )
        update_fraction: float = Field(
            0.3, gt=0, le=1, description="share of active weights that the first change replaces; it falls as a cosine"
        )
        end_fraction: float = Field(0.75, gt=0, le=1, description="share of the training after which masks are fixed")
        exclude: tuple[str, ...] = Field((), description="patterns of layers that stay dense, such as [time_embed.*]")
        dense_ends: bool = Field(True, description="keep the first and the last layer on the image dense")

        @model_validator(mode="after")
        def _has_effect(self) -> Self:
            fields = type(self).model_fields
            given = [name for name in _OF_CHANGES if getattr(self, name) != fields[name].default]
            if self.method == "static" and given:
                raise ValueError(
                    f"{given[0]} has no effect with method=static, whose mask never changes. Leave it out, or choose "
                    "method=rigl or method=magran"
                )
            return self

    options: Options

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._layers: dict[str, Layer] = {}
        self._active: dict[str, Tensor] = {}  # bool, True where a weight is active; of sparse layers alone
        self._inactive: dict[str, Tensor] = {}
        self._gradients: dict[str, Tensor] = {}  # dense ones, between the backward pass and the change of the mask
        self._figures: dict[str, int | float | str] = {}

    def on_init(self, context: StepContext) -> None:
        """Draw the masks from the run's seed, and zero what they leave out."""
        if any(isinstance(parameter, DTensor) for parameter in context.model.parameters()):
            raise UsageError(
                "sparse: the masks need whole weights, and `compute.sharding=fsdp` divides them. Use "
                "`compute.sharding=none`: each process then holds the whole network"
            )
        if context.model in _MASKED:
            raise UsageError(
                "sparse: the extension is given twice. Give it once: a second mask would change the sparsity"
            )
        _MASKED.add(context.model)
        options = self.options
        self._check_updates(context.num_steps)
        if context.shape is None:
            raise ValueError("a context without the images' shape is not one of a training")
        layers = find_layers(
            context.model,
            context.shape,
            context.num_classes,
            exclude=options.exclude,
            dense_ends=options.dense_ends,
        )
        shapes = [layer.weight.shape for layer in layers.sparse]
        counts = active_counts(shapes, sparsity=options.sparsity, distribution=options.distribution)
        named = {layer.name: count for layer, count in zip(layers.sparse, counts, strict=True)}
        self._layers = {layer.name: layer for layer in layers.sparse if named[layer.name] < layer.weight.numel()}
        self._hold(
            {
                name: random_mask(layer.weight.shape, named[name], generator(context.seed, "mask", name))
                for name, layer in self._layers.items()
            }
        )
        self._mask_weights()
        self._figures = self._count(context, count_flops(layers, named), named)

    def before_clipping(self, context: StepContext) -> None:
        """Take the gradient of masked weights away, so that it neither counts in the norm nor enters the moments."""
        keep = self.options.method == "rigl" and self._is_update(context)
        for name, layer in self._layers.items():
            gradient = layer.weight.grad
            if gradient is None:  # a layer that the loss does not depend on
                continue
            if keep:
                self._gradients[name] = gradient.detach().clone()
            gradient.masked_fill_(self._inactive[name], 0)

    def after_step(self, context: StepContext) -> None:
        """Change the masks where they are due, and zero what they leave out."""
        if self._is_update(context):
            self._update(context)
        self._mask_weights()

    def reconstructed(self, name: str, average: Tensor, newest: Tensor) -> Tensor:
        """Mask the combination of averages of several masks by the newest: an average is zero where it is masked."""
        return average.masked_fill(newest == 0, 0) if average.ndim >= 2 else average

    def summary(self) -> Mapping[str, int | float | str]:
        """Sparsity, and what the network costs beside the dense one."""
        return self._figures

    def state_dict(self) -> dict[str, Any]:
        """The masks by their layers' names: bool, True where a weight is active."""
        return {"masks": dict(self._active)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the masks."""
        masks: Mapping[str, Tensor] = state["masks"]
        shapes = {name: mask.shape for name, mask in masks.items()}
        if self._layers and shapes != {name: layer.weight.shape for name, layer in self._layers.items()}:
            raise ValueError("its masks are of other layers than the run's options make sparse")
        self._hold(masks)

    # ---------------------------------------------------------------- masks

    def _hold(self, masks: Mapping[str, Tensor]) -> None:
        for name, mask in masks.items():
            layer = self._layers.get(name)
            self._set(name, mask.bool() if layer is None else _laid_out(mask.bool(), layer.weight))

    def _set(self, name: str, active: Tensor) -> None:
        self._active[name], self._inactive[name] = active, ~active

    @torch.no_grad()
    def _mask_weights(self) -> None:
        for name, layer in self._layers.items():
            layer.weight.masked_fill_(self._inactive[name], 0)

    @torch.no_grad()
    def _update(self, context: StepContext) -> None:
        """Prune and regrow in every sparse layer; afterwards moments and averages are zero where weights are."""
        gradients, self._gradients = self._gradients, {}
        if not all(bool(gradient.isfinite().all()) for gradient in gradients.values()):
            return  # fp16's scaler has skipped this step, in every process
        end = self.options.end_fraction * context.num_steps
        share = update_fraction(context.step + 1, alpha=self.options.update_fraction, end=end)
        averages = [dict(average.named_parameters()) for average in context.averages]
        for name, layer in self._layers.items():
            active, weight = self._active[name], layer.weight
            score = self._score(name, gradients, context)
            if score is None:
                continue
            self._set(name, _laid_out(changed(active, weight, score, int(share * int(active.sum()))), weight))
            moments = [one for one in context.optimizer.state.get(weight, {}).values() if isinstance(one, Tensor)]
            same = [one for one in moments if one.shape == weight.shape]
            for tensor in (*same, *(average[name] for average in averages)):
                tensor.masked_fill_(self._inactive[name], 0)

    def _score(self, name: str, gradients: Mapping[str, Tensor], context: StepContext) -> Tensor | None:
        """By what a layer's inactive places are chosen; None if it has no gradient."""
        active = self._active[name]
        if self.options.method == "rigl":
            return gradients[name].abs() if name in gradients else None
        source = generator(context.seed, "regrow", context.step, name)
        return torch.rand(active.shape, generator=source).to(active.device)

    # ---------------------------------------------------------------- the course of updates

    def _interval(self, num_steps: int) -> int:
        """Steps between changes of the masks."""
        course = self.options.end_fraction * num_steps
        return self.options.update_every or min(_UPDATE_EVERY, max(1, int(course / 10)))

    def _is_update(self, context: StepContext) -> bool:
        """Whether the masks change after the step in progress."""
        done, interval = context.step + 1, self._interval(context.num_steps)
        in_course = done < self.options.end_fraction * context.num_steps
        return self.options.method != "static" and in_course and done % interval == 0 and bool(self._layers)

    def _num_updates(self, num_steps: int) -> int:
        end, interval = self.options.end_fraction * num_steps, self._interval(num_steps)
        count = int(end / interval)
        return count - (count * interval >= end) if self.options.method != "static" and self._layers else 0

    def _check_updates(self, num_steps: int) -> None:
        """Check that an interval that was asked for lets masks change at all."""
        every, end = self.options.update_every, self.options.end_fraction * num_steps
        if every is None:
            return
        if every >= end:
            raise UsageError(
                f"sparse: with `update_every={every}` the mask would never change: the training has {num_steps:,} "
                f"steps, and masks change in the first {end:g} of them (`end_fraction`). Give a smaller one, or "
                "choose the static method"
            )

    def _count(self, context: StepContext, flops: Flops, active: Mapping[str, int]) -> dict[str, int | float | str]:
        """What is reported."""
        layers = self._layers.values()
        zeros = sum(layer.weight.numel() - active[layer.name] for layer in layers)
        parameters = sum(parameter.numel() for parameter in context.model.parameters())
        whole = sum(active.values()) + zeros
        steps, batch_size = context.num_steps, context.batch_size
        dense_gradients = self._num_updates(steps) if self.options.method == "rigl" else 0
        training = flops.training(steps=steps, batch_size=batch_size, dense_gradients=dense_gradients)
        return {
            "sparsity": zeros / whole,
            "network_sparsity": zeros / parameters,
            "active_parameters": parameters - zeros,
            "mask_updates": self._num_updates(steps),
            "inference_flops": flops.sparse,
            "inference_flops_share": flops.sparse / flops.dense,
            "training_flops": training,
            "training_flops_share": training / flops.dense_training(steps=steps, batch_size=batch_size),
        }


def _laid_out(mask: Tensor, weight: Tensor) -> Tensor:
    """The mask on the weight's device, in its layout in memory."""
    return torch.empty_like(weight, dtype=torch.bool, memory_format=torch.preserve_format).copy_(mask)
