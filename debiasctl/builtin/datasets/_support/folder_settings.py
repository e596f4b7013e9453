"""Recommended settings for folders of images, depending on the image size."""

from collections.abc import Mapping
from typing import Any


def recommended_settings(image_size: int) -> Mapping[str, Any]:
    """Return spec settings: a small transformer up to 16 pixels and for odd sizes, else a U-Net.

    From 48 pixels on they are the paper's setup for 256, with a learned variance; only the average has a warm-up, which
    matters in a short training and not after 500,000 steps. Images are not mirrored, because text, digits and
    medical images have a handedness; `data.horizontal_flip=true` mirrors them.
    """
    if image_size <= 16 or image_size % 2:  # a U-Net halves the image
        model: dict[str, Any] = {"backbone": "dit", "prediction": "eps"}
        optimizer = {"lr": 1e-3, "warmup_steps": 100, "decay": "cosine", "weight_decay": 0.0, "clip_grad_norm": 1.0}
        ema = {"decay": 0.999}
        training = {"steps": 5_000, "batch_size": 128, "checkpoint_every": 1_000, "heldout_every": 500}
    elif image_size < 48:
        model = _unet(channels=64)
        optimizer = {"lr": 2e-4, "warmup_steps": 500, "decay": "none", "weight_decay": 0.0, "clip_grad_norm": 1.0}
        ema = {"decay": 0.9995}
        training = {"steps": 50_000, "batch_size": 64, "checkpoint_every": 2_500, "heldout_every": 2_500}
    else:
        model = _unet(channels=128) | {"learned_variance": True}
        optimizer = {"lr": 2e-5, "warmup_steps": 0, "decay": "none", "weight_decay": 0.0, "clip_grad_norm": None}
        ema = {"decay": 0.9999, "warmup": True}
        training = {"steps": 500_000, "batch_size": 8, "checkpoint_every": 10_000, "heldout_every": 10_000}
    return {
        "data": {"horizontal_flip": False},
        "model": model,
        "diffusion": {"schedule": "linear"},
        "optimizer": optimizer,
        "ema": ema,
        "training": training,
    }


def _unet(*, channels: int) -> dict[str, Any]:
    return {"backbone": {"name": "unet", "options": {"channels": channels}}, "prediction": "eps"}
