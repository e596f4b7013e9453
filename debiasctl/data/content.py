"""The content of a data set, as the spec of a run states it."""

from debiasctl.api import LoadedDataset
from debiasctl.data.summary import class_counts
from debiasctl.specs.recorded import ContentSection


def content_section(data: LoadedDataset) -> ContentSection:
    """Describe the content of a data set, as the spec of a run states it."""
    info = data.info
    return ContentSection(
        image_size=info.image_size,
        channels=info.channels,
        classes=info.classes,
        class_counts=class_counts(data.train, len(info.classes)),
        num_train=len(data.train),
        num_heldout=len(data.heldout),
        content_hash=data.content_hash,
        files_hash=None if data.files is None or data.content_hash == data.files.hash else data.files.hash,
    )
