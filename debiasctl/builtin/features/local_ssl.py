"""Features of a small network that learns the rotation of images, without labels, and is then frozen."""

import dataclasses
from typing import ClassVar

from debiasctl.api import LoadedDataset
from debiasctl.builtin.features.local import Local


class LocalSSL(Local):
    """Penultimate activations of a small network trained to tell rotations apart (arXiv 1803.07728): fd_local-ssl.

    It is for data without classes: the four rotations of an image are the classes. Training, caching and features are
    as for `local`. It is refused for images that look alike in all rotations, which teach it nothing.
    """

    labelled = False
    name: ClassVar[str] = "local-ssl"
    otherwise: ClassVar[str] = "`features=pixels`"
    passes: ClassVar[int] = 2  # each shows an image four times; more of them fit few images closer, and see less
    training_version: ClassVar[int] = 2  # 1 trained 20 passes

    def task(self, data: LoadedDataset) -> LoadedDataset:
        """The images in four rotations, with the rotation as the class."""
        from debiasctl.builtin.features._support.rotated import ROTATIONS, Rotated

        info = dataclasses.replace(data.info, classes=ROTATIONS)
        return dataclasses.replace(data, info=info, train=Rotated(data.train), heldout=Rotated(data.heldout))
