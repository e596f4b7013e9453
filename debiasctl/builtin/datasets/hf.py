"""Data sets of the library `datasets` by Hugging Face."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, field_validator

from debiasctl.api import DataLocation, Dataset, DatasetInfo, ImageProblem, LoadedDataset, PluginOptions
from debiasctl.api.files import expanded
from debiasctl.builtin.datasets._support import byte_images, hf_tables
from debiasctl.builtin.datasets._support.byte_images import Mode, Parts, check_parts, divided
from debiasctl.builtin.datasets._support.folder_settings import recommended_settings
from debiasctl.builtin.datasets._support.hf_tables import TableImages
from debiasctl.builtin.datasets._support.image_files import absolute_path
from debiasctl.builtin.datasets._support.image_layout import place_of
from debiasctl.builtin.datasets._support.late_decoding import IDENTIFY, Identify


class HuggingFace(Dataset):
    """A data set of Hugging Face's library (https://huggingface.co/docs/datasets), from a folder or from their hub.

    A path may be a folder that save_to_disk wrote, a folder of parquet files or of images that load_dataset reads, a
    .parquet, or a name on the hub, which is downloaded when it is first used. The library's own settings hold:
    HF_HOME, HF_DATASETS_CACHE, HF_HUB_OFFLINE, HF_TOKEN. Code that a set brings is never run.

    Split train is trained on; validation (or test) is held out, or a share of the rows where there is neither. Images
    are converted as folder converts them; classes are the names of a ClassLabel, or the values of another column.
    """

    class Options(PluginOptions):
        """The options of hf."""

        path: str = Field(min_length=1, description="folder, .parquet, or name on the hub, such as uoft-cs/cifar10")
        name: str | None = Field(None, min_length=1, description="configuration of the set, if it has several")
        revision: str | None = Field(None, min_length=1, description="branch, tag or commit on the hub")
        split: str = Field("train", min_length=1, description="split to train on")
        heldout_split: str | None = Field(
            None,
            min_length=1,
            description="split held out; null: validation, else test, else a share of the rows",
        )
        image: str | None = Field(None, min_length=1, description="column of the images; null: the only one of them")
        label: str = Field(
            "auto",
            min_length=1,
            description="column of classes; none; auto: the only ClassLabel, or a column label",
        )
        image_size: int | None = Field(
            None, ge=4, le=1024, description="height and width to resize images to; null: their own, if all are equal"
        )
        mode: Mode = Field("auto", description="rgb, grey, or auto: grey if every image is stored as grey")
        heldout: float = Field(0.1, gt=0, lt=1, description="share of rows held out where there is no split for it")
        identify: Identify = IDENTIFY

        @field_validator("path", mode="before")
        @classmethod
        def _absolute(cls, path: Any) -> Any:
            # what is neither here nor looks like a path is a name on the hub
            if not isinstance(path, str) or not path.strip():
                return path
            is_path = path.startswith((".", "/", "~")) or expanded(path).exists()
            return str(absolute_path(path)) if is_path else path

    options: Options

    def info(self, location: DataLocation) -> DatasetInfo:
        """Load the tables, which are downloaded if they are named on the hub, and read some images' headers.

        Raises:
            UsageError: if the library is missing, or there is no such set, split or column, or `image_size` is needed.
            DataError: if the set or an image cannot be read.
        """
        return self._info

    def recommended(self, location: DataLocation) -> Mapping[str, Any]:
        """Settings that depend on the image size."""
        return recommended_settings(self._info.image_size)

    def load(self, location: DataLocation) -> LoadedDataset:
        """Load the images; those of large sets are decoded when they are first read.

        Raises:
            UsageError, DataError: if `info` raises it, or images are read now and one cannot be.
        """
        stated = self.options.model_dump(exclude={"path", "identify"}, exclude_defaults=True)
        folder = location.cache_dir / "datasets" / "hf"
        return byte_images.load(*self._images, self._info, self.options, folder, listing=[stated, self._identity])

    def problems(self, location: DataLocation, *, progress: Callable[[int, int], None]) -> Iterator[ImageProblem]:
        """Decode every image of the splits."""
        source, parts = self._images
        return byte_images.problems_of(source, len(parts.train) + len(parts.heldout), progress)

    def stored_sizes(self, location: DataLocation) -> Counter[tuple[int, int]]:
        """Read the headers of all images."""
        source, parts = self._images
        return byte_images.sizes_of(source, len(parts.train) + len(parts.heldout))

    @cached_property
    def _info(self) -> DatasetInfo:
        return byte_images.info_of(*self._images, self.options)

    @cached_property
    def _tables(self) -> dict[str, Any]:
        options = self.options
        return hf_tables.tables(
            options.path,
            name=options.name,
            revision=options.revision,
            split=options.split,
            heldout=options.heldout_split,
        )

    @property
    def _identity(self) -> list[Any]:
        saved = hf_tables.is_saved(Path(self.options.path))
        return [hf_tables.identity(table, saved=saved) for table in self._tables.values()]

    @cached_property
    def _images(self) -> tuple[TableImages, Parts]:
        splits = self._tables
        train, *heldout = splits.values()
        where = Path(self.options.path).name if Path(self.options.path).is_absolute() else self.options.path
        source = TableImages(splits, hf_tables.image_column(train, self.options.image, where=where), where=where)
        classes, labels = hf_tables.classes_of(splits, self.options.label, where=where)
        num = len(train)
        if not heldout:
            places = np.fromiter((place_of(str(row)) for row in range(num)), dtype=np.float64, count=num)
            rows = divided(source, places, labels, fraction=self.options.heldout)
        else:
            rows = np.arange(num), np.arange(num, num + len(heldout[0]))
        parts = Parts(*rows, classes, labels)
        check_parts(parts, train=f"split {self.options.split} of {where}", heldout="its held-out split")
        return source, parts
