"""Shards of images: tar files of the webdataset layout."""

import glob
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, field_validator

from debiasctl.api import (
    DataError,
    DataLocation,
    Dataset,
    DatasetInfo,
    ImageProblem,
    LoadedDataset,
    PluginOptions,
    UsageError,
)
from debiasctl.builtin.datasets._support import byte_images
from debiasctl.builtin.datasets._support.byte_images import Mode, Parts, Rows, check_parts, divided, numbered
from debiasctl.builtin.datasets._support.extras import extra
from debiasctl.builtin.datasets._support.folder_settings import recommended_settings
from debiasctl.builtin.datasets._support.image_files import absolute_path
from debiasctl.builtin.datasets._support.late_decoding import IDENTIFY, Identify
from debiasctl.builtin.datasets._support.shards import Fields, Shard, ShardImages, index_all

_LOG = logging.getLogger(__name__)
_PATTERN = re.compile(r"[*?\[{]")


class WebDataset(Dataset):
    """Shards of images in tar files, as the package webdataset writes them (https://github.com/webdataset/webdataset).

    Files of a shard that follow one another and have one key make a sample: 0001.jpg with 0001.cls or 0001.json. Shards
    are named by a path with braces (train-{0000..0146}.tar) or wildcards; several paths are joined by ::. They must be
    files, on this machine or mounted from another, and not compressed.

    Each shard is indexed once, so that an image is read by itself, from its place in the file: every epoch has a new
    order of all images, each process reads its part of a batch alone, and a resumed training reads the same images as
    one that never stopped. Images are converted as folder converts them.
    """

    class Options(PluginOptions):
        """The options of webdataset."""

        urls: str = Field(min_length=1, description="shards: data/train-{0000..0146}.tar, data/*.tar; :: joins several")
        heldout_urls: str | None = Field(
            None, min_length=1, description="shards that are held out; null: a share of all samples is"
        )
        image: str | None = Field(
            None, min_length=1, description="ending of a sample's image, such as jpg; null: the only one of an image"
        )
        label: str = Field(
            "auto",
            pattern=r"(auto|none|[A-Za-z0-9_]+(\.[^,\s]+)?)",
            description="ending of a sample's class, such as cls; json.FIELD; none; auto: cls, if the samples have it",
        )
        image_size: int | None = Field(
            None, ge=4, le=1024, description="height and width to resize images to; null: their own, if all are equal"
        )
        mode: Mode = Field("auto", description="rgb, grey, or auto: grey if every image is stored as grey")
        heldout: float = Field(
            0.1, gt=0, lt=1, description="share of samples held out without heldout_urls, by a hash of shard and key"
        )
        identify: Identify = IDENTIFY

        @field_validator("urls", "heldout_urls", mode="before")
        @classmethod
        def _absolute(cls, urls: Any) -> Any:
            if not isinstance(urls, str) or not urls.strip():
                return urls
            return "::".join(_absolute(part) for part in urls.split("::"))

    options: Options

    def info(self, location: DataLocation) -> DatasetInfo:
        """Read the shards' indexes, which are made once.

        Raises:
            UsageError: if the package webdataset is missing, or a shard, or `image_size` is needed.
            DataError: if a shard is damaged, or its samples have no images.
        """
        self._index(location)
        return self._info

    def recommended(self, location: DataLocation) -> Mapping[str, Any]:
        """Settings that depend on the image size."""
        return recommended_settings(self.info(location).image_size)

    def load(self, location: DataLocation) -> LoadedDataset:
        """Load the images; those of large sets are decoded when they are first read.

        Raises:
            UsageError, DataError: if `info` raises it, or images are read now and one cannot be.
        """
        self._index(location)
        stated = self.options.model_dump(exclude={"urls", "heldout_urls", "identify"}, exclude_defaults=True)
        files = [[shard.path.name, shard.size, shard.time] for shard in (*self._train, *self._heldout)]
        folder = location.cache_dir / "datasets" / "webdataset"
        return byte_images.load(
            *self._images, self._info, self.options, folder, listing=[stated, len(self._train), files]
        )

    def problems(self, location: DataLocation, *, progress: Callable[[int, int], None]) -> Iterator[ImageProblem]:
        """Decode every image of the shards."""
        self._index(location)
        source, _ = self._images
        return byte_images.problems_of(source, len(source), progress)

    def stored_sizes(self, location: DataLocation) -> Counter[tuple[int, int]]:
        """Read the headers of all images."""
        self._index(location)
        source, _ = self._images
        return byte_images.sizes_of(source, len(source))

    def bound_place(self) -> Path:
        """The folder that all shards lie in, as far as their paths have no braces or wildcards."""
        urls = f"{self.options.urls}::{self.options.heldout_urls or self.options.urls}"
        return Path(os.path.commonpath([_folder(url) for url in urls.split("::")]))

    def options_at(self, place: Path) -> Mapping[str, Any]:
        """The same shards below another folder."""
        before, given = self.bound_place(), {"urls": self.options.urls, "heldout_urls": self.options.heldout_urls}
        return {
            name: "::".join(str(place / os.path.relpath(url, before)) for url in urls.split("::"))
            for name, urls in given.items()
            if urls is not None
        }

    _train: Sequence[Shard] = ()
    _heldout: Sequence[Shard] = ()

    def _index(self, location: DataLocation) -> None:
        """Look at the shards, once."""
        if not self._train:
            fields, folder = Fields(self.options.image, self.options.label), location.cache_dir / "datasets" / "shards"
            train, heldout = self._paths
            split_name = self._library("webdataset.tariterators").base_plus_ext
            self._heldout = index_all(heldout, fields, folder, split_name)
            self._train = index_all(train, fields, folder, split_name)
            without = sum(shard.without for shard in (*self._train, *self._heldout))
            if without:
                _LOG.warning("%s: samples without an image, which are left out: %d", self.options.urls, without)

    @cached_property
    def _info(self) -> DatasetInfo:
        return byte_images.info_of(*self._images, self.options)

    @cached_property
    def _images(self) -> tuple[ShardImages, Parts]:
        shards = [*self._train, *self._heldout]
        if not any(len(shard.offsets) for shard in shards):
            raise DataError(
                f"the shards {self.options.urls} hold no samples with an image. Look into one (tar tf); image=ENDING "
                "says which of a sample's files is its image"
            )
        source, (classes, labels) = ShardImages(shards), _labels(shards, stated=self.options.label)
        if self._heldout:
            num = sum(len(shard.offsets) for shard in self._train)
            train, heldout = np.arange(num, dtype=np.int64), np.arange(num, len(source), dtype=np.int64)
        else:
            places = np.concatenate([shard.places for shard in shards])
            train, heldout = divided(source, places, labels, fraction=self.options.heldout)
        parts = Parts(train, heldout, classes, labels)
        check_parts(parts, train="urls", heldout="heldout_urls")
        return source, parts

    @property
    def _paths(self) -> tuple[list[Path], list[Path]]:
        train = self._expanded(self.options.urls)
        heldout = [] if self.options.heldout_urls is None else self._expanded(self.options.heldout_urls)
        trained = set(map(_place, train))
        doubled = [path for path in heldout if _place(path) in trained]
        if doubled:
            raise UsageError(
                f"the shard {doubled[0]} is in urls and in heldout_urls. Held-out images are not trained on"
            )
        return train, heldout

    def _expanded(self, urls: str) -> list[Path]:
        """The shards that a text names; a file with two names, such as that of a link, is one shard.

        Raises:
            UsageError: if a pattern matches nothing, or its braces are not closed.
        """
        paths: list[str] = []
        try:
            expanded = self._library("webdataset.shardlists").expand_urls(urls)
        except ValueError as error:
            raise UsageError(
                f"urls={urls}: its braces cannot be expanded ({error}). Write train-{{00..42}}.tar"
            ) from error
        for url in expanded:
            found = sorted(glob.glob(url)) if glob.has_magic(url) and not os.path.exists(url) else [url]
            if not found:
                raise UsageError(
                    f"urls: nothing matches {url}. Give the paths of shards, such as data/train-{{00..42}}.tar"
                )
            paths += found
        files: dict[object, Path] = {}
        for path in map(Path, paths):
            files.setdefault(_place(path), path)
        return list(files.values())

    def _library(self, module: str) -> Any:
        return extra(module, name="webdataset", what="data set 'webdataset'")


def _folder(url: str) -> str:
    parent = os.path.dirname(url)
    found = _PATTERN.search(parent)
    return parent if found is None else os.path.dirname(parent[: found.start()])


def _place(path: Path) -> object:
    """What tells one file from another, whatever its name; the path of one that is not there."""
    try:
        status = path.stat()
    except OSError:
        return path
    return status.st_dev, status.st_ino


def _absolute(url: str) -> str:
    """A path made absolute; braces and wildcards stay.

    Raises:
        ValueError: if it is the address of something that is no file.
    """
    url = url.removeprefix("file:")
    if "://" in url or url.startswith("pipe:"):
        raise ValueError(
            f"{url} is no file. Shards are read in any order, each image by itself, which needs files: mount the place "
            "where they lie, or download them"
        )
    return str(absolute_path(url))


def _labels(shards: Sequence[Shard], *, stated: str) -> tuple[tuple[str, ...], Rows | None]:
    """The names of the classes, and the number of every sample's; numbers are their own names, in their order."""
    used = [shard for shard in shards if len(shard.offsets)]
    with_labels = [shard for shard in used if shard.labels is not None]
    if not with_labels:
        if stated not in ("auto", "none"):
            raise DataError(
                f"no sample has the class that label={stated} names. Say label=none to train without classes"
            )
        return (), None
    if len(with_labels) < len(used):
        bare = next(shard for shard in used if shard.labels is None)
        raise DataError(f"{bare.path} has no classes, unlike {with_labels[0].path}. Say label=none to train without")
    texts = np.concatenate([shard.labels for shard in with_labels if shard.labels is not None])
    return numbered(texts)
