"""Published U-Nets of the guided-diffusion family, as options of the backbone and what else a checkpoint needs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Preset = Literal["cifar10", "faces256", "imagenet64", "imagenet128", "imagenet256", "imagenet512"]

_SMALL: Mapping[str, Any] = {"channels": 128, "num_res_blocks": 1, "attention_resolutions": (16,)}
_LARGE: Mapping[str, Any] = {"channels": 256, "num_res_blocks": 2, "attention_resolutions": (32, 16, 8)}


@dataclass(frozen=True)
class Published:
    """A published network: its image size, the options that are not the backbone's defaults, and its schedule."""

    image_size: int
    options: Mapping[str, Any]
    schedule: Literal["linear", "cosine"] = "linear"
    heads: Mapping[str, int] = field(default_factory=lambda: {"num_head_channels": 64})


# cifar10, faces256: train.sh of Debias (2310.08442) and of P2 (2204.00227); imagenet: the README of ADM (2105.05233)
PRESETS: Mapping[Preset, Published] = {
    "cifar10": Published(32, {**_SMALL, "channel_mult": (1, 2, 2, 2)}),
    "faces256": Published(256, {**_SMALL, "channel_mult": (1, 1, 2, 2, 4, 4)}),
    "imagenet64": Published(
        64,
        {
            **_LARGE,
            "channels": 192,
            "channel_mult": (1, 2, 3, 4),
            "num_res_blocks": 3,
            "dropout": 0.1,
            "use_new_attention_order": True,
        },
        schedule="cosine",
    ),
    "imagenet128": Published(128, {**_LARGE, "channel_mult": (1, 1, 2, 3, 4)}, heads={"num_heads": 4}),
    "imagenet256": Published(256, {**_LARGE, "channel_mult": (1, 1, 2, 2, 4, 4)}),
    "imagenet512": Published(512, {**_LARGE, "channel_mult": (0.5, 1, 1, 2, 2, 4, 4)}),
}
