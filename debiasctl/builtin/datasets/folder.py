"""Folders, zips, tars and npz files of images."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, Self

import PIL
import torch
from pydantic import Field, ValidationInfo, field_validator, model_validator

from debiasctl.api import (
    ArraySplit,
    DataLocation,
    Dataset,
    DatasetInfo,
    DebiasctlError,
    Hint,
    ImageProblem,
    LoadedDataset,
    PluginOptions,
    Split,
    content_key,
)
from debiasctl.builtin.datasets._support import decoded_images, folder_notes, image_decoding, image_files
from debiasctl.builtin.datasets._support.decoded_images import Contents
from debiasctl.builtin.datasets._support.folder_format import LOOKED_AT, Format, read_format, stated_format
from debiasctl.builtin.datasets._support.folder_hints import FixableDataError, FixableUsageError, Settings, reference
from debiasctl.builtin.datasets._support.folder_settings import recommended_settings
from debiasctl.builtin.datasets._support.image_check import check_files, stored_sizes
from debiasctl.builtin.datasets._support.image_files import ImageSource, absolute_path, named
from debiasctl.builtin.datasets._support.image_labels import Labels, labels_by_file, labels_by_table, moved_labels
from debiasctl.builtin.datasets._support.image_layout import Classes, Layout, SplitRule, read_layout
from debiasctl.builtin.datasets._support.image_reading import DecodingSplit
from debiasctl.builtin.datasets._support.image_table import ImageFiles, without
from debiasctl.builtin.datasets._support.late_decoding import IDENTIFY, MANY, Identify, is_late, listed, load_late

_FORMATS: dict[str, Format] = {}  # by Folder._key
_TRIED = 5_000  # images that are decoded to try a hint; a larger set is tried by its headers alone


class Folder(Dataset):
    """A folder, .zip, .tar or .npz of images (png, jpg, bmp, webp, gif, tiff); class names come from its sub-folders.

    Images lie directly in the folder (no classes) or in one sub-folder per class; a dataset.json as StyleGAN's and
    EDM's tools write it states the classes instead, and so does any CSV or JSON file (`labels`). Sub-folders that may
    be storage (00000/, 00001/, ...) are asked about. Top-level train/, val/ and test/ (or training, valid, validation,
    testing) are splits: train/ is trained on and val/ is held out; test/ is held out only if there is no val/. Without
    val/ and test/ a share of the images is held out, chosen by a hash of each image's path, so that adding images moves
    no other; one image of each class is trained on in any case. Hidden files and __MACOSX are ignored, and other files
    are counted; a single folder that holds everything in a zip or tar counts as its root. Archives are read in place,
    and the same files have the same content hash in each form; an .npz holds uint8 images [N, H, W, C] as `images` or
    `arr_0`, and may hold `labels` and the `names` that the images would have as files.

    Images of any mode are converted to 8-bit RGB or grey: EXIF orientation is applied, transparency is laid over white,
    16 bits are scaled to 8, and only the first frame is used. An image of another shape is cropped to its middle square
    and resized with an antialiased Lanczos filter. Decoded images are cached.
    """

    class Options(PluginOptions):
        """The options of folder."""

        path: str = Field(min_length=1, description="folder, .zip, .tar or .npz of images")
        image_size: int | None = Field(
            None, ge=4, le=1024, description="height and width to resize images to; null: their own, if all are equal"
        )
        mode: Literal["auto", "rgb", "grey"] = Field(
            "auto", description="rgb, grey, or auto: grey if every file is stored as grey"
        )
        heldout: float = Field(0.1, gt=0, lt=1, description="share held out if there is neither val/ nor test/")
        skip_unreadable: bool = Field(False, description="leave out files that cannot be read, with a warning")
        classes: Classes = Field(
            "auto",
            description="folders: each sub-folder is a class; none: no classes; auto: as dataset.json says, or the "
            "sub-folders unless they may be storage, which is asked about",
        )
        labels: str | None = Field(
            None,
            min_length=1,
            description="a .csv (a line for each image: its name, its class) or .json (as dataset.json) of the classes",
        )
        split: SplitRule = Field(
            "within-classes",
            description="within-classes: hold out by each image's path, but no class as a whole; by-name: by the path "
            "alone, as versions before 0.2 did",
        )

        identify: Identify = IDENTIFY

        @field_validator("path", mode="before")
        @classmethod
        def _absolute(cls, path: Any) -> Any:
            # a run resumed from another working directory must find its images
            return str(absolute_path(path)) if isinstance(path, str) else path

        @field_validator("labels", mode="before")
        @classmethod
        def _found(cls, labels: Any, info: ValidationInfo) -> Any:
            if not isinstance(labels, str) or not labels.strip():
                return labels
            within = Path(info.data.get("path", "")) / labels
            return str(within if within.is_file() and not Path(labels).is_file() else absolute_path(labels))

        @model_validator(mode="after")
        def _one_source_of_classes(self) -> Self:
            if self.labels is not None and self.classes != "auto":
                raise ValueError(f"labels and classes={self.classes} contradict one another. Give one of them")
            if self.labels is not None and Path(self.labels).suffix.lower() not in (".csv", ".json"):
                raise ValueError(f"labels={self.labels}: give a .csv or a .json of names and classes")
            return self

        @model_validator(mode="after")
        def _all_are_read(self) -> Self:
            if self.skip_unreadable and self.identify == "files":
                raise ValueError("skip_unreadable needs all images to be read first, which identify=files does not do")
            return self

    options: Options
    _noted = False  # whether the notes on the images were logged

    def info(self, location: DataLocation) -> DatasetInfo:
        """Read the file names and headers; with `skip_unreadable`, decode all images once. Notes are logged.

        Raises:
            UsageError: if there is no such folder or file, or `image_size` is needed, or `classes`.
            DataError: if the layout is ambiguous, or a file cannot be read.
        """
        try:
            info, cropped, transparent = self._info_and_counts(location)
        except (FixableDataError, FixableUsageError) as error:
            raise self._advised(error) from error
        if not self._noted:
            self._noted = True
            facts = self._source, self._layout, info, cropped, transparent, self._labels
            for text in folder_notes.notes(*facts):
                decoded_images.logger.warning("%s: %s", self._source.path, text)
        return info

    def recommended(self, location: DataLocation) -> Mapping[str, Any]:
        """Settings that depend on the image size."""
        return recommended_settings(self.info(location).image_size)

    def load(self, location: DataLocation) -> LoadedDataset:
        """Load the images, decoding them unless they are cached.

        Raises:
            UsageError, DataError: if `info` raises it.
        """
        try:
            if self._is_late:
                return self._late(location)
            contents = self._decoded(location)
        except (FixableDataError, FixableUsageError) as error:
            raise self._advised(error) from error
        if contents.skipped:
            decoded_images.logger.warning("%s: %s", self._source.path, folder_notes.left_out(contents.skipped))
        array = decoded_images.read_array(self._cache(location), contents)
        layout = self._layout_without(contents.skipped)
        splits: list[Split] = []
        start = 0
        for files in (layout.train, layout.heldout):
            labels = layout.labels(files)
            targets = None if labels is None else torch.tensor(labels, dtype=torch.int64)
            if array is None:
                size, channels = contents.image_size, contents.channels
                splits.append(DecodingSplit(self._source, files, targets, size, channels, skippable=True))
            else:
                splits.append(ArraySplit(array[start : start + len(files)], targets))
            start += len(files)
        return LoadedDataset(self._info_of(contents), splits[0], splits[1], contents.content_hash)

    def problems(self, location: DataLocation, *, progress: Callable[[int, int], None]) -> Iterator[ImageProblem]:
        """Decode every image file, whatever the layout and the options are."""
        yield from check_files(self._source, self._source.files, progress)
        try:
            self._layout_of(self._source.files)
        except DebiasctlError as error:
            yield ImageProblem(".", "layout", "error", str(error))

    def stored_sizes(self, location: DataLocation) -> Counter[tuple[int, int]]:
        """Read the headers of all image files."""
        return stored_sizes(self._source, self._source.files)

    def options_at(self, place: Path) -> Mapping[str, Any]:
        """The same folder elsewhere, with the file of its classes if that has moved along."""
        return {"path": str(place)} | moved_labels(self.options.labels, Path(self.options.path), place)

    @cached_property
    def _too_many(self) -> bool:
        """Whether there are too many images to look at each before a training starts."""
        options = self.options
        many = len(self._source.files) > MANY if options.identify == "auto" else options.identify == "files"
        return many and not options.skip_unreadable

    @cached_property
    def _is_late(self) -> bool:
        """Whether images are decoded when they are first asked for."""
        if self.options.identify != "auto" or self.options.skip_unreadable or self._too_many:
            return self._too_many
        format = stated_format(self.options.image_size, self.options.mode) or self._read_format()
        return is_late(len(self._source.files), channels=format.channels, image_size=format.image_size)

    def _late(self, location: DataLocation) -> LoadedDataset:
        """The images, none of which is decoded now."""
        stated = self.options.model_dump(exclude={"path", "labels", "identify"}, exclude_defaults=True)
        return load_late(
            self._cache(location),
            self._source,
            self._layout,
            self._info_and_counts(location)[0],
            same_size=self._too_many and self.options.image_size is None,  # most headers were not read
            same_mode=self._too_many and self.options.mode == "auto",
            files_hash=f"files:{hashlib.sha256(json.dumps([stated, self._listing]).encode()).hexdigest()}",
        )

    def _info_of(self, contents: Contents) -> DatasetInfo:
        layout = self._layout_without(contents.skipped)
        return DatasetInfo(
            contents.image_size,
            contents.channels,
            layout.classes,
            len(layout.train),
            len(layout.heldout),
            class_counts=layout.class_counts(),
        )

    def _info_and_counts(self, location: DataLocation) -> tuple[DatasetInfo, tuple[int, float] | None, int | None]:
        contents = decoded_images.read_contents(self._cache(location))
        if contents is None and self.options.skip_unreadable:
            contents = self._decoded(location)
        if contents is not None:
            return self._info_of(contents), contents.cropped, contents.transparent
        layout = self._layout
        format = self._read_format()
        counts = layout.class_counts()
        info = DatasetInfo(
            format.image_size,
            format.channels,
            layout.classes,
            len(layout.train),
            len(layout.heldout),
            class_counts=counts,
        )
        return info, format.cropped, format.transparent

    def _advised(self, error: "FixableDataError | FixableUsageError") -> DebiasctlError:
        """The error with all problems of the images, and the options that solve them, each set of which was tried."""
        problems = [str(error)]
        ways = [way for fix in error.fixes if (way := self._tried(fix, problems)) is not None]
        problem = ".\nAlso: ".join(problems)
        given = self.options.model_dump(exclude_defaults=True)
        written = "".join(f"\nWith these options: {reference('folder', given | dict(way))}" for way in ways)
        advised = type(error)(problem + written)
        advised.hint = Hint(problem, tuple(ways))
        return advised

    def _tried(self, fix: Settings, problems: list[str]) -> Settings | None:
        """Add to a fix what it takes for the images to be read; None, with the problem, if nothing known does."""
        way = dict(fix)
        while True:
            other = type(self)(self.options.model_copy(update=way))
            try:
                other._read_format()
                if len(other._source.files) <= _TRIED:
                    with TemporaryDirectory() as folder:
                        other._decoded(DataLocation(None, Path(folder)))
                return way
            except (FixableDataError, FixableUsageError) as error:
                problem, more = str(error), [fix for fix in error.fixes if not fix.keys() <= way.keys()]
            except DebiasctlError as error:
                problem, more = str(error), []
            if problem not in problems:
                problems.append(problem)
            if not more:
                return None
            way |= more[0]

    @cached_property
    def _source(self) -> ImageSource:
        return listed(Path(self.options.path))

    @cached_property
    def _layout(self) -> Layout:
        if self._source.unreadable and not self.options.skip_unreadable:
            name, reason = self._source.unreadable[0]
            raise FixableDataError(
                f"{self._source.path}: {named(name)} cannot be read ({reason}). Repair that, or leave it out "
                "(skip_unreadable=true)",
                {"skip_unreadable": True},
            )
        return self._layout_of(self._source.files)

    def _layout_of(self, files: ImageFiles) -> Layout:
        options = self.options
        return read_layout(
            files,
            self._source.path,
            heldout_fraction=options.heldout,
            classes="none" if self._states_no_classes else options.classes,
            split=options.split,
            labels=self._labels,
        )

    def _layout_without(self, skipped: tuple[str, ...]) -> Layout:
        """The layout of the files that can be read; by the earlier rule, the others leave the split as it was."""
        if not skipped:
            return self._layout
        if self.options.split == "within-classes":
            return self._layout_of(without(self._source.files, skipped))
        train, heldout = (without(files, skipped) for files in (self._layout.train, self._layout.heldout))
        return replace(self._layout, train=train, heldout=heldout)

    @cached_property
    def _labels(self) -> Labels | None:
        """The classes that a table or dataset.json states, if they are asked for."""
        if self.options.labels is not None:
            return labels_by_table(self._source, Path(self.options.labels))
        return labels_by_file(self._source) if self._has_labels_file else None

    @property
    def _states_no_classes(self) -> bool:
        """Whether a table or dataset.json says that there are no classes."""
        return (self.options.labels is not None or self._has_labels_file) and self._labels is None

    @property
    def _has_labels_file(self) -> bool:
        return self.options.classes == "auto" and self._source.labels_stamp is not None

    @property
    def _labels_stamp(self) -> tuple[int, int] | None:
        """What changes with the file of the classes."""
        if self.options.labels is None:
            return self._source.labels_stamp
        return image_files.stamp_of(self.options.labels)

    @cached_property
    def _key(self) -> str:
        """The cache key of the images and options; the part after the slash changes when the files do."""
        code = [image_decoding.VERSION, PIL.__version__]
        options = self.options.model_dump(exclude={"identify"})  # which changes no image
        return f"{content_key(options)}/{content_key([*code, self._listing])}"

    @cached_property
    def _listing(self) -> str:
        """The SHA-256 of all files' names, sizes and times."""
        listing = hashlib.sha256()
        for file in self._source.files:
            listing.update(json.dumps([file.name, *file.stamp]).encode())
        listing.update(json.dumps(self._labels_stamp).encode())
        return listing.hexdigest()

    def _cache(self, location: DataLocation) -> Path:
        return location.cache_dir / "datasets" / "folder" / self._key

    def _decoded(self, location: DataLocation) -> Contents:
        folder = self._cache(location)
        contents = decoded_images.read_contents(folder)
        if contents is not None:
            return contents
        format = (
            _FORMATS.get(self._key) or stated_format(self.options.image_size, self.options.mode) or self._read_format()
        )
        return decoded_images.decode_all(
            folder,
            self._source,
            self._layout_without,
            image_size=format.image_size,
            channels=format.channels,
            skip_unreadable=self.options.skip_unreadable,
            cropped=format.cropped,
            transparent=format.transparent,
        )

    def _read_format(self) -> Format:
        """Read the files' headers, once per process for a state of the images."""
        if self._key not in _FORMATS:
            options, layout = self.options, self._layout
            _FORMATS[self._key] = read_format(
                self._source,
                layout.train,
                layout.heldout,
                image_size=options.image_size,
                mode=options.mode,
                skip_unreadable=options.skip_unreadable,
                looked_at=LOOKED_AT if self._too_many else None,
            )
        return _FORMATS[self._key]
