"""MNIST."""

from debiasctl.builtin.datasets._support.idx_sets import IdxDataset


class MNIST(IdxDataset):
    """70,000 handwritten digits of 28x28 pixels (LeCun, Cortes and Burges): 60,000 to train on, 10,000 held out.

    Found in the data folder (DEBIASCTL_DATA) or in the cache as torchvision lays it out or as plain idx files,
    otherwise downloaded.
    """

    title = "MNIST"
    name = "mnist"
    torchvision_name = "MNIST"
    classes = tuple("0123456789")
    first_labels = (5, 0, 4, 1, 9, 2, 1, 3, 1, 4)
