"""Loading a spec's data set, and checking it against the content that the spec states."""

from debiasctl import registry
from debiasctl.api import DataLocation, Dataset, DatasetInfo, LoadedDataset, Split, spread_indices
from debiasctl.data.moved import check_there
from debiasctl.errors import DataError
from debiasctl.registry.refs import PluginRef
from debiasctl.specs.sections import RunSpec

_LOOKED_AT = 64  # images of a split whose values are checked


def load_data(spec: RunSpec, location: DataLocation) -> LoadedDataset:
    """Load the spec's data set.

    Raises:
        DataError: if it is not where the spec says, its content is not what the spec states, or its images are not
            what its info states.
    """
    check_there(spec)
    data = load_dataset(spec.data.dataset.ref, location)
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


def load_dataset(reference: str | PluginRef, location: DataLocation) -> LoadedDataset:
    """Load the data set that a reference names.

    Raises:
        UsageError: if there is no such data set.
        DataError: if it cannot be read, or its images are not what its info states.
    """
    dataset: Dataset = registry.create("datasets", reference)
    data = dataset.load(location)
    for split in (data.train, data.heldout):
        if len(split):
            _check_images(data.info, split, name=registry.as_ref(reference).name)
    return data


def _check_images(info: DatasetInfo, split: Split, *, name: str) -> None:
    """Check one uint8 image, or the values of several float32 images."""
    images = split.images(spread_indices(len(split), 1 if info.value_type == "uint8" else _LOOKED_AT))
    shape = (info.channels, info.image_size, info.image_size)
    found, stated = str(images.dtype).removeprefix("torch."), info.value_type
    if found != stated or images.shape[1:] != shape:
        raise DataError(
            f"data set '{name}' gives {found} images {list(images.shape[1:])} where its info says {stated} "
            f"{list(shape)} (channels, height, width). Its info and its images must agree"
        )
    if found == "float32" and not bool((images.abs() <= 1).all()):  # NaN compares false
        raise DataError(f"data set '{name}' gives float32 images with values outside [-1, 1]. Scale them to it")
