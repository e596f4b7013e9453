"""Small images as files, and all images of a data set."""

import io

import numpy as np
import torch
from PIL import Image

from debiasctl.api import LoadedDataset


def png(number: int, *, size: int = 8, mode: str = "RGB") -> bytes:
    """An image that depends on its number, as a PNG file."""
    stream = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(stream, "PNG")
    return stream.getvalue()


def decoded(content: bytes) -> bytes:
    """The pixels [3, H, W] of an image file."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).transpose(2, 0, 1).tobytes()


def everything(data: LoadedDataset) -> dict[bytes, int | None]:
    """The pixels of each image of both splits, with its class."""
    found = {}
    for split in (data.train, data.heldout):
        rows = torch.arange(len(split))
        labels = split.labels(rows)
        for row, image in enumerate(split.images(rows)):
            found[image.numpy().tobytes()] = None if labels is None else int(labels[row])
    return found
