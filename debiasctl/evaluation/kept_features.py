"""Storing the features of measured images beside their record, so that later comparisons can be paired."""

from pathlib import Path

import numpy as np
from torch import Tensor

from debiasctl.files import atomic_file, content_key


def keep_features(folder: Path, features: Tensor, *, identity: str, images: str) -> str:
    """Write `features` [N, D] and their `identity`, compressed, into `folder`.

    Returns the file's name, which is derived from the identity and `images`, a name for the measured images.
    """
    name = f"{content_key({'images': images, 'features': identity})}.features.npz"
    with atomic_file(folder / name) as stream:
        np.savez_compressed(stream, features=features.numpy(), identity=np.array(identity))
    return name
