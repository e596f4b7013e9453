"""Opening given images to measure, and references to measure images against."""

from dataclasses import dataclass
from pathlib import Path

from debiasctl import paths, registry
from debiasctl.api import DataLocation, LoadedDataset
from debiasctl.data.load import load_dataset
from debiasctl.data.pixels import as_measured
from debiasctl.evaluation.reference import clean_fid
from debiasctl.evaluation.reference.names import check_reference
from debiasctl.evaluation.reference.statistics_file import StatisticsFile, holds_statistics, read_statistics
from debiasctl.reading.user_text import user_path
from debiasctl.registry.refs import PluginRef


@dataclass(frozen=True)
class Source:
    """Real images or their statistics, under their name in records; `split` says which part of them is used.

    `published` is given for statistics that clean-fid publishes.
    """

    name: str
    split: str
    content: LoadedDataset | StatisticsFile
    published: clean_fid.Statistics | None = None


def open_images(path: Path, location: DataLocation) -> LoadedDataset:
    """Open all images of a folder, zip or npz as the training split of a data set without held-out images.

    Raises:
        UsageError: if there is no such folder or file; DataError: if it cannot be read.
    """
    return load_dataset(PluginRef("image-files", {"path": str(path)}), location)


def open_reference(text: str, location: DataLocation) -> Source:
    """Open what a reference names: a data set, published or stored statistics, or a folder, zip or npz of images.

    Raises:
        UsageError: if it names none of these; DataError, EvaluationError: if it cannot be read.
    """
    check_reference(text)
    if clean_fid.is_named(text):
        statistics = clean_fid.parse_statistics(text)
        file = clean_fid.obtain(statistics, paths.cache_dir())
        return Source(file.name, "statistics", read_statistics(file), statistics)
    name = text.partition(":")[0]
    if name in [record.name for record in registry.records("datasets")]:
        loaded = as_measured(load_dataset(text, location))
        return Source(name, "all" if name == "image-files" else "train", loaded)
    path = user_path(text, argument="`reference`").absolute()
    if path.suffix.lower() == ".npz" and holds_statistics(path):
        return Source(path.name, "statistics", read_statistics(path))
    return Source(path.name, "all", open_images(path, location))
