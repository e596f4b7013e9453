"""Image files whose splits and classes are stated by lists instead of folders."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property

import numpy as np

from debiasctl.api import DataLocation, DebiasctlError, Hint, ImageProblem
from debiasctl.builtin.datasets._support.folder_format import Format, stated_format
from debiasctl.builtin.datasets._support.folder_hints import FixableDataError, FixableUsageError
from debiasctl.builtin.datasets._support.image_check import check_files, stored_sizes
from debiasctl.builtin.datasets._support.image_files import ImageSource
from debiasctl.builtin.datasets._support.image_layout import Layout
from debiasctl.builtin.datasets._support.image_table import ImageFiles, without
from debiasctl.builtin.datasets.folder import Folder


class ListedImages(Folder):
    """The images of a source in a given layout, decoded and cached as a folder's; no plugin of its own.

    `options` state the size and mode; `variant` tells layouts of one source apart in the cache.
    """

    def __init__(self, options: Folder.Options, source: ImageSource, layout: Layout, *, variant: str) -> None:
        super().__init__(options)
        self._source, self._layout, self._variant = source, layout, variant
        self._noted = True  # what becomes of a published set's images is no news

    def problems(self, location: DataLocation, *, progress: Callable[[int, int], None]) -> Iterator[ImageProblem]:
        """Decode the files of both splits."""
        return check_files(self._source, self._both, progress)

    def stored_sizes(self, location: DataLocation) -> Counter[tuple[int, int]]:
        """Read the headers of both splits' files."""
        return stored_sizes(self._source, self._both)

    @property
    def _both(self) -> ImageFiles:
        rows = np.concatenate([self._layout.train.rows, self._layout.heldout.rows])
        return self._source.files.choose(np.sort(rows))

    def _layout_without(self, skipped: tuple[str, ...]) -> Layout:
        train, heldout = (without(files, skipped) for files in (self._layout.train, self._layout.heldout))
        return replace(self._layout, train=train, heldout=heldout)

    @cached_property
    def _listing(self) -> str:
        return f"{super()._listing}-{self._variant[:12]}"

    def _read_format(self) -> Format:
        stated = stated_format(self.options.image_size, self.options.mode)
        assert stated is not None, "lists come with a size and a mode"
        return stated

    def _advised(self, error: FixableDataError | FixableUsageError) -> DebiasctlError:
        advised = type(error)(str(error), *error.fixes)
        advised.hint = Hint(str(error), error.fixes)
        return advised
