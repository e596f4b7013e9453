"""SVHN: house numbers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from debiasctl.builtin.datasets._support.array_sets import TRAIN, ArraySet, ArraySetOptions


class SVHN(ArraySet):
    """99,289 colour photographs of house numbers, 32x32 pixels around a digit (Netzer et al., 2011); 26,032 held out.

    The files train_32x32.mat and test_32x32.mat are read from the data folder (DEBIASCTL_DATA) or the cache, or else
    downloaded into the cache. With extra=true, the 531,131 images of extra_32x32.mat are trained on too. Every file's
    MD5 is checked before it is read.
    """

    class Options(ArraySetOptions):
        """The options of svhn."""

        extra: bool = Field(False, description="train on extra_32x32.mat too")

    options: Options

    title, name, base, size, mirrored = "SVHN", "svhn", "", 32, False
    torchvision_name = "SVHN"
    classes = tuple("0123456789")

    @property
    def published(self) -> tuple[int, int]:
        """The published numbers of images."""
        return 73_257 + 531_131 * self.options.extra, 26_032

    def files(self) -> list[tuple[str, str]]:
        """List the files that are read."""
        listed = self.torchvision.split_list
        return [(listed[split][1], listed[split][2]) for split in self._splits]

    def count(self, folder: Path, part: str) -> int:
        """Count the images by the headers."""
        from scipy.io import whosmat

        shapes = [{name: shape for name, shape, _ in whosmat(folder / file)} for file in self._files_of(part)]
        return sum(int(shape["X"][-1]) for shape in shapes)

    def read(self, folder: Path, part: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[Any] | None]:
        """Read MATLAB files: X [32, 32, 3, N] and y [N, 1], where digit 0 is 10."""
        from scipy.io import loadmat

        images, labels = [], []
        for file in self._files_of(part):
            content = loadmat(folder / file, variable_names=["X", "y"])
            images.append(np.ascontiguousarray(content["X"].transpose(3, 2, 0, 1)))
            labels.append(content["y"].reshape(-1).astype(np.int64))
        joined = np.concatenate(labels)
        return images[0] if len(images) == 1 else np.concatenate(images), np.where(joined == 10, 0, joined)

    def download(self, folder: Path) -> None:
        """Download the files."""
        for split in self._splits:
            self.torchvision(str(folder), split=split, download=True)

    def addresses(self) -> Sequence[str]:
        """Where the files are published."""
        return [" and ".join(str(self.torchvision.split_list[split][0]) for split in self._splits)]

    @property
    def _splits(self) -> tuple[str, ...]:
        return ("train", "extra", "test") if self.options.extra else ("train", "test")

    def _files_of(self, part: str) -> list[str]:
        names = [name for name, _ in self.files()]
        return names[:-1] if part == TRAIN else names[-1:]
