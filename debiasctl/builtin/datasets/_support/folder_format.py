"""The format that a folder's images are brought to, from their headers and the options."""

from dataclasses import dataclass
from statistics import median
from typing import Literal

from debiasctl.api import spread_indices
from debiasctl.builtin.datasets._support.folder_hints import FixableUsageError
from debiasctl.builtin.datasets._support.image_files import ImageSource
from debiasctl.builtin.datasets._support.image_reading import Formats, check_readable, read_formats
from debiasctl.builtin.datasets._support.image_table import ImageFiles

LOOKED_AT = 1_000  # images whose headers are read where there are too many to read all


@dataclass(frozen=True)
class Format:
    """The format that images are brought to, and how many are cropped or transparent, as `Contents` has it."""

    image_size: int
    channels: int
    cropped: tuple[int, float] | None
    transparent: int | None


def read_format(
    source: ImageSource,
    *parts: ImageFiles,
    image_size: int | None,
    mode: Literal["auto", "rgb", "grey"],
    skip_unreadable: bool,
    looked_at: int | None,
) -> Format:
    """Read the headers of all files, or of `looked_at` of each part if they matter.

    Raises:
        UsageError: if the images have no size in common, and none is given.
        DataError: if a header cannot be read and `skip_unreadable` is not set.
    """
    if looked_at is not None:
        stated = stated_format(image_size, mode)
        if stated is not None:
            return stated
        parts = tuple(_spread(files, looked_at) for files in parts)
    found = read_formats(source, *parts)
    num_files = sum(map(len, parts))
    if not skip_unreadable or len(found.unreadable) == num_files:
        counted = num_files if looked_at is None else None
        check_readable(source, found.unreadable, counted, skippable=not skip_unreadable)
    size, channels = size_and_channels(found, str(source.path), image_size=image_size, mode=mode)
    if looked_at is not None:
        return Format(size, channels, None, None)
    cropped = (len(found.lost), median(found.lost) if found.lost else 0.0)
    return Format(size, channels, cropped, found.transparent)


def size_and_channels(
    found: Formats, where: str, *, image_size: int | None, mode: Literal["auto", "rgb", "grey"]
) -> tuple[int, int]:
    """The size and channels that images are brought to.

    Raises:
        UsageError: if they have no size in common, and none is given.
    """
    if mode == "auto":
        mode = "grey" if found.grey else "rgb"
    size = image_size or found.common_size()
    if size is None:
        size = _power_of_two(found.smallest)
        raise FixableUsageError(
            f"{where}: {found.differences()}. Choose a size to resize them to, such as image_size={size}",
            {"image_size": size},
        )
    return size, 1 if mode == "grey" else 3


def stated_format(image_size: int | None, mode: Literal["auto", "rgb", "grey"]) -> Format | None:
    """The format that options state, so that only a note depends on the files' headers; None if they do not."""
    return None if image_size is None or mode == "auto" else Format(image_size, 1 if mode == "grey" else 3, None, None)


def _spread(files: ImageFiles, num: int) -> ImageFiles:
    """At most `num` files, evenly spread."""
    return files.choose(spread_indices(len(files), num).numpy())


def _power_of_two(bound: int) -> int:
    """The largest power of two in [8, 256] that does not exceed `bound`, or 8."""
    return min(256, max(8, 1 << (bound.bit_length() - 1)))
