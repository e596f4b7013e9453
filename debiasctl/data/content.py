"""The content of a data set, as the spec of a run states it."""

import torch

from debiasctl.api import LoadedDataset
from debiasctl.specs.recorded import ContentSection


def content_section(data: LoadedDataset) -> ContentSection:
    """Describe the content of a data set, as the spec of a run states it."""
    info = data.info
    counts: list[int] = []
    if info.classes:
        labels = data.train.labels(torch.arange(len(data.train)))
        assert labels is not None, "a data set with classes has labels"
        counts = torch.bincount(labels, minlength=len(info.classes)).tolist()
    return ContentSection(
        image_size=info.image_size,
        channels=info.channels,
        classes=info.classes,
        class_counts=tuple(counts),
        num_train=len(data.train),
        num_heldout=len(data.heldout),
        content_hash=data.content_hash,
        files_hash=None if data.files is None or data.content_hash == data.files.hash else data.files.hash,
    )
