"""MNIST."""

from collections.abc import Sequence
from pathlib import Path

from debiasctl.builtin.datasets._support.idx_sets import IdxDataset


class MNIST(IdxDataset):
    """70,000 handwritten digits of 28x28 pixels (LeCun, Cortes and Burges): 60,000 to train on, 10,000 held out.

    The files are read from the data folder (DEBIASCTL_DATA) or the cache, in torchvision's layout or as plain idx
    files, or else downloaded into the cache.
    """

    title = "MNIST"
    name = "mnist"
    torchvision_name = "MNIST"
    classes = tuple("0123456789")
    first_labels = (5, 0, 4, 1, 9, 2, 1, 3, 1, 4)

    def _download(self, folder: Path) -> None:
        from torchvision import datasets

        datasets.MNIST(str(folder), download=True)

    def _addresses(self) -> Sequence[str]:
        from torchvision.datasets.mnist import MNIST as Source

        return list(map(str, Source.mirrors))
