"""Published sets in torchvision's layouts: tiny files in the published formats, put in place."""

import io
import json
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision.datasets as published
from PIL import Image
from scipy.io import savemat
from tiny import OPTIONS, error_of, succeed

from debiasctl.api import DataLocation, Dataset, LoadedDataset
from debiasctl.builtin.datasets import imagenet
from debiasctl.builtin.datasets._support import decoded_images, resizing
from debiasctl.builtin.datasets._support.image_decoding import decode
from debiasctl.builtin.datasets._support.image_files import FolderSource
from debiasctl.errors import DataError, UsageError
from debiasctl.registry.entry_points import create
from debiasctl.registry.refs import PluginRef

ARRAYS = {"cifar100": 32, "svhn": 32, "stl10": 96}
FILES = ("celeba", "flowers102", "food101", "imagenet")
RNG = np.random.default_rng(0)


def pixels(count: int, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return RNG.integers(0, 256, (count, 3, size, size), dtype=np.uint8)


def jpeg(path: Path, size: tuple[int, int] = (24, 16)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).save(path)


def make_cifar100(root: Path) -> dict[str, Any]:
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    made = {}
    for name, count in (("train", 7), ("test", 3)):
        made[name] = (pixels(count, 32), [(13 * i) % 100 for i in range(count)])
        content = {
            "filenames": [f"{i}.png" for i in range(count)],
            "batch_label": "part 1 of 1",
            "fine_labels": made[name][1],
            "coarse_labels": [i % 20 for i in range(count)],
            "data": made[name][0].reshape(count, -1),
        }
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    return made


def make_svhn(root: Path) -> dict[str, Any]:
    root.mkdir(parents=True, exist_ok=True)
    made = {}
    for name, count in (("train", 7), ("test", 3), ("extra", 2)):
        images, labels = pixels(count, 32), [(i + 9) % 10 for i in range(count)]
        stored = np.array([[label or 10] for label in labels], dtype=np.uint8)  # the digit 0 is 10
        savemat(root / f"{name}_32x32.mat", {"X": images.transpose(2, 3, 1, 0), "y": stored})
        made[name] = (images, labels)
    return made


def make_stl10(root: Path) -> dict[str, Any]:
    folder = root / "stl10_binary"
    folder.mkdir(parents=True)
    made = {}
    for name, count in (("train", 5), ("test", 2), ("unlabeled", 4)):
        images, labels = pixels(count, 96), [(i + 3) % 10 for i in range(count)]
        images.transpose(0, 1, 3, 2).tofile(folder / f"{name}_X.bin")
        if name != "unlabeled":
            (np.array(labels, dtype=np.uint8) + 1).tofile(folder / f"{name}_y.bin")
        made[name] = (images, labels)
    return made


def make_celeba(root: Path, *, packed: bool = False) -> None:
    names = [f"{i:06}.jpg" for i in range(1, 11)]
    for name in names:
        jpeg(root / "celeba/img_align_celeba" / name, (22, 30))
    parts = "0000001222"
    folder = root / "celeba"
    (folder / "list_eval_partition.txt").write_text("".join(f"{n} {p}\n" for n, p in zip(names, parts, strict=True)))
    rows = "".join(f"{name}  {1 if i % 2 else -1}  {-1}\n" for i, name in enumerate(names))
    (folder / "list_attr_celeba.txt").write_text(f"{len(names)}\nSmiling Wearing_Hat \n{rows}")
    if packed:
        with zipfile.ZipFile(folder / "img_align_celeba.zip", "w") as archive:
            for name in names:
                archive.write(folder / "img_align_celeba" / name, f"img_align_celeba/{name}")
                (folder / "img_align_celeba" / name).unlink()
        (folder / "img_align_celeba").rmdir()


def make_flowers102(root: Path) -> None:
    folder = root / "flowers-102"
    for number in range(1, 11):
        jpeg(folder / f"jpg/image_{number:05d}.jpg")
    savemat(folder / "imagelabels.mat", {"labels": np.arange(10, 0, -1)[None]})
    splits = {"trnid": [[1, 5, 9, 2]], "valid": [[3, 4]], "tstid": [[6, 7, 8]]}
    savemat(folder / "setid.mat", {name: np.array(ids) for name, ids in splits.items()})


def make_food101(root: Path) -> None:
    folder = root / "food-101"
    lists: dict[str, dict[str, list[str]]] = {"train": {}, "test": {}}
    for label in ("waffles", "apple_pie"):
        for i in range(4):
            jpeg(folder / f"images/{label}/{i}.jpg")
            lists["test" if i == 3 else "train"].setdefault(label, []).append(f"{label}/{i}")
    (folder / "meta").mkdir()
    for name, stated in lists.items():
        (folder / f"meta/{name}.json").write_text(json.dumps(stated))


def make_imagenet(root: Path) -> None:
    for wnid in ("n01443537", "n01440764"):
        for i in range(3):
            jpeg(root / f"train/{wnid}/{wnid}_{i}.JPEG")
        jpeg(root / f"val/{wnid}/ILSVRC2012_val_0000000{i}.JPEG")
    jpeg(root / "test/ILSVRC2012_test_00000001.JPEG")


MAKE: dict[str, Callable[[Path], Any]] = {name: globals()[f"make_{name}"] for name in (*ARRAYS, *FILES)}


def dataset(name: str, **options: Any) -> Dataset:
    given = {"verify": False, **options} if name in ARRAYS else options
    made: Dataset = create("datasets", PluginRef(name, given))
    return made


def load(name: str, root: Path, tmp_path: Path, **options: Any) -> LoadedDataset:
    location = DataLocation(root, tmp_path / "cache")
    made = dataset(name, **options)
    data = made.load(location)
    assert made.info(location) == data.info
    assert (data.info.num_train, data.info.num_heldout) == (len(data.train), len(data.heldout))
    return data


def everything(split: Any) -> torch.Tensor:
    images: torch.Tensor = split.images(torch.arange(len(split)))
    return images


def labels(split: Any) -> list[int]:
    found: list[int] = split.labels(torch.arange(len(split))).tolist()
    return found


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_are_read_in_place_with_the_official_splits(name: str, tmp_path: Path) -> None:
    made = MAKE[name](tmp_path / "data")
    data = load(name, tmp_path / "data", tmp_path)
    for split, part in ((data.train, "train"), (data.heldout, "test")):
        assert everything(split).numpy().tolist() == made[part][0].tolist()
        assert labels(split) == made[part][1]
    assert not (tmp_path / "cache").exists()
    again = load(name, tmp_path / "data", tmp_path)
    assert again.content_hash == data.content_hash


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("lazy", [True, False])
def test_arrays_are_resized_as_files_are(
    name: str, lazy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = MAKE[name](tmp_path / "data")
    if lazy:
        monkeypatch.setattr(resizing, "MAX_DECODED_BYTES", 0)
    data = load(name, tmp_path / "data", tmp_path, image_size=12, mode="grey")
    stream = io.BytesIO()
    Image.fromarray(made["train"][0][1].transpose(1, 2, 0)).save(stream, "PNG")
    assert data.train.images(torch.tensor([1]))[0].tolist() == decode(stream, size=12, channels=1).tolist()
    assert data.info.channels == 1


def test_options_choose_labels_and_images(tmp_path: Path) -> None:
    for name in ARRAYS:
        MAKE[name](tmp_path)
    coarse = load("cifar100", tmp_path, tmp_path, labels="coarse")
    assert len(coarse.info.classes) == 20
    assert labels(coarse.train) == list(range(7))
    assert len(load("svhn", tmp_path, tmp_path, extra=True).train) == 9
    assert len(load("stl10", tmp_path, tmp_path, train_on="unlabeled").train) == 4
    both = load("stl10", tmp_path, tmp_path, train_on="all")
    assert (len(both.train), both.info.classes, both.train.labels(torch.arange(2))) == (9, (), None)


@pytest.mark.parametrize("name", ARRAYS)
def test_files_that_are_not_as_published_are_refused(name: str, tmp_path: Path) -> None:
    MAKE[name](tmp_path)
    with pytest.raises(DataError, match=r"are not as published \(MD5 differs\).*verify=false"):
        load(name, tmp_path, tmp_path, verify=True)


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2 + 7], lambda data: b"", lambda data: b"text" * 99]
)
def test_damaged_arrays_are_refused(name: str, damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    MAKE[name](tmp_path)
    file = {"cifar100": "cifar-100-python/test", "svhn": "test_32x32.mat", "stl10": "stl10_binary/test_X.bin"}[name]
    (tmp_path / file).write_bytes(damage((tmp_path / file).read_bytes()))
    with pytest.raises(DataError, match=r"(cannot be read|is no number of images|labels)"):
        load(name, tmp_path, tmp_path)


@pytest.mark.parametrize("name", ARRAYS)
def test_an_incomplete_set_names_what_is_missing(name: str, tmp_path: Path) -> None:
    MAKE[name](tmp_path)
    file = {"cifar100": "cifar-100-python/test", "svhn": "test_32x32.mat", "stl10": "stl10_binary/test_y.bin"}[name]
    (tmp_path / file).unlink()
    with pytest.raises(DataError, match=f"lacks {Path(file).name} of"):
        dataset(name).load(DataLocation(tmp_path, tmp_path / "cache"))


def test_a_pickle_runs_no_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "ran"),)

    MAKE["cifar100"](tmp_path)
    (tmp_path / "cifar-100-python/train").write_bytes(pickle.dumps({"data": Evil()}, protocol=2))
    with pytest.raises(DataError, match=r"it names (posix|nt)\.mkdir, which no file of this set does"):
        load("cifar100", tmp_path, tmp_path)
    assert not (tmp_path / "ran").exists()


def test_labels_out_of_range_are_refused(tmp_path: Path) -> None:
    MAKE["stl10"](tmp_path)
    np.array([1, 2, 3, 4, 0], dtype=np.uint8).tofile(tmp_path / "stl10_binary/train_y.bin")
    with pytest.raises(DataError, match="a train label is class -1; STL-10 has 10 classes"):
        load("stl10", tmp_path, tmp_path)


# ---------------------------------------------------------------- image files


EXPECTED: dict[str, tuple[int, int, tuple[str, ...], list[int]]] = {
    "food101": (6, 2, ("apple_pie", "waffles"), [0, 0, 0, 1, 1, 1]),
    "imagenet": (6, 2, ("n01440764", "n01443537"), [0, 0, 0, 1, 1, 1]),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_files_are_read_in_place_with_the_official_splits(name: str, tmp_path: Path) -> None:
    MAKE[name](tmp_path / "data")
    num_train, num_heldout, classes, expected = EXPECTED[name]
    data = load(name, tmp_path / "data", tmp_path, image_size=16)
    assert (len(data.train), len(data.heldout), data.info.classes) == (num_train, num_heldout, classes)
    assert labels(data.train) == expected
    assert data.info.class_counts == (3, 3)
    assert everything(data.train).shape == (6, 3, 16, 16)


def test_flowers_have_the_classes_and_splits_of_their_lists(tmp_path: Path) -> None:
    MAKE["flowers102"](tmp_path)
    data = load("flowers102", tmp_path, tmp_path)
    assert labels(data.train) == [9, 8, 5, 1]  # of the images 1, 2, 5 and 9
    assert labels(data.heldout) == [4, 3, 2]
    assert (data.info.classes[0], data.info.classes[-1], data.info.image_size) == (
        "pink primrose",
        "blackberry lily",
        64,
    )
    assert len(load("flowers102", tmp_path, tmp_path, train_on="train+val").train) == 6


@pytest.mark.parametrize("packed", [True, False])
def test_celeba_has_an_attribute_for_classes_if_asked(packed: bool, tmp_path: Path) -> None:
    make_celeba(tmp_path, packed=packed)
    data = load("celeba", tmp_path, tmp_path, image_size=16)
    assert (len(data.train), len(data.heldout), data.info.classes) == (6, 3, ())
    smiling = load("celeba", tmp_path, tmp_path, image_size=16, attribute="Smiling", train_on="train+val")
    assert smiling.info.classes == ("not Smiling", "Smiling")
    assert labels(smiling.train) == [0, 1, 0, 1, 0, 1, 0]
    assert smiling.content_hash != data.content_hash
    with pytest.raises(UsageError, match=r"no attribute 'Smile'\. Known: Smiling, Wearing_Hat"):
        load("celeba", tmp_path, tmp_path, attribute="Smile")


@pytest.mark.parametrize("name", FILES)
def test_what_does_not_fit_into_memory_is_decoded_when_it_is_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    MAKE[name](tmp_path)
    held = load(name, tmp_path, tmp_path / "held", image_size=8)
    monkeypatch.setattr(decoded_images, "MAX_DECODED_BYTES", 0)
    data = load(name, tmp_path, tmp_path / "read", image_size=8)
    assert type(data.train) is not type(held.train)
    assert everything(data.train).equal(everything(held.train))
    assert not list((tmp_path / "read").rglob("*.npy"))


def test_a_file_of_a_large_set_that_changes_while_it_is_used_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoded_images, "MAX_DECODED_BYTES", 0)
    make_imagenet(tmp_path)
    data = load("imagenet", tmp_path, tmp_path)
    jpeg(tmp_path / "train/n01440764/n01440764_1.JPEG", (32, 32))
    with pytest.raises(DataError, match=r"train/n01440764/n01440764_1.JPEG has changed while it was in use"):
        everything(data.train)


@pytest.mark.parametrize(
    "name, gone, message",
    [
        ("celeba", "celeba/list_eval_partition.txt", "lacks list_eval_partition.txt of CelebA"),
        ("celeba", "celeba/img_align_celeba/000003.jpg", "lacks 1 of 9 images of CelebA, first 000003.jpg"),
        ("flowers102", "flowers-102/imagelabels.mat", "lacks imagelabels.mat of Flowers102"),
        ("flowers102", "flowers-102/jpg/image_00006.jpg", "lacks 1 of 7 images"),
        ("food101", "food-101/meta/test.json", "lacks test.json of Food-101"),
        ("food101", "food-101/images/waffles/3.jpg", "lacks 1 of 8 images of Food-101, first waffles/3.jpg"),
    ],
)
def test_what_is_missing_of_files_is_named(name: str, gone: str, message: str, tmp_path: Path) -> None:
    MAKE[name](tmp_path)
    (tmp_path / gone).unlink()
    with pytest.raises(DataError, match=message):
        dataset(name).load(DataLocation(tmp_path, tmp_path / "cache"))


@pytest.mark.parametrize(
    "name, file, content",
    [
        ("celeba", "celeba/list_eval_partition.txt", "000001.jpg 7\n"),
        ("celeba", "celeba/list_attr_celeba.txt", "1\nSmiling\n000001.jpg 1 1\n"),
        ("celeba", "celeba/list_attr_celeba.txt", ""),
        ("flowers102", "flowers-102/setid.mat", "text"),
        ("food101", "food-101/meta/train.json", "[1"),
        ("food101", "food-101/meta/train.json", "[1]"),
    ],
)
def test_lists_of_another_form_are_refused(name: str, file: str, content: str, tmp_path: Path) -> None:
    MAKE[name](tmp_path)
    (tmp_path / file).write_text(content)
    options = {"attribute": "Smiling"} if name == "celeba" else {}
    with pytest.raises(DataError, match=r"cannot be read as a list of|is not a list of names"):
        load(name, tmp_path, tmp_path, **options)


def test_imagenet_says_how_to_arrange_its_images(tmp_path: Path) -> None:
    make_imagenet(tmp_path)
    jpeg(tmp_path / "val/ILSVRC2012_val_00000009.JPEG")
    with pytest.raises(DataError, match=r"ILSVRC2012_val_00000009\.JPEG lies in no folder of a class.*ImageNet\('DIR'"):
        load("imagenet", tmp_path, tmp_path)


def test_the_images_are_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_imagenet(tmp_path)
    listed: list[Path] = []
    monkeypatch.setattr(imagenet, "FolderSource", lambda path: listed.append(path) or FolderSource(path))
    made, location = dataset("imagenet"), DataLocation(tmp_path, tmp_path / "cache")
    assert made.info(location) == made.load(location).info
    assert sorted(path.name for path in listed) == ["train", "val"]


def test_a_folder_of_the_sets_name_comes_before_what_else_lies_there(tmp_path: Path) -> None:
    make_imagenet(tmp_path / "imagenet")
    jpeg(tmp_path / "train/cat/1.jpg")
    assert len(load("imagenet", tmp_path, tmp_path).train) == 6


def test_an_unreadable_image_is_left_out_when_asked(tmp_path: Path) -> None:
    make_food101(tmp_path)
    (tmp_path / "food-101/images/waffles/1.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"waffles/1\.jpg.*skip_unreadable=true"):
        load("food101", tmp_path, tmp_path)
    data = dataset("food101", skip_unreadable=True).load(DataLocation(tmp_path, tmp_path / "cache"))
    assert (len(data.train), data.info.class_counts) == (5, (3, 2))


def test_a_folder_of_images_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_imagenet(tmp_path)
    listed = os.scandir

    def denied(path: str) -> Any:
        if str(path).rstrip("/").endswith("train/n01443537"):
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(
        DataError, match=r"the folder train/n01443537/ cannot be read \(Permission denied\).*skip_unreadable"
    ):
        load("imagenet", tmp_path, tmp_path)


def test_an_archive_writes_nothing_but_the_files_of_its_set(tmp_path: Path) -> None:
    made, archive = make_cifar100(tmp_path / "made"), tmp_path / "data" / "cifar-100-python.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as packed:
        for name in ("train", "test"):
            packed.add(tmp_path / "made/cifar-100-python" / name, f"./cifar-100-python/{name}")
        for name in ("../../evil", "cifar-100-python/../../../evil", f"{tmp_path}/evil", "cifar-100-python/other"):
            packed.addfile(tarfile.TarInfo(name))
    data = load("cifar100", archive.parent, tmp_path)
    assert len(data.train) == len(made["train"][1])
    assert not list(tmp_path.rglob("evil"))
    assert not list(tmp_path.rglob("other"))
    content = archive.read_bytes()
    for damaged in (content[:-200], b"no tar", content[:200] + b"x" * 200 + content[400:]):
        archive.write_bytes(damaged)
        with pytest.raises(DataError, match=r"cifar-100-python.tar.gz cannot be unpacked|lacks|cannot be read"):
            load("cifar100", archive.parent, tmp_path / "other")


# ---------------------------------------------------------------- found nowhere


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise URLError("no route to host")

    for module in (published.cifar, published.svhn, published.stl10, published.flowers102, published.food101):
        for function in ("download_and_extract_archive", "download_url"):
            if hasattr(module, function):
                monkeypatch.setattr(module, function, refuse)
    monkeypatch.setattr(published.celeba, "download_file_from_google_drive", refuse)


@pytest.mark.parametrize("name", [*ARRAYS, *FILES])
def test_what_cannot_be_downloaded_says_which_files_belong_where(name: str, tmp_path: Path, no_network: None) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError) as caught:
        dataset(name).load(DataLocation(tmp_path / "data", tmp_path / "cache"))
    message = str(caught.value)
    file = {
        "cifar100": "train, test",
        "svhn": "train_32x32.mat, test_32x32.mat",
        "stl10": "train_X.bin, train_y.bin",
        "celeba": "list_eval_partition.txt",
        "flowers102": "imagelabels.mat",
        "food101": "meta/train.json",
        "imagenet": "train/WNID/*.JPEG",
    }[name]
    for expected in (file, "Published at: http", "DEBIASCTL_DATA", f"Looked in: {tmp_path / 'data'}"):
        assert expected in message
    assert ("no route to host" in message) == (name != "imagenet")
    assert not (tmp_path / "cache" / "datasets" / name).exists()


@pytest.mark.parametrize("name", [*ARRAYS, *FILES[:-1]])
def test_facts_are_known_without_files(name: str, tmp_path: Path) -> None:
    known = {
        "cifar100": (50_000, 10_000, 100),
        "svhn": (73_257, 26_032, 10),
        "stl10": (5_000, 8_000, 10),
        "celeba": (162_770, 19_962, 0),
        "flowers102": (1_020, 6_149, 102),
        "food101": (75_750, 25_250, 101),
    }
    info = (
        dataset(name, verify=True).info(DataLocation(None, tmp_path))
        if name in ARRAYS
        else dataset(name).info(DataLocation(None, tmp_path))
    )
    assert (info.num_train, info.num_heldout, len(set(info.classes))) == known[name]


def test_an_archive_that_is_not_unpacked_is_pointed_to(tmp_path: Path) -> None:
    (tmp_path / "food-101.tar.gz").write_bytes(b"")
    with pytest.raises(
        DataError, match=rf"is read once it is unpacked: tar -xf {tmp_path}/food-101.tar.gz -C {tmp_path}"
    ):
        dataset("food101").load(DataLocation(tmp_path, tmp_path / "cache"))


@pytest.mark.parametrize("name", [*ARRAYS, *FILES])
def test_they_train_by_their_names(name: str, tmp_path: Path) -> None:
    MAKE[name](tmp_path)
    reference = f"{name}:verify=false" if name in ARRAYS else name
    out = succeed(
        "train", reference, "--data-dir", str(tmp_path), "--image-size", "8", *OPTIONS, "--dry-run", "--json"
    ).out
    planned = json.loads(out)
    assert planned["data"]["image_size"] == 8
    assert planned["spec"]["data"]["horizontal_flip"] is (name != "svhn")


def test_a_missing_set_fails_with_code_1(tmp_path: Path) -> None:
    assert "ImageNet is not on this machine" in error_of("train", "imagenet", "--data-dir", str(tmp_path), code=1)
