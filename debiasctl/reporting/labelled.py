"""A layout of images and names, drawn as pixels or, for a paper, as SVG or PDF in which names stay text."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from debiasctl.files import atomic_file
from debiasctl.reporting.style import PICTURES as PICTURES
from debiasctl.reporting.style import save_figure

_VECTOR = (".svg", ".pdf")
_QUALITY = 95  # of a JPEG
_DPI = 96.0  # pixels of a layout, an inch
_ALIGNED = {"r": "right", "l": "left", "m": "center"}, {"a": "top", "m": "center"}


def is_vector(path: Path) -> bool:
    """Whether the path's ending is that of a format which keeps names as text."""
    return path.suffix.lower() in _VECTOR


def save_picture(path: Path, picture: Image.Image) -> None:
    """Write pixels as PNG or JPEG, by the path's ending."""
    with atomic_file(path) as stream:
        if path.suffix.lower() == ".png":
            picture.save(stream, format="PNG")
        else:
            picture.save(stream, format="JPEG", quality=_QUALITY, subsampling=0)


@dataclass(frozen=True)
class Tile:
    """An image, uint8 [H, W] or [H, W, 3], its upper left corner, and the whole factor by which it is enlarged."""

    x: int
    y: int
    factor: int
    pixels: Any


@dataclass
class LabelledGrid:
    """Tiles and names on white, in pixels from the upper left corner; names have PIL's anchors."""

    size: tuple[int, int]
    grey: bool
    letter: int
    tiles: list[Tile] = field(default_factory=list)
    names: list[tuple[int, int, str, str]] = field(default_factory=list)

    def write(self, x: int, y: int, text: str, anchor: str) -> None:
        """Add a name."""
        self.names.append((x, y, text, anchor))

    def drawn(self) -> Image.Image:
        """The layout as pixels."""
        from PIL import ImageDraw, ImageFont

        picture = Image.new("L" if self.grey else "RGB", self.size, "white")
        pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size=self.letter)
        for x, y, text, anchor in self.names:
            pen.text((x, y), text, fill="black", font=font, anchor=anchor)
        for tile in self.tiles:
            image = Image.fromarray(tile.pixels)
            enlarged = image.resize((image.width * tile.factor, image.height * tile.factor), Image.Resampling.NEAREST)
            picture.paste(enlarged, (tile.x, tile.y))
        return picture

    def save(self, path: Path) -> None:
        """Write the layout in the format of the path's ending, one of PICTURES."""
        if not is_vector(path):
            save_picture(path, self.drawn())
            return
        from matplotlib.figure import Figure

        width, height = self.size
        figure = Figure(figsize=(width / _DPI, height / _DPI))
        panel = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        panel.set_xlim(0, width)
        panel.set_ylim(height, 0)
        panel.axis("off")
        across, along = _ALIGNED
        for x, y, text, anchor in self.names:
            panel.text(
                x, y, text, fontsize=self.letter * 72 / _DPI * 0.85, ha=across[anchor[0]], va=along[anchor[1]]
            )  # fmt: skip
        for tile in self.tiles:
            rows, columns = tile.pixels.shape[:2]
            area = (tile.x, tile.x + columns * tile.factor, tile.y + rows * tile.factor, tile.y)
            # as colours, for a colour map would move grey levels by one
            colours = tile.pixels if tile.pixels.ndim == 3 else tile.pixels[:, :, None].repeat(3, axis=2)
            panel.imshow(colours, extent=area, interpolation="none", aspect="auto")
        panel.set_xlim(0, width)
        panel.set_ylim(height, 0)
        save_figure(path, figure)
