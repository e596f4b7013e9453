import base64
import io
import unicodedata
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from debiasctl.errors import UsageError
from debiasctl.reporting.pictures import PICTURES, labelled_grid, make_grid, save_folder, save_grid


def random_images(count: int, channels: int, size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, size, size), generator=generator, dtype=torch.uint8)


# small images are enlarged by a whole factor, to about 48 pixels
@pytest.mark.parametrize("size, factor", [(8, 6), (16, 3), (32, 2), (48, 1), (100, 1)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count, columns", [(1, 1), (2, 2), (5, 3)])  # ⌈√5⌉ columns
def test_every_tile_stands_in_its_place_on_white(
    count: int, columns: int, channels: int, size: int, factor: int
) -> None:
    images = random_images(count, channels, size)
    grid = make_grid(images)
    step = size * factor + 2
    assert grid.dtype == torch.uint8
    assert grid.shape == (channels, -(-count // columns) * step + 2, columns * step + 2)
    white = torch.ones(grid.shape, dtype=torch.bool)
    for index in range(count):
        top, left = 2 + index // columns * step, 2 + index % columns * step
        tile = grid[:, top : top + size * factor, left : left + size * factor]
        for row in range(factor):
            for column in range(factor):
                assert torch.equal(tile[:, row::factor, column::factor], images[index])
        white[:, top : top + size * factor, left : left + size * factor] = False
    assert bool((grid[white] == 255).all())


def test_columns_can_be_chosen() -> None:
    assert make_grid(random_images(4, 1, 48), columns=1).shape == (1, 4 * 50 + 2, 52)
    assert make_grid(random_images(1, 1, 48)).shape == (1, 52, 52)


@pytest.mark.parametrize("channels, mode", [(1, "L"), (3, "RGB")])
def test_a_grid_on_disk_is_the_grid(tmp_path: Path, channels: int, mode: str) -> None:
    images = random_images(3, channels, 8)
    save_grid(tmp_path / "new" / "grid.png", images)
    with Image.open(tmp_path / "new" / "grid.png") as picture:
        assert (picture.format, picture.mode) == ("PNG", mode)
        pixels = np.asarray(picture).reshape(picture.height, picture.width, channels)
    assert np.array_equal(pixels.transpose(2, 0, 1), make_grid(images).numpy())
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["grid.png"]


def test_a_folder_holds_every_image_by_index(tmp_path: Path) -> None:
    images = random_images(11, 3, 8)
    save_folder(tmp_path / "out", images, None, num=11, classes=())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{index:02d}.png" for index in range(11)]
    for index in range(11):
        with Image.open(tmp_path / "out" / f"{index:02d}.png") as picture:
            assert np.array_equal(np.asarray(picture).transpose(2, 0, 1), images[index].numpy())


def test_classes_are_sub_folders(tmp_path: Path) -> None:
    labels = torch.tensor([2, 0, 2, 1])
    save_folder(tmp_path / "out", random_images(4, 1, 8), labels, num=4, classes=("a/b", "..", "été 1"))
    found = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png"))
    assert found == ["_/3.png", "a_b/1.png", "été 1/0.png", "été 1/2.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_no_two_classes_share_a_folder(tmp_path: Path) -> None:
    classes = ("a/b", "a_b", "A_B", "a:b", "..", "_", "x" * 300, "x" * 299 + "y", "\u00e9", "e\u0301")
    save_folder(tmp_path / "out", random_images(10, 1, 8), torch.arange(10), num=10, classes=classes)
    found = {int(path.stem): path.parent.name for path in (tmp_path / "out").rglob("*.png")}
    assert sorted(found) == list(range(10))
    assert len({unicodedata.normalize("NFC", name).casefold() for name in found.values()}) == 10
    assert (found[1], found[5], found[8]) == ("a_b", "_", "\u00e9")  # those that need no change keep their names
    assert max(map(len, found.values())) < 70


def test_an_empty_folder_may_be_filled_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    save_folder(tmp_path / "empty", random_images(1, 1, 8), None, num=1, classes=())
    assert (tmp_path / "empty" / "0.png").is_file()
    (tmp_path / "file").write_text("x")
    for taken in ("empty", "file"):
        with pytest.raises(UsageError, match=f"{taken}` exists and is not empty"):
            save_folder(tmp_path / taken, random_images(1, 1, 8), None, num=1, classes=())
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize("channels, mode", [(1, "L"), (3, "RGB")])
def test_a_labelled_grid_has_names_left_and_above_and_gaps_between_groups(channels: int, mode: str) -> None:
    images = random_images(8, channels, 16)
    rows = [list(images[2 * row : 2 * row + 2]) for row in range(4)]
    grid = labelled_grid(rows, row_names=["a", "b"] * 2, column_names=["5", "10"], caption="steps", group=2).drawn()
    pixels = np.asarray(grid).reshape(grid.height, grid.width, channels)
    assert grid.mode == mode
    left, tops = grid.width - 100, [19, 69, 127, 177]
    for row, top in enumerate(tops):
        assert bool((pixels[top : top + 48, :left] < 128).any())  # a name
        for column in range(2):
            x = left + 50 * column
            assert np.array_equal(pixels[top : top + 48 : 3, x : x + 48 : 3].transpose(2, 0, 1), rows[row][column])
    assert bool((pixels[:19, :left] < 128).any())
    assert bool((pixels[:19, left:] < 128).any())
    assert bool((pixels[117:127, left:] == 255).all())


def test_a_grid_with_labels_has_one_below_each_image_and_is_enlarged_as_asked(tmp_path: Path) -> None:
    images = random_images(3, 1, 8)
    save_grid(tmp_path / "grid.png", images, labels=["zero", "one", "two"], scale=10)
    pixels = np.asarray(Image.open(tmp_path / "grid.png"))
    for index in range(3):
        top, left = 2 + index // 2 * 99, 2 + index % 2 * 82
        assert np.array_equal(pixels[top : top + 80 : 10, left : left + 80 : 10], images[index, 0])
        assert (pixels[top + 80 : top + 96, left : left + 80] < 128).any()  # its name
    assert (pixels[101 + 80 :, 84:] == 255).all()


@pytest.mark.parametrize("ending", PICTURES)
def test_a_grid_is_written_in_the_format_of_its_ending(ending: str, tmp_path: Path) -> None:
    images, path = random_images(4, 3, 16), tmp_path / f"grid{ending}"
    save_grid(path, images, labels=["a", "b", "c", "d"])
    content = path.read_bytes()
    save_grid(path, images, labels=["a", "b", "c", "d"])
    assert path.read_bytes() == content  # no time stands in it
    signs = {".png": b"\x89PNG", ".jpg": b"\xff\xd8", ".jpeg": b"\xff\xd8", ".svg": b"<?xml", ".pdf": b"%PDF"}
    assert content.startswith(signs[ending])
    if ending == ".svg":
        root = ElementTree.fromstring(content)
        assert {"a", "b", "c", "d"} <= set("".join(root.itertext()).split())
        assert content.count(b"<image") == 4


def test_a_jpeg_is_near_the_grid_and_a_vector_picture_holds_the_very_pixels(tmp_path: Path) -> None:
    images = torch.arange(0, 256, 4, dtype=torch.uint8).reshape(1, 1, 8, 8).repeat(4, 1, 1, 1)
    save_grid(tmp_path / "grid.jpg", images)
    pixels = np.asarray(Image.open(tmp_path / "grid.jpg")).astype(int)
    assert np.abs(pixels[2:50, 2:50] - make_grid(images)[0, 2:50, 2:50].numpy()).mean() < 4
    save_grid(tmp_path / "grid.svg", images)
    first = ElementTree.parse(tmp_path / "grid.svg").getroot().find(".//{http://www.w3.org/2000/svg}image")
    assert first is not None
    data = first.attrib["{http://www.w3.org/1999/xlink}href"].partition(",")[2]
    tile = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("L"))
    assert set(np.unique(tile)) <= set(range(0, 256, 4))
    assert tile.min() == 0
    assert tile.max() == 252
