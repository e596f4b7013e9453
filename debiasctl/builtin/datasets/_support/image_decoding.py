"""Decoding image files of any mode to square 8-bit pixels."""

import warnings
from dataclasses import dataclass
from typing import IO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

VERSION = 1  # of the pixels that this module makes; part of the key of cached pixels

_GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L"})
_DEEP_MODES = frozenset({"I", "I;16", "I;16B", "I;16L"})
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
MAX_PIXELS = 2**26  # of an image: 8,192 x 8,192
_WHITE = (255, 255, 255, 255)


class UnreadableImageError(Exception):
    """An image file that cannot be decoded; the message says why."""


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
            return ImageHeader(image.width, image.height, is_grey(image), image.has_transparency_data)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's readers raise errors of any type for damaged files
        raise UnreadableImageError(reason(error)) from error


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
        raise UnreadableImageError(reason(error)) from error
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def resized(pixels: npt.NDArray[np.uint8], *, size: int, channels: int) -> npt.NDArray[np.uint8]:
    """Bring pixels, uint8 [1 or 3, H, W], to uint8 [channels, size, size], as `decode` does."""
    image = Image.fromarray(np.ascontiguousarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)))
    flat = np.asarray(_square(_as_mode(image, "L" if channels == 1 else "RGB"), size))
    return flat[None] if channels == 1 else flat.transpose(2, 0, 1)


def opened(stream: IO[bytes]) -> Image.Image:
    """Open an image of a known format; Pillow's others include programs (EPS), which it would have Ghostscript run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # it is refused here
        image = Image.open(stream, formats=_FORMATS)
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"it has {image.width:,} x {image.height:,} pixels, and at most {MAX_PIXELS:,} are decoded")
    return image


def check_range(image: Image.Image) -> None:
    # Pillow before 11 opens a 16-bit PNG as "I"; in other formats "I" may hold any 32 bits.
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
        raise ValueError("32-bit values have no known range; convert the image to 8 or 16 bits")


def flattened(image: Image.Image) -> Image.Image:
    """Convert an image to L or RGB, laying transparent parts over white."""
    if image.mode in _DEEP_MODES:
        deep = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray(((deep + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
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


def reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return "not an image that can be read" if text.startswith("cannot identify") else text or type(error).__name__
