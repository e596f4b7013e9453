"""A spec's data set, read and held against what the run has seen of it."""

from debiasctl import registry
from debiasctl.api import DataLocation, LoadedDataset
from debiasctl.errors import DataError
from debiasctl.specs.sections import RunSpec


def load_data(spec: RunSpec, location: DataLocation) -> LoadedDataset:
    """The spec's data set.

    Raises:
        DataError: its content is not what the spec states.
    """
    data: LoadedDataset = registry.create("datasets", spec.data.dataset.ref).load(location)
    if not len(data.train) or not len(data.heldout):
        empty = "training" if not len(data.train) else "held-out"
        raise DataError(f"data set '{spec.data.dataset.name}' has no {empty} images; both splits need some")
    if spec.content and data.content_hash != spec.content.content_hash:
        raise DataError(
            f"the images of data set '{spec.data.dataset.name}' are not those that this spec was made for "
            f"(SHA-256 {data.content_hash[:12]}…, not {spec.content.content_hash[:12]}…). Restore them; or, for a new "
            "run on these images, remove the section 'content' from the spec file"
        )
    return data
