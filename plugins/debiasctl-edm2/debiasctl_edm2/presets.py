"""EDM2's published sizes (arXiv 2312.02696), and small ones for a CPU."""

from collections.abc import Mapping
from typing import Any, Literal

Preset = Literal["nano", "micro", "mini", "XS", "S", "M", "L", "XL", "XXL"]


def _published(channels: int, dropout: float) -> Mapping[str, Any]:
    return {"channels": channels, "channel_mult": (1, 2, 3, 4), "num_blocks": 3, "dropout": dropout}


PRESETS: Mapping[Preset, Mapping[str, Any]] = {
    "nano": {"channels": 16, "num_blocks": 1},
    "micro": {"channels": 32, "num_blocks": 1},
    "mini": {"channels": 64, "num_blocks": 2},
    "XS": _published(128, 0.0),
    "S": _published(192, 0.0),
    "M": _published(256, 0.1),
    "L": _published(320, 0.1),
    "XL": _published(384, 0.1),
    "XXL": _published(448, 0.1),
}
