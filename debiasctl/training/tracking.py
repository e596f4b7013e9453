"""Passing a training's metrics and images to trackers (TensorBoard, Weights & Biases, ...)."""

from accelerate import Accelerator
from torch import Tensor

from debiasctl.runs.records import Edge, MetricsRecord


def scalars(record: MetricsRecord) -> dict[str, int | float]:
    """Flatten a metrics record into numbers by name, for trackers without nested values.

    Log-SNR bins are named `loss_share/log_snr_-2_to_0`, `heldout_eps/log_snr_below_-8` and so on. The step, which
    trackers get separately, and values that are None are left out; so is everything of an evaluation but its metrics.
    """
    found = record.scalars()
    if record.kind == "train":
        found |= {f"loss_share/{_name(one.log_snr)}": one.share for one in record.loss_shares}
    elif record.kind == "heldout":
        for one in record.bins:
            name = _name(one.log_snr)
            found |= {f"heldout_{unit}/{name}": getattr(one, unit) for unit in ("eps", "x0", "v", "flow")}
    return {name: value for name, value in found.items() if value is not None}


def _name(bounds: tuple[Edge, Edge]) -> str:
    low, high = bounds
    if low is None:
        return f"log_snr_below_{high:g}"
    return f"log_snr_above_{low:g}" if high is None else f"log_snr_{low:g}_to_{high:g}"


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
