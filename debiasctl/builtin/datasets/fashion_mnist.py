"""Fashion-MNIST."""

from collections.abc import Sequence
from pathlib import Path

from debiasctl.builtin.datasets._support.idx_sets import IdxDataset


class FashionMNIST(IdxDataset):
    """70,000 pictures of clothing of 28x28 pixels (arXiv 1708.07747): 60,000 to train on, 10,000 held out.

    The files are read from the data folder (DEBIASCTL_DATA), from Debian's package dataset-fashion-mnist, or from the
    cache, or else downloaded into the cache.
    """

    title = "Fashion-MNIST"
    name = "fashion-mnist"
    torchvision_name = "FashionMNIST"
    classes = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
    first_labels = (9, 0, 0, 3, 0, 2, 7, 2, 5, 5)
    system_folders = (Path("/usr/share/datasets/fashion-mnist"),)

    def _download(self, folder: Path) -> None:
        from torchvision import datasets

        datasets.FashionMNIST(str(folder), download=True)

    def _addresses(self) -> Sequence[str]:
        from torchvision.datasets.mnist import FashionMNIST as Source

        return list(map(str, Source.mirrors))
