"""The backbone that a network's configuration stands for."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from debiasctl.api import ImageShape, ModelError, UsageError
from debiasctl.api.files import one_line, quoted
from debiasctl_diffusers.dit import DiffusersDiT
from debiasctl_diffusers.schedulers import arguments
from debiasctl_diffusers.unet import DiffusersUNet

_OF_EMA = (
    "decay", "min_decay", "optimization_step", "update_after_step", "use_ema_warmup", "inv_gamma", "power",
)  # fmt: skip
# settings of the classes that must have their defaults, or values without an effect
_FIXED: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "diffusers-unet": {"time_embedding_type": ("positional",), "class_embed_type": (None,)},
    "diffusers-dit": {"norm_type": ("ada_norm_zero",)},
}
# of the older class of DiT's pipelines, which is every transformer in one
_ONLY_DIT: Mapping[str, tuple[Any, ...]] = {
    "attention_type": ("default",),
    "caption_channels": (None,),
    "cross_attention_dim": (None,),
    "use_linear_projection": (False,),
    "num_vector_embeds": (None,),
    "only_cross_attention": (False,),
    "double_self_attention": (False,),
    "interpolation_scale": (None, 1),
    "use_additional_conditions": (None, False),
}
_CLASSES = {
    "UNet2DModel": "diffusers-unet",
    "DiTTransformer2DModel": "diffusers-dit",
    "Transformer2DModel": "diffusers-dit",
}


@dataclass(frozen=True)
class Described:
    """A network: its backbone with resolved options, the shapes of its images, and its rows of classes."""

    backbone: str
    options: Any
    shape: ImageShape
    num_rows: int
    steps: int | None

    @property
    def prefix(self) -> str:
        """What the backbone's module puts before the names of diffusers' tensors."""
        return "unet." if self.backbone == "diffusers-unet" else "transformer."


def described(path: Path, config: Mapping[str, Any]) -> Described:
    """The network of a configuration at `path`.

    Raises:
        ModelError: if it is of another class, or has a setting that no backbone here has; the message names it.
    """
    name = config.get("_class_name")
    if name not in _CLASSES:
        shown = "no class" if name is None else quoted(str(name))
        raise ModelError(
            f"{path} describes a network of {shown}. Read are UNet2DModel, DiTTransformer2DModel, and "
            "Transformer2DModel as DiT's pipelines have it; others are conditional on text, or no network that runs "
            "have"
        )
    backbone = _CLASSES[name]
    plugin: Any = DiffusersUNet if backbone == "diffusers-unet" else DiffusersDiT
    defaults = _defaults(name)
    settings = {key: value for key, value in config.items() if not key.startswith("_") and key not in _OF_EMA}
    options: dict[str, Any] = {}
    fixed = {**_FIXED[backbone], **(_ONLY_DIT if name == "Transformer2DModel" else {})}
    for key, value in settings.items():
        if key in fixed:
            if value not in fixed[key]:
                raise ModelError(f"{path}: {key}={value!r} is not supported; supported is {fixed[key][0]!r}")
        elif key in plugin.Options.model_fields and key != "preset":
            options[key] = value
        elif key not in defaults:
            raise ModelError(f"{path}: {key} is no setting of {name} that is known here")
    shape, rows = _shape(path, {**defaults, **settings}), _rows(path, backbone, {**defaults, **settings})
    for key in defaults.keys() & plugin.Options.model_fields.keys():
        options.setdefault(key, defaults[key])  # diffusers' defaults, not those for the image size
    try:
        checked = plugin.Options.model_validate(options)
        resolved = plugin.resolve_options(checked, shape)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ModelError(f"{path}: {where}: {one_line(first['msg'])[:200]} (it is {first['input']!r:.60})") from error
    except UsageError as error:
        raise ModelError(f"{path}: {error}") from error
    steps = config.get("optimization_step")
    return Described(backbone, resolved, shape, rows, steps if type(steps) is int and steps > 0 else None)


def _defaults(name: str) -> dict[str, Any]:
    import diffusers

    return arguments(getattr(diffusers, name).__init__)


def _shape(path: Path, settings: Mapping[str, Any]) -> ImageShape:
    size = settings["sample_size"]
    if isinstance(size, list) and len(size) == 2 and size[0] == size[1]:
        size = size[0]
    taken, given = settings["in_channels"], settings["out_channels"]
    given = taken if given is None else given
    if not all(type(one) is int and one > 0 for one in (size, taken, given)):
        raise ModelError(
            f"{path}: sample_size={settings['sample_size']!r}, in_channels={taken!r} and out_channels={given!r} are no "
            "square images. State sample_size as the height and width of what the network was trained on"
        )
    if given not in (taken, 2 * taken):
        raise ModelError(
            f"{path}: the network takes {taken} channels and gives {given}. One that draws images gives as many as it "
            "takes, or twice as many with a variance"
        )
    return ImageShape(size, taken, given)


def _rows(path: Path, backbone: str, settings: Mapping[str, Any]) -> int:
    """The rows of classes that the network embeds."""
    name = "num_class_embeds" if backbone == "diffusers-unet" else "num_embeds_ada_norm"
    value = settings[name]
    if value is None and backbone == "diffusers-unet":
        return 0
    if type(value) is not int or value < (1 if backbone == "diffusers-unet" else 0):
        raise ModelError(f"{path}: {name}={value!r} is no number of classes")
    return value if backbone == "diffusers-unet" else value + 1
