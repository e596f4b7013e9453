"""Opening images in place, whatever form they have: a folder, a zip, a tar or an npz."""

from collections.abc import Callable
from pathlib import Path

from debiasctl.api import DataError, UsageError
from debiasctl.builtin.datasets._support.image_files import (
    EXTENSIONS,
    FolderSource,
    ImageSource,
    ZipSource,
    count_endings,
    is_image_name,
)
from debiasctl.builtin.datasets._support.image_tar import TarSource, is_packed_tar, refuse_packed
from debiasctl.builtin.datasets._support.npz_source import NpzSource

KINDS: dict[str, Callable[[Path], ImageSource]] = {".zip": ZipSource, ".tar": TarSource, ".npz": NpzSource}


def open_source(path: Path) -> ImageSource:
    """Open the images of a folder, or of a zip, tar or npz, in place.

    Raises:
        UsageError: if there is no such folder or file.
        DataError: if it cannot be read, or holds no images.
    """
    kind = path.suffix.lower()
    if path.is_dir():
        source: ImageSource = FolderSource(path)
    elif path.is_file() and kind in KINDS:
        source = KINDS[kind](path)
    elif path.is_file() and is_packed_tar(path):
        raise refuse_packed(path, kind)
    elif path.exists():
        raise UsageError(f"{path} is neither a folder nor a .zip, .tar or .npz of images. {_what_to_do(path)}")
    else:
        raise UsageError(f"{path} does not exist. Give a folder, or a .zip, .tar or .npz of images")
    if not len(source.files):
        others = f" It holds other files: {count_endings(source.passed_over)}." if source.passed_over else ""
        gone = "".join(f" {name} cannot be read: {reason}." for name, reason in source.unreadable[:1])
        raise DataError(f"{path} holds no images.{others}{gone} Image files end in {', '.join(sorted(EXTENSIONS))}")
    return source


def _what_to_do(path: Path) -> str:
    if is_image_name(path.name):
        return "Give the folder that holds it"
    return "Unpack it, and give the folder"
