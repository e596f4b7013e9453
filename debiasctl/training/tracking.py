"""Passing a training's metrics and images to trackers (TensorBoard, Weights & Biases, ...)."""

from collections.abc import Mapping, Sequence
from typing import Any

from accelerate import Accelerator
from torch import Tensor

_BIN = "log_snr"


def scalars(record: Mapping[str, Any]) -> dict[str, int | float]:
    """Flatten a metrics record into numbers by name, for trackers without nested values.

    An evaluation gives its metrics. Log-SNR bins are named `loss_share/log_snr_-2_to_0`, `heldout_eps/log_snr_below_-8`
    and so on. The step, which trackers get separately, and null values are left out.
    """
    found = dict(record.get("metrics", record))
    found.pop("step", None)
    for one in record.get("loss_shares", ()):
        found[f"loss_share/{_name(one[_BIN])}"] = one["share"]
    for one in record.get("bins", ()):
        found |= {f"heldout_{error}/{_name(one[_BIN])}": one[error] for error in ("eps", "x0", "v")}
    return {name: value for name, value in found.items() if type(value) in (int, float)}


def _name(bounds: Sequence[float | None]) -> str:
    low, high = bounds
    if low is None:
        return f"{_BIN}_below_{high:g}"
    return f"{_BIN}_above_{low:g}" if high is None else f"{_BIN}_{low:g}_to_{high:g}"


def track_image(accelerator: Accelerator, name: str, image: Tensor, *, step: int) -> None:
    """Pass an image (uint8 [C, H, W], on the CPU) to the trackers that accept images, in the main process."""
    colours = image.expand(3, -1, -1) if len(image) == 1 else image  # not all accept one channel
    pixels = colours.permute(1, 2, 0).numpy()
    for tracker in accelerator.trackers:
        if not hasattr(tracker, "log_images"):
            continue
        if tracker.name == "tensorboard":
            tracker.log_images({name: pixels[None]}, step=step, dataformats="NHWC")
        elif tracker.name in ("aim", "clearml"):  # these take one image per name
            tracker.log_images({name: pixels}, step=step)
        else:
            tracker.log_images({name: [pixels]}, step=step)
