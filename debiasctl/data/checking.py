"""What is wrong or unusual in a data set's images."""

import hashlib
from collections.abc import Callable, Iterator

import torch

from debiasctl.api import DataLocation, Dataset, ImageProblem, LoadedDataset
from debiasctl.data.pixels import as_measured

_CHUNK = 256


def problems_of(
    dataset: Dataset, location: DataLocation, *, progress: Callable[[int, int], None]
) -> Iterator[ImageProblem]:
    """Yield what a data set finds in its files; or, of a set without files for each image, what its pixels show.

    Raises:
        DataError: if the images cannot be listed, or are not in files and cannot be read.
    """
    found = dataset.problems(location, progress=progress)
    return _in_pixels(as_measured(dataset.load(location)), progress) if found is None else found


def _in_pixels(data: LoadedDataset, progress: Callable[[int, int], None]) -> Iterator[ImageProblem]:
    """Images of one colour, and ones whose pixels are those of an earlier one."""
    seen: dict[bytes, str] = {}
    done, total = 0, len(data.train) + len(data.heldout)
    for part, split in (("train", data.train), ("heldout", data.heldout)):
        for start in range(0, len(split), _CHUNK):
            images = split.images(torch.arange(start, min(start + _CHUNK, len(split))))
            for index, image in enumerate(images, start=start):
                name = f"{part}/{index}"
                pixels = image.contiguous().numpy()
                if (pixels == pixels[:, :1, :1]).all():
                    yield ImageProblem(name, "blank", "warning", "all pixels are of one colour")
                first = seen.setdefault(hashlib.blake2b(pixels.tobytes(), digest_size=16).digest(), name)
                if first != name:
                    yield ImageProblem(name, "duplicate", "warning", f"the same pixels as {first}")
            done += len(images)
            progress(done, total)
