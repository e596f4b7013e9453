import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from debiasctl.builtin.datasets._support.image_decoding import UnreadableImageError, decode, read_header


def saved(image, file_format="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    stream.seek(0)
    return stream


def palette_image(**transparency):
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    return saved(image, **transparency)


def deep_colour_png(value):
    """An 8x8 PNG of 16 bits a channel, which Pillow cannot write."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\0" + struct.pack(">H", value) * 24
    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(row * 8)), chunk(b"IEND", b"")]
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def deep_grey(value):
    return Image.fromarray(np.full((8, 8), value, dtype=np.uint16))


UNIFORM = {
    "1 bit, white": (lambda: saved(Image.new("1", (8, 8), 1)), (255, 255, 255), True),
    "1 bit, black": (lambda: saved(Image.new("1", (8, 8), 0)), (0, 0, 0), True),
    "grey": (lambda: saved(Image.new("L", (8, 8), 100)), (100, 100, 100), True),
    "grey, half transparent": (lambda: saved(Image.new("LA", (8, 8), (100, 128))), (177, 177, 177), True),
    "grey, one value transparent": (lambda: saved(Image.new("L", (8, 8), 100), transparency=100), (255,) * 3, True),
    "colour": (lambda: saved(Image.new("RGB", (8, 8), (200, 100, 50))), (200, 100, 50), False),
    "opaque": (lambda: saved(Image.new("RGBA", (8, 8), (200, 100, 50, 255))), (200, 100, 50), False),
    "transparent": (lambda: saved(Image.new("RGBA", (8, 8), (200, 100, 50, 0))), (255, 255, 255), False),
    "half transparent": (lambda: saved(Image.new("RGBA", (8, 8), (200, 100, 50, 128))), (227, 177, 152), False),
    "palette": (lambda: palette_image(), (200, 100, 50), False),
    "palette, an index transparent": (lambda: palette_image(transparency=1), (255, 255, 255), False),
    "palette, alphas": (lambda: palette_image(transparency=bytes([0, 128])), (227, 177, 152), False),
    "16 bits": (lambda: saved(deep_grey(100 * 257)), (100, 100, 100), True),
    "16 bits, white": (lambda: saved(deep_grey(65535)), (255, 255, 255), True),
    "16 bits, small": (lambda: saved(deep_grey(128)), (0, 0, 0), True),
    "16 bits, rounded": (lambda: saved(deep_grey(129)), (1, 1, 1), True),
    "16 bits, tiff": (lambda: saved(deep_grey(100 * 257), "TIFF"), (100, 100, 100), True),
    "16 bits a channel": (lambda: deep_colour_png(100 * 257), (100, 100, 100), False),
    "CMYK": (lambda: saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF"), (255, 0, 0), False),
    "CMYK, jpeg": (lambda: saved(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG"), (0, 255, 255), False),
    "bmp": (lambda: saved(Image.new("RGB", (8, 8), (200, 100, 50)), "BMP"), (200, 100, 50), False),
    "webp": (lambda: saved(Image.new("RGB", (8, 8), (200, 100, 50)), "WEBP", lossless=True), (200, 100, 50), False),
    "gif": (lambda: saved(Image.new("RGB", (8, 8), (200, 100, 50)), "GIF"), (200, 100, 50), False),
}


@pytest.mark.parametrize("make, colour, grey", UNIFORM.values(), ids=UNIFORM)
def test_every_mode_is_read_rightly(make, colour, grey):
    header = read_header(make())
    assert (header.width, header.height, header.grey) == (8, 8, grey)
    pixels = decode(make(), size=8, channels=3)
    assert pixels.shape == (3, 8, 8)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - np.array(colour)[:, None, None]).max() <= 1
    luma = np.dot(colour, [0.299, 0.587, 0.114])
    assert np.abs(decode(make(), size=8, channels=1) - luma).max() <= 1.5


@pytest.mark.parametrize("value, exact", [(128, 0), (129, 1), (25_700, 100), (65_535, 255)])
def test_16_bits_are_scaled_and_not_clipped(value, exact):
    assert set(decode(saved(deep_grey(value)), size=8, channels=1).flat) == {exact}


def test_a_grey_palette_is_grey():
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 90, 90, 90])
    assert read_header(saved(image)).grey


def test_orientation_is_applied():
    image = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter, clockwise to be shown
    found = decode(saved(image, exif=exif), size=8, channels=1)[0]
    assert found.tolist() == np.rot90(np.arange(64).reshape(8, 8), k=-1).tolist()


def test_the_first_frame_is_taken():
    frames = [Image.new("L", (8, 8), value) for value in (10, 200)]
    animated = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert set(decode(animated, size=8, channels=1).flat) == {10}


@pytest.mark.parametrize("shape", [(16, 64), (64, 16)])
def test_the_middle_square_is_kept(shape):
    pixels = np.full(shape, 255, dtype=np.uint8)
    pixels[(shape[0] - 16) // 2 : (shape[0] + 16) // 2, (shape[1] - 16) // 2 : (shape[1] + 16) // 2] = 40
    image = Image.fromarray(pixels)
    assert set(decode(saved(image), size=16, channels=1).flat) == {40}
    assert set(decode(saved(image), size=8, channels=1).flat) == {40}


def test_sizes_are_reduced_without_aliasing():
    stripes = Image.fromarray(np.tile(np.array([0, 255], dtype=np.uint8), (64, 32)))
    found = decode(saved(stripes), size=16, channels=1)[0, :, 3:-3].astype(int)
    assert np.abs(found - 127.5).max() < 8  # taking every fourth pixel would give 0 or 255


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no image",
        saved(Image.effect_noise((64, 64), 50)).getvalue()[:600],
        saved(Image.effect_noise((64, 64), 50), "JPEG").getvalue()[:900],
        saved(Image.new("F", (8, 8), 0.5), "TIFF").getvalue(),
        saved(Image.new("I", (8, 8), 70_000), "TIFF").getvalue(),
    ],
    ids=["empty", "text", "cut png", "cut jpeg", "floats", "32 bits"],
)
def test_what_cannot_be_read_is_refused(data):
    with pytest.raises(UnreadableImageError):
        decode(io.BytesIO(data), size=8, channels=3)
