"""Decoding image files of any mode to square 8-bit pixels."""

import io
import warnings
from dataclasses import dataclass
from typing import IO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

VERSION = 1  # of the pixels that this module makes; part of the key of cached pixels

_GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L"})
_DEEP_MODES = frozenset({"I", "I;16", "I;16B", "I;16L"})
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
MAX_PIXELS = 2**26  # of an image: 8,192 x 8,192
_WHITE = (255, 255, 255, 255)
_TRUNCATED = ("truncated", "unexpected end", "premature")  # in Pillow's messages, which have no type for it
_OF_SIZES = ("ignore", None, Image.DecompressionBombWarning, None, 0)  # a filter of warnings


class UnreadableImageError(Exception):
    """An image file that cannot be decoded; the message says why, and `kind` in a word or two."""

    def __init__(self, reason: str, *, kind: str = "unreadable") -> None:
        super().__init__(reason)
        self.kind = kind


@dataclass(frozen=True)
class ImageHeader:
    """The header of an image file. Width and height are as stored, before EXIF orientation."""

    width: int
    height: int
    grey: bool
    transparent: bool


def read_header(stream: IO[bytes]) -> ImageHeader:
    """Read the size and colour of an image; a palette is grey if all of its colours are.

    Raises:
        UnreadableImageError: if the bytes are not an image.
    """
    try:
        with opened(stream) as image:
            return ImageHeader(image.width, image.height, is_grey(image), is_transparent(image))
    except MemoryError:
        raise
    except Exception as error:  # Pillow's readers raise errors of any type for damaged files
        raise unreadable(error) from error


def decode(stream: IO[bytes], *, size: int, channels: int) -> npt.NDArray[np.uint8]:
    """Decode an image's first frame to pixels, uint8 [channels, size, size].

    EXIF orientation is applied; transparency is laid over white; 16-bit grey is scaled to 8 bits; colour becomes grey
    by ITU-R 601 luma. An image that is not square is cropped to its middle square, and one of another size is resized
    with an antialiased Lanczos filter.

    Raises:
        UnreadableImageError: if the image is damaged, or its values have no known range (32-bit integers, floats).
    """
    try:
        with opened(stream) as image:
            check_range(image)
            ImageOps.exif_transpose(image, in_place=True)
            flat = _as_mode(flattened(image), "L" if channels == 1 else "RGB")
            pixels = np.asarray(_square(flat, size))
    except MemoryError:
        raise
    except Exception as error:  # see read_header
        raise unreadable(error) from error
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def resized(pixels: npt.NDArray[np.uint8], *, size: int, channels: int) -> npt.NDArray[np.uint8]:
    """Bring pixels, uint8 [1 or 3, H, W], to uint8 [channels, size, size], as `decode` does."""
    image = Image.fromarray(np.ascontiguousarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)))
    flat = np.asarray(_square(_as_mode(image, "L" if channels == 1 else "RGB"), size))
    return flat[None] if channels == 1 else flat.transpose(2, 0, 1)


def opened(stream: IO[bytes]) -> Image.Image:
    """Open an image of a known format; Pillow's others include programs (EPS), which it would have Ghostscript run.

    Raises:
        UnreadableImageError: if it is empty or has too many pixels; and Pillow's errors.
    """
    if _OF_SIZES not in warnings.filters:  # which are judged here; catch_warnings() is not safe in threads
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    try:
        image = Image.open(stream, formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(
            f"it has more than {MAX_PIXELS:,} pixels, and at most these are decoded", kind="too large"
        ) from error
    except UnidentifiedImageError as error:
        if stream.seek(0, io.SEEK_END):
            raise UnreadableImageError("not an image that can be read") from error
        raise UnreadableImageError("it is empty", kind="empty") from error
    if image.width * image.height > MAX_PIXELS:
        raise UnreadableImageError(
            f"it has {image.width:,} x {image.height:,} pixels, and at most {MAX_PIXELS:,} are decoded",
            kind="too large",
        )
    return image


def check_range(image: Image.Image) -> None:
    """Raise UnreadableImageError if an image's values have no known range."""
    # Pillow before 11 opens a 16-bit PNG as "I"; in other formats "I" may hold any 32 bits.
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
        raise UnreadableImageError(
            "32-bit values have no known range; convert the image to 8 or 16 bits", kind="unknown range"
        )


def flattened(image: Image.Image) -> Image.Image:
    """Convert an image to L or RGB, laying transparent parts over white."""
    if image.mode in _DEEP_MODES:
        deep = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray(((deep + 128) // 257).astype(np.uint8))
    if is_transparent(image):
        layered = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layered.size, _WHITE), layered).convert("RGB")
    return _as_mode(image, "L" if image.mode in ("1", "L") else "RGB")


def _as_mode(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)  # convert() copies even if nothing changes


def _square(image: Image.Image, size: int) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    if image.width != image.height:
        image = image.crop((left, top, left + side, top + side))  # resize(box=...) would include pixels outside
    return image if side == size else image.resize((size, size), Image.Resampling.LANCZOS)


def is_grey(image: Image.Image) -> bool:
    if image.mode == "P" and image.palette is not None:
        colours = image.getpalette("RGB") or []
        return colours[0::3] == colours[1::3] == colours[2::3]
    return image.mode in _GREY_MODES


def is_transparent(image: Image.Image) -> bool:
    """Whether it may have transparent parts; 16 bits are scaled to 8 whatever they say of transparency."""
    return image.has_transparency_data and image.mode not in _DEEP_MODES


def unreadable(error: Exception) -> UnreadableImageError:
    """The error for one of Pillow's readers, which raise errors of any type; one of this type stays."""
    if isinstance(error, UnreadableImageError):
        return error
    text = " ".join(str(error).split()) or type(error).__name__
    is_cut = any(word in text.lower() for word in _TRUNCATED)
    return UnreadableImageError(text, kind="truncated" if is_cut else "unreadable")
