"""Features of a small network that learns, without labels, by how much an image was rotated; and is then frozen."""

import dataclasses
from typing import ClassVar

from debiasctl.api import LoadedDataset
from debiasctl.builtin.features.local import Local


class LocalSSL(Local):
    """Penultimate activations of a small network trained to tell rotations apart (arXiv 1803.07728): fd_local-ssl.

    For data without classes: each image in its four rotations is a class of its own. Training, caching and features
    are those of `local`. Images that look alike whichever way they are turned teach it nothing, and it is refused.
    """

    labelled = False
    name: ClassVar[str] = "local-ssl"
    otherwise: ClassVar[str] = "`features=pixels`"

    def task(self, data: LoadedDataset) -> LoadedDataset:
        """The images in four rotations, and which of them it is as the class."""
        from debiasctl.builtin.features._support.rotated import ROTATIONS, Rotated

        info = dataclasses.replace(data.info, classes=ROTATIONS)
        return dataclasses.replace(data, info=info, train=Rotated(data.train), heldout=Rotated(data.heldout))
