import errno
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from debiasctl.api import Dataset
from debiasctl.builtin.datasets._support import decoded_images
from debiasctl.builtin.datasets._support.image_files import ImageFile
from debiasctl.builtin.datasets._support.image_layout import read_layout
from debiasctl.errors import DataError, DebiasctlError, PluginOptionsError, UsageError
from debiasctl.registry.entry_points import create
from debiasctl.registry.refs import PluginRef


def folder(path, **options):
    return create("datasets", PluginRef("folder", {"path": str(path), **options}))


def save(path, value=0, *, size=(8, 8), mode="RGB"):
    """A picture of one colour, by which it can be told."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, (value,) * 3 if mode == "RGB" else value).save(path)


def make(root, names, **options):
    for value, name in enumerate(names):
        save(root / name, value, **options)
    return root


def values(split):
    """The colour of each picture."""
    images = split.images(torch.arange(len(split)))
    assert images.dtype == torch.uint8
    assert (images.flatten(1) == images.flatten(1)[:, :1]).all()
    return images[:, 0, 0, 0].tolist()


def labels(split):
    return split.labels(torch.arange(len(split)))


def numbered(pattern, count):
    return [pattern.format(i) for i in range(count)]


def zipped(root, path, *, prefix=""):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(root.rglob("*")):
            if file.is_file():
                archive.write(file, prefix + file.relative_to(root).as_posix())
    return path


# ---------------------------------------------------------------- layouts


def test_classes_are_subfolders(tmp_path, location):
    root = make(tmp_path / "data", [f"{name}/{i}.png" for name in ("dog", "cat") for i in range(20)])
    dataset = folder(root)
    assert isinstance(dataset, Dataset)
    data = dataset.load(location)
    assert data.info == dataset.info(location) == folder(root).info(location)
    assert (data.info.image_size, data.info.channels, data.info.classes) == (8, 3, ("cat", "dog"))
    assert sorted([*values(data.train), *values(data.heldout)]) == list(range(40))
    for split in (data.train, data.heldout):
        assert labels(split).dtype == torch.int64
        assert labels(split).tolist() == [1 if value < 20 else 0 for value in values(split)]
    assert len(data.train) > len(data.heldout) >= 1


def test_a_flat_folder_has_no_classes(tmp_path, location):
    data = folder(make(tmp_path / "data", numbered("{}.png", 10))).load(location)
    assert data.info.classes == ()
    assert labels(data.train) is None
    assert labels(data.heldout) is None
    assert data.info.num_train + data.info.num_heldout == 10


@pytest.mark.parametrize(
    "splits, heldout",
    [
        (("train", "val"), "val"),
        (("train", "test"), "test"),
        (("train", "val", "test"), "val"),
    ],
)
@pytest.mark.parametrize("class_folder", ["", "a/"])
def test_split_folders(splits, heldout, class_folder, tmp_path, location):
    names = [f"{split}/{class_folder}{i}.png" for split in splits for i in range(3)]
    data = folder(make(tmp_path / "data", names)).load(location)
    assert data.info.classes == (("a",) if class_folder else ())
    assert values(data.train) == [0, 1, 2]
    assert values(data.heldout) == [i for i, name in enumerate(names) if name.startswith(heldout)]


def test_train_alone_is_divided(tmp_path, location):
    names = [f"train/{name}/{i}.png" for name in "ab" for i in range(10)]
    data = folder(make(tmp_path / "data", names)).load(location)
    assert data.info.classes == ("a", "b")
    assert sorted([*values(data.train), *values(data.heldout)]) == list(range(20))


@pytest.mark.parametrize(
    "names, message",
    [
        (["0.png", "a/1.png"], r"both directly \(0.png\) and in sub-folders \(a/1.png\)"),
        (["train/0.png", "train/a/1.png"], "both directly"),
        (["train/0.png", "2.png"], "outside train/, val/ and test/, such as 2.png"),
        (["train/a/0.png", "b/2.png"], "such as b/2.png"),
        (["val/0.png", "val/1.png"], "has val/ but no train/"),
        (["train/a/0.png", "val/b/1.png"], "class b, but train/ does not"),
        (["train/a/0.png", "val/1.png"], "Both need the same class folders"),
        (["0.png"], "only one image"),
        (["a/0.png"], "only one image"),
        ([], "holds no images"),
        (["notes.txt.png/.hidden.png", "__MACOSX/a.png", ".git/a.png"], "holds no images"),
    ],
)
def test_layouts_that_are_refused(names, message, tmp_path, location):
    root = tmp_path / "data"
    root.mkdir()
    make(root, names)
    with pytest.raises(DataError, match=message):
        folder(root).info(location)


def test_other_files_are_passed_over(tmp_path, location):
    root = make(tmp_path / "data", ["a/0.png", "a/1.PNG", "a/sub/2.png", "b/._0.png", "__MACOSX/a/0.png", ".x/0.png"])
    (root / "a" / "Thumbs.db").write_bytes(b"x")
    (root / "readme.txt").write_text("x")
    data = folder(root).load(location)
    assert data.info.classes == ("a",)
    assert sorted([*values(data.train), *values(data.heldout)]) == [0, 1, 2]


def test_a_link_that_leads_back_up_ends(tmp_path, location):
    root = make(tmp_path / "data", ["a/0.png", "a/1.png"])
    (root / "a" / "loop").symlink_to(root, target_is_directory=True)
    info = folder(root).info(location)
    assert info.num_train + info.num_heldout == 2


def test_held_out_share_and_its_stability():
    files = [ImageFile(f"{i:05}.png", (0, 0)) for i in range(4000)]
    few, many = (read_layout(part, Path("x"), heldout_fraction=0.1) for part in (files[:3000], files))
    assert abs(len(many.heldout) / 4000 - 0.1) < 0.02
    assert set(few.heldout) <= set(many.heldout)
    assert set(few.train) <= set(many.train)
    assert not set(many.train) & set(many.heldout)
    more = read_layout(files, Path("x"), heldout_fraction=0.3)
    assert set(many.heldout) < set(more.heldout)


@pytest.mark.parametrize("fraction", [1e-9, 1 - 1e-9])
def test_each_side_has_an_image(fraction):
    layout = read_layout([ImageFile(f"{i}.png", (0, 0)) for i in range(5)], Path("x"), heldout_fraction=fraction)
    assert sorted([len(layout.train), len(layout.heldout)]) == [1, 4]


# ---------------------------------------------------------------- zips


@pytest.mark.parametrize("prefix", ["", "pictures/"])
def test_a_zip_is_read_like_the_folder_that_it_holds(prefix, tmp_path, location):
    root = make(tmp_path / "data", [f"{name}/{i}.png" for name in "ab" for i in range(10)])
    data = folder(root).load(location)
    packed = folder(zipped(root, tmp_path / "data.zip", prefix=prefix)).load(location)
    assert packed.info == data.info
    assert packed.content_hash == data.content_hash
    assert values(packed.heldout) == values(data.heldout)


def test_a_zip_with_split_folders(tmp_path, location):
    root = make(tmp_path / "data", ["train/0.png", "train/1.png"])
    data = folder(zipped(root, tmp_path / "data.zip")).load(location)
    assert data.info.classes == ()


def encrypted(path):
    # the flag that marks a member as encrypted, in its own header and in the zip's directory
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x03\x04") + 6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-40]), "cannot be read as a zip"),
        (lambda path: path.write_bytes(b""), "cannot be read as a zip"),
        (encrypted, "are encrypted, first 0.png"),
        (lambda path: zipfile.ZipFile(path, "w").close(), "holds no images"),
    ],
)
def test_zips_that_are_refused(damage, message, tmp_path, location):
    path = zipped(make(tmp_path / "data", numbered("{}.png", 3)), tmp_path / "data.zip")
    damage(path)
    with pytest.raises(DataError, match=message):
        folder(path).info(location)


def test_a_damaged_member_is_named(tmp_path, location):
    path = zipped(make(tmp_path / "data", numbered("{}.png", 3)), tmp_path / "data.zip")
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") - 20] ^= 0xFF  # in the contents of the last member
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"1 of 3 images .* 2\.png"):
        folder(path).load(location)


@pytest.mark.parametrize("name, message", [("nowhere", "does not exist"), ("notes.txt", "neither a folder nor a .zip")])
def test_paths_that_are_refused(name, message, tmp_path, location):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UsageError, match=message):
        folder(tmp_path / name).info(location)


# ---------------------------------------------------------------- sizes and modes


def test_different_sizes_need_a_size(tmp_path, location):
    root = make(tmp_path / "data", numbered("{}.png", 3))
    save(root / "wide.png", 3, size=(30, 20))
    with pytest.raises(UsageError, match=r"different sizes: .*8x8.*image_size=8") as caught:
        folder(root).info(location)
    assert "wide.png (30x20)" in str(caught.value)
    data = folder(root, image_size=16).load(location)
    assert data.info.image_size == 16
    assert sorted([*values(data.train), *values(data.heldout)]) == [0, 1, 2, 3]


def test_images_that_are_not_square_need_a_size(tmp_path, location):
    root = make(tmp_path / "data", numbered("{}.png", 3), size=(40, 36))
    with pytest.raises(UsageError, match=r"not square: .*40x36.*image_size=32"):
        folder(root).info(location)


@pytest.mark.parametrize(
    "mode, colour_among, channels",
    [("auto", False, 1), ("auto", True, 3), ("rgb", False, 3), ("grey", True, 1)],
)
def test_channels(mode, colour_among, channels, tmp_path, location):
    root = make(tmp_path / "data", numbered("{}.png", 4), mode="L")
    if colour_among:
        save(root / "4.png", 4)
    data = folder(root, mode=mode).load(location)
    assert data.info.channels == channels == data.train.images(torch.tensor([0])).shape[1]
    assert sorted([*values(data.train), *values(data.heldout)]) == list(range(4 + colour_among))


@pytest.mark.parametrize("options", [{"image_size": 2}, {"mode": "gray"}, {"heldout": 0}, {"heldout": 1}, {"path": ""}])
def test_options_out_of_range(options, tmp_path):
    with pytest.raises(PluginOptionsError):
        folder(**{"path": tmp_path, **options})


def test_a_relative_path_is_kept_as_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert folder("data").options.path == str(tmp_path / "data")


# ---------------------------------------------------------------- unreadable files


@pytest.fixture
def damaged(tmp_path):
    root = make(tmp_path / "data", numbered("{:02}.png", 30))
    (root / "05.png").write_bytes(b"no image")
    whole = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    whole.save(root / "06.png")
    (root / "06.png").write_bytes((root / "06.png").read_bytes()[:-60])  # its header is whole
    return root


def test_unreadable_files_are_named_and_nothing_is_cached(damaged, location, caplog):
    caplog.set_level("INFO", logger="debiasctl")
    with pytest.raises(DataError, match=r"2 of 30 images .* cannot be read: .*skip_unreadable=true") as caught:
        folder(damaged, image_size=8, mode="rgb").load(location)
    assert "05.png" in str(caught.value)
    assert "06.png" in str(caught.value)
    assert not list(location.cache_dir.rglob("images.npy"))
    assert [text for text in caplog.messages if "decoding" in text] == [f"decoding 30 images of {damaged}"]  # not twice
    with pytest.raises(DataError, match=r"1 of 30 images .* 05\.png \(not an image"):
        folder(damaged).info(location)


def test_many_unreadable_files_are_counted(damaged, location):
    for number in range(10, 15):
        (damaged / f"{number}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"7 of 30 .*; and 4 more"):
        folder(damaged, image_size=8, mode="rgb").load(location)


@pytest.mark.parametrize("first", ["info", "load"])
def test_unreadable_files_are_left_out_when_asked(first, damaged, location, caplog):
    dataset = folder(damaged, skip_unreadable=True)
    infos = [dataset.info(location)] if first == "info" else []
    for _ in range(2):  # decoded, and out of the cache
        caplog.clear()
        data = folder(damaged, skip_unreadable=True).load(location)
        assert "2 unreadable images are left out: " in caplog.text
        assert "05.png" in caplog.text
        infos.append(data.info)
        assert sorted([*values(data.train), *values(data.heldout)]) == [i for i in range(30) if i not in (5, 6)]
    assert len(set(infos)) == 1
    assert infos[0].num_train + infos[0].num_heldout == 28
    for name in ("05.png", "06.png"):
        (damaged / name).unlink()
    whole = folder(damaged, skip_unreadable=True).load(location)
    assert sorted(values(whole.train)) == sorted(values(data.train))
    assert whole.content_hash != data.content_hash


def test_nothing_readable_is_refused_even_so(tmp_path, location):
    root = make(tmp_path / "data", numbered("{}.png", 3))
    for file in root.iterdir():
        file.write_bytes(b"")
    with pytest.raises(DataError, match="3 of 3"):
        folder(root, skip_unreadable=True).info(location)
    with pytest.raises(DataError, match="0 remain to train on"):
        folder(root, skip_unreadable=True, image_size=8, mode="rgb").load(location)


# ---------------------------------------------------------------- the cache


def decoded_files(location):
    return list(location.cache_dir.rglob("images.npy"))


def test_the_second_load_decodes_nothing(tmp_path, location, monkeypatch):
    root = make(tmp_path / "data", [f"{name}/{i}.png" for name in "ab" for i in range(5)])
    first = folder(root).load(location)

    def never(*args, **kwargs):
        raise AssertionError("decoded again")

    monkeypatch.setattr(decoded_images, "each_file", never)
    monkeypatch.setattr("debiasctl.builtin.datasets._support.image_reading.each_file", never)
    assert folder(root).info(location) == first.info
    second = folder(root).load(location)
    assert second.content_hash == first.content_hash
    assert values(second.train) == values(first.train)
    assert torch.equal(labels(second.heldout), labels(first.heldout))


def test_a_full_disk_is_reported(tmp_path, location, monkeypatch):
    """A mapped file would end the process instead, when a page of it finds no room."""
    root = make(tmp_path / "set", numbered("{}.png", 4))
    opened, mapped = open, np.memmap

    def only_to_read(*arguments, mode, **options):
        assert mode in ("r", "c")
        return mapped(*arguments, mode=mode, **options)

    class Full:
        def __init__(self, path, mode):
            self.stream = opened(path, mode)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.stream.close()

        def write(self, data):
            if self.stream.tell() > 500:
                raise OSError(errno.ENOSPC, "full")
            self.stream.write(data)

    monkeypatch.setattr(np, "memmap", only_to_read)
    monkeypatch.setattr(decoded_images, "open", Full, raising=False)
    with pytest.raises(DebiasctlError, match="the disk is full"):
        folder(root).load(location)
    monkeypatch.undo()
    assert not list(location.cache_dir.rglob("images.npy"))
    assert len(folder(root).load(location).train) == 3


def test_a_changed_file_is_decoded_again_and_the_old_pixels_removed(tmp_path, location):
    root = make(tmp_path / "data", numbered("{}.png", 5))
    first = folder(root).load(location)
    save(root / "2.png", 99)
    os.utime(root / "2.png", ns=(1, 1))
    second = folder(root).load(location)
    assert sorted([*values(second.train), *values(second.heldout)]) == [0, 1, 3, 4, 99]
    assert second.content_hash != first.content_hash
    assert len(decoded_files(location)) == 1
    folder(root, mode="grey").load(location)
    assert len(decoded_files(location)) == 2  # other options have their own


def test_the_hash_follows_contents_and_not_the_place(tmp_path, location):
    root = make(tmp_path / "data", [f"{name}/{i}.png" for name in "ab" for i in range(5)])
    first = folder(root).load(location).content_hash
    shutil.copytree(root, tmp_path / "copy")
    assert folder(tmp_path / "copy").load(location).content_hash == first
    (tmp_path / "copy" / "b").rename(tmp_path / "copy" / "c")
    assert folder(tmp_path / "copy").load(location).content_hash != first
    save(root / "a" / "0.png", 77)
    assert folder(root).load(location).content_hash != first


def test_what_is_too_large_is_decoded_when_it_is_read(tmp_path, location, monkeypatch):
    root = make(tmp_path / "data", [f"{name}/{i}.png" for name in "ab" for i in range(10)])
    held = folder(root).load(location)
    shutil.rmtree(location.cache_dir)
    monkeypatch.setattr(decoded_images, "MAX_DECODED_BYTES", 20 * 3 * 64 - 1)
    lazy = folder(root).load(location)
    assert not decoded_files(location)
    assert lazy.info == held.info
    assert lazy.content_hash.startswith("files:")
    assert lazy.files.content_hash() is None
    indices = torch.tensor([3, 0, 3, len(held.train) - 1])
    assert torch.equal(lazy.train.images(indices), held.train.images(indices))
    assert torch.equal(lazy.train.labels(indices), held.train.labels(indices))
    assert values(lazy.heldout) == values(held.heldout)
    assert held.content_hash in lazy.files.read_all()
    shutil.rmtree(root / "a")
    with pytest.raises(DataError, match="cannot be read"):
        lazy.train.images(torch.arange(len(lazy.train)))


@pytest.mark.parametrize("name", ["images.npy", "contents.json"])
def test_a_damaged_cache_is_reported(name, tmp_path, location):
    root = make(tmp_path / "data", numbered("{}.png", 5))
    folder(root).load(location)
    (path,) = location.cache_dir.rglob(name)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataError, match="damaged"):
        folder(root).load(location)


@pytest.mark.parametrize("size, backbone", [(8, "dit"), (16, "dit"), (33, "dit"), (32, "unet"), (64, "unet")])
def test_recommended_settings_follow_the_size(size, backbone, tmp_path, location):
    root = make(tmp_path / "data", numbered("{}.png", 2), size=(size, size))
    settings = folder(root).recommended(location)
    chosen = settings["model"]["backbone"]
    assert (chosen if isinstance(chosen, str) else chosen["name"]) == backbone
    assert settings["data"]["horizontal_flip"] is False


def test_whatever_byte_of_a_zip_is_flipped_it_is_read_or_refused_in_one_message(tmp_path, location):
    path = zipped(make(tmp_path / "data", numbered("{}.png", 2)), tmp_path / "data.zip")
    whole = path.read_bytes()
    loaded = folder(path).load(location)
    expected = values(loaded.train), values(loaded.heldout)
    read = 0
    for position in range(0, len(whole), 13):
        data = bytearray(whole)
        data[position] ^= 0xFF
        path.write_bytes(bytes(data))
        try:
            loaded = folder(path, skip_unreadable=False).load(location)
        except (DataError, UsageError):
            continue
        assert (values(loaded.train), values(loaded.heldout)) == expected, position
        read += 1
    assert read


def test_a_folder_whose_listing_breaks_off_is_named(tmp_path, location, monkeypatch):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for number in range(3):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / folder / f"{number}.png")
    scandir = os.scandir

    def broken(path):
        if not isinstance(path, str) or os.path.basename(os.path.normpath(path)) != "b":
            return scandir(path)
        return broken_listing()

    def broken_listing():
        yield from ()
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(os, "scandir", broken)
    with pytest.raises(DataError, match=r"the folder b/ cannot be read \(Stale file handle\)"):
        create("datasets", PluginRef("folder", {"path": str(tmp_path)})).info(location)
