"""Loading a spec's data set, and checking it against the content that the spec states."""

from debiasctl import registry
from debiasctl.api import DataLocation, Dataset, DatasetInfo, LoadedDataset
from debiasctl.data.moved import check_there
from debiasctl.errors import DataError
from debiasctl.registry.refs import PluginRef
from debiasctl.specs.sections import ContentSection, RunSpec

_KEPT: dict[tuple[str, DataLocation], LoadedDataset] = {}
_KEEPING = {"on": False}


def keep_loaded() -> None:
    """Keep the last data set that was loaded, so that the next training in this process need not decode it again."""
    _KEEPING["on"] = True


def load_data(spec: RunSpec, location: DataLocation) -> LoadedDataset:
    """Load the spec's data set.

    Raises:
        DataError: if it is not where the spec says, or its content is not what the spec states; and the errors of
            `load_dataset`.
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
    if spec.content and _facts(data.info) != _facts(spec.content):
        raise DataError(
            f"the section 'content' of the spec is not that of data set '{spec.data.dataset.name}': image_size, "
            f"channels, classes, num_train and num_heldout are {', '.join(map(str, _facts(data.info)))}, and there "
            f"{', '.join(map(str, _facts(spec.content)))}. Correct it"
        )
    return data


def _facts(info: DatasetInfo | ContentSection) -> tuple[int, ...]:
    return info.image_size, info.channels, len(info.classes), info.num_train, info.num_heldout


def load_dataset(reference: str | PluginRef, location: DataLocation) -> LoadedDataset:
    """Load the data set that a reference names.

    Raises:
        UsageError: if there is no such data set.
        DataError: if it cannot be read.
        PluginError: if its images are not what its info states.
    """
    key = (str(registry.as_ref(reference)), location)
    if key not in _KEPT:
        _KEPT.clear()
        dataset: Dataset = registry.create("datasets", reference)
        loaded = dataset.load(location)
        if not _KEEPING["on"]:
            return loaded
        _KEPT[key] = loaded
    return _KEPT[key]
