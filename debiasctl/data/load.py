"""Loading a spec's data set, and checking it against the content that the spec states."""

import logging
from dataclasses import replace

from debiasctl import registry
from debiasctl.api import DataLocation, Dataset, DatasetInfo, LoadedDataset
from debiasctl.data.moved import check_there
from debiasctl.errors import DataError
from debiasctl.registry.refs import PluginRef
from debiasctl.specs.recorded import FILES, ContentSection
from debiasctl.specs.sections import RunSpec

_LOG = logging.getLogger(__name__)
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
    if spec.content and not _is_known_as(data, spec.content):
        raise DataError(
            f"the images of data set '{spec.data.dataset.name}' are not those that this spec was made for "
            f"({_named(data.content_hash)}, not {_named(spec.content.content_hash)}). Restore them; or, for a new "
            f"run on these images, remove the section 'content' from the spec file{_of_times(data, spec.content)}"
        )
    if spec.content and _facts(data.info) != _facts(spec.content):
        raise DataError(
            f"the section 'content' of the spec is not that of data set '{spec.data.dataset.name}': image_size, "
            f"channels, classes, num_train and num_heldout are {', '.join(map(str, _facts(data.info)))}, and there "
            f"{', '.join(map(str, _facts(spec.content)))}. Correct it"
        )
    return replace(data, content_hash=spec.content.content_hash) if spec.content else data


def _is_known_as(data: LoadedDataset, content: ContentSection) -> bool:
    """Whether the images are those that a spec states, which are all read if nothing else tells."""
    own = data.content_hash
    if own == content.content_hash or data.files is None:
        return own == content.content_hash
    if not content.has_been_read:
        return data.files.hash == content.content_hash
    if own == data.files.hash == content.files_hash:
        return True
    _LOG.info("the files are not known by their names, sizes and times: reading all images once, to compare them")
    return content.content_hash in data.files.read_all()


def settled(spec: RunSpec, data: LoadedDataset) -> RunSpec:
    """The spec with the hash of its images' content, if it stated that of their files and all have been read since."""
    content = spec.content
    if content is None or content.has_been_read or data.files is None:
        return spec
    found = data.files.content_hash()
    if found is None:
        return spec
    known = {"content_hash": found, "files_hash": content.content_hash}
    return spec.model_copy(update={"content": content.model_copy(update=known)})


def _named(content_hash: str) -> str:
    kind = "hash of files" if content_hash.startswith(FILES) else "SHA-256"
    return f"{kind} {content_hash.removeprefix(FILES)[:12]}…"


def _of_times(data: LoadedDataset, content: ContentSection) -> str:
    """What to do where the images may be the same after all."""
    if data.files is None or content.has_been_read:
        return ""
    return (
        ". The run knows its images by their files' names, sizes and times, since not all had been read: a copy must "
        "keep the times (cp -a, rsync -a, tar)"
    )


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
