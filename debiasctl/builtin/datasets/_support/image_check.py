"""Examining every image file of a source, and listing what is wrong or unusual in it."""

import hashlib
import posixpath
import struct
import unicodedata
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np
from PIL import Image, ImageOps

from debiasctl.api import ImageProblem
from debiasctl.builtin.datasets._support.image_decoding import (
    check_range,
    flattened,
    is_grey,
    is_transparent,
    opened,
    read_header,
    unreadable,
)
from debiasctl.builtin.datasets._support.image_files import EXTENSIONS, ImageSource, named
from debiasctl.builtin.datasets._support.image_reading import Unreadable, each_file
from debiasctl.builtin.datasets._support.image_table import ImageFile

_TINY = 8  # pixels of a shorter side
_NARROW = 4  # the ratio of sides from which a middle square leaves most of an image out
_MODES = {
    "1": "1 bit a pixel, converted to grey",
    "P": "a palette, converted to RGB",
    "CMYK": "CMYK, converted to RGB",
    "YCbCr": "YCbCr, converted to RGB",
    "LAB": "LAB, converted to RGB",
    "I": "16 bits a pixel, scaled to 8",
    "I;16": "16 bits a pixel, scaled to 8",
    "I;16B": "16 bits a pixel, scaled to 8",
    "I;16L": "16 bits a pixel, scaled to 8",
}
_ENDINGS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "MPO": (".jpg", ".jpeg"),
    "BMP": (".bmp",),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (),
}
_EXIF_ORIENTATION, _TURNED = 0x0112, range(2, 9)  # the values that turn or mirror an image


@dataclass(frozen=True)
class _Examined:
    """An image that can be decoded; `digest` is of its pixels as RGB."""

    format: str
    mode: str
    width: int
    height: int
    num_frames: int
    is_rotated: bool
    is_transparent: bool
    has_other_profile: bool
    is_grey: bool
    is_blank: bool
    digest: int


def check_files(
    source: ImageSource, files: Sequence[ImageFile], progress: Callable[[int, int], None]
) -> Iterator[ImageProblem]:
    """Decode every file, and yield what is found in each; then what differs between files, and in their names."""
    for name, why in source.unreadable:
        yield ImageProblem(name, "unreadable", "error", f"{named(name)} cannot be read: {why}")
    has_endings = source.path.suffix.lower() != ".npz"
    seen: dict[int, int] = {}
    sides, grey = array("I"), array("b")
    for index, (file, result) in enumerate(zip(files, each_file(source, files, _examine), strict=True)):
        progress(index + 1, len(files))
        if isinstance(result, Unreadable):
            sides.extend((0, 0))
            grey.append(-1)
            yield ImageProblem(file.name, result.kind, "error", result.reason)
            continue
        sides.extend((result.width, result.height))
        grey.append(result.is_grey)
        yield from (
            ImageProblem(file.name, kind, "warning", text) for kind, text in _oddities(file, result, has_endings)
        )
        first = seen.setdefault(result.digest, index)
        if first != index:
            yield _duplicate(files[first].name, file.name)
    yield from _differences(files, np.array(sides).reshape(-1, 2), np.array(grey))
    yield from _names(files)


def stored_sizes(source: ImageSource, files: Sequence[ImageFile]) -> Counter[tuple[int, int]]:
    """Count the (width, height) of the files that can be read, by their headers."""
    found = each_file(source, files, read_header)
    return Counter((header.width, header.height) for header in found if not isinstance(header, Unreadable))


def _examine(stream: IO[bytes]) -> _Examined:
    try:
        with opened(stream) as image:
            check_range(image)
            kind, mode, size = image.format or "", image.mode, image.size
            is_rotated = image.getexif().get(_EXIF_ORIENTATION) in _TURNED
            profile = image.info.get("icc_profile") or b""
            has_transparency, has_no_colour = is_transparent(image), is_grey(image)
            image.load()
            flat = flattened(ImageOps.exif_transpose(image))
            pixels = np.asarray(flat.convert("RGB"))
            is_blank = bool((pixels == pixels[0, 0]).all())
            num_frames = _num_frames(image)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's readers raise errors of any type for damaged files
        raise unreadable(error) from error
    digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=8)
    digest.update(pixels.tobytes())
    return _Examined(
        kind,
        mode,
        *size,
        num_frames,
        is_rotated,
        has_transparency,
        bool(profile) and b"sRGB" not in profile,
        has_no_colour,
        is_blank,
        int.from_bytes(digest.digest(), "big"),
    )


def _num_frames(image: Image.Image) -> int:
    """The number of frames; 0 if those after the first are damaged."""
    try:
        return getattr(image, "n_frames", 1)
    except (OSError, EOFError, ValueError, SyntaxError, TypeError, struct.error):
        return 0


def _oddities(file: ImageFile, image: _Examined, has_endings: bool) -> Iterator[tuple[str, str]]:
    shorter, longer = sorted((image.width, image.height))
    if shorter < _TINY:
        yield "tiny", f"{image.width}x{image.height} pixels"
    if longer > _NARROW * shorter:
        yield "narrow", f"{image.width}x{image.height}: its middle square is {shorter / longer:.0%} of it"
    if image.mode in _MODES:
        yield "mode", _MODES[image.mode]
    if image.is_transparent:
        yield "transparent", "what is transparent is laid over white"
    if image.num_frames != 1:
        others = f"of {image.num_frames:,}" if image.num_frames else "of several, which are damaged,"
        yield "several frames", f"the first {others} is used"
    if image.is_rotated:
        yield "rotated", "turned as its EXIF data say"
    if image.has_other_profile:
        yield "colour profile", "its ICC profile is not sRGB, and is ignored"
    if image.is_blank:
        yield "blank", "all pixels are of one colour"
    ending = posixpath.splitext(file.name)[1].lower()
    if has_endings and ending in EXTENSIONS and ending not in _ENDINGS.get(image.format, (ending,)):
        yield "wrong ending", f"it is a {image.format}"


def _duplicate(first: str, name: str) -> ImageProblem:
    apart = "" if posixpath.dirname(first) == posixpath.dirname(name) else ", in another folder"
    return ImageProblem(name, "duplicate", "warning", f"the same pixels as {first}{apart}")


def _differences(
    files: Sequence[ImageFile],
    sides: "np.ndarray[tuple[int, ...], np.dtype[np.uint32]]",
    grey: "np.ndarray[tuple[int, ...], np.dtype[np.int8]]",
) -> Iterator[ImageProblem]:
    """What only fewer than half of the images are: of another size, not square, grey or in colour."""
    readable = np.flatnonzero(grey >= 0)
    if not len(readable):
        return
    sizes, counts = np.unique(sides[readable], axis=0, return_counts=True)
    common = sizes[counts.argmax()]
    usual = f"{common[0]}x{common[1]}"
    if 2 * counts.max() > len(readable):
        for row in readable[(sides[readable] != common).any(axis=1)].tolist():
            yield ImageProblem(files[row].name, "size", "warning", f"{_text(sides[row])}; most are {usual}")
    elif len(sizes) > 1:
        yield ImageProblem(".", "size", "warning", f"there are {len(sizes):,} sizes, none of which most images have")
    oblong = readable[sides[readable, 0] != sides[readable, 1]]
    if 2 * len(oblong) > len(readable):
        yield ImageProblem(".", "not square", "warning", f"{len(oblong):,} of {len(readable):,} images")
    else:
        yield from (
            ImageProblem(files[row].name, "not square", "warning", _text(sides[row])) for row in oblong.tolist()
        )
    num_grey = int((grey[readable] == 1).sum())
    if 0 < num_grey < len(readable):
        few, what = (1, "grey") if 2 * num_grey <= len(readable) else (0, "in colour")
        for row in readable[grey[readable] == few].tolist():
            yield ImageProblem(files[row].name, "colour", "warning", f"{what}; most are not, and all are read as RGB")


def _text(side: "np.ndarray[tuple[int, ...], np.dtype[np.uint32]]") -> str:
    return f"{side[0]}x{side[1]}"


def _names(files: Sequence[ImageFile]) -> Iterator[ImageProblem]:
    """Names that are not UTF-8, or that other systems take for one."""
    alike: dict[int, list[int]] = defaultdict(list)
    for index, file in enumerate(files):
        try:
            file.name.encode()
        except UnicodeEncodeError:
            yield ImageProblem(file.name, "name", "warning", "it is not UTF-8")
        alike[hash(unicodedata.normalize("NFC", file.name).casefold())].append(index)
    for indices in alike.values():
        for index in indices[1:]:
            first = files[indices[0]].name
            yield ImageProblem(
                files[index].name, "name", "warning", f"it differs from {first} in case or Unicode form alone"
            )
