"""`debiasctl train` on a folder: the size of its images, hints that run, and what is said of the images."""

import json
import os
import shlex
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import OPTIONS, debiasctl, error_of, succeed

from debiasctl.api import DatasetInfo
from debiasctl.cli.dataset import announce_images, describe_images
from debiasctl.specs.recorded import ContentSection


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """24 images of 20x20 to 31x20 pixels in two classes."""
    root, generator = tmp_path / "my photos", np.random.default_rng(0)
    for i in range(24):
        path = root / ("cat", "dog")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (20, 20 + i // 2, 3), dtype=np.uint8)).save(path)
    return root


@pytest.fixture(autouse=True)
def _unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long a large network's step takes is none of the claims here."""
    monkeypatch.setattr("debiasctl.training.speed.seconds_per_step", lambda *args, **more: 0.1)


def planned(*arguments: str | Path) -> dict[str, object]:
    spec = json.loads(succeed("train", *arguments, "--dry-run", "--json").out)
    return dict(spec["spec"]["data"]["dataset"]["options"])


@pytest.mark.parametrize(
    "size",
    [
        ["--image-size", "16"],
        ["--set", "data.dataset.image_size=16"],
        ["--set", "data.dataset.options.image_size=16"],
        ["--image-size", "16", "--set", "data.dataset.image_size=16"],
        ["--set", "data.dataset.image_size=32", "--image-size", "16"],
    ],
)
def test_the_size_of_the_images(size: list[str], photos: Path, tmp_path: Path) -> None:
    assert planned(photos, *size)["image_size"] == 16
    assert planned(f'folder:path="{photos}"', *size)["image_size"] == 16
    (tmp_path / "spec.json").write_text(json.dumps({"data": {"dataset": {"name": "folder", "path": str(photos)}}}))
    assert planned("--spec", tmp_path / "spec.json", *size)["image_size"] == 16


def test_a_size_that_is_given_twice_or_has_no_effect(photos: Path) -> None:
    reference = f'folder:path="{photos}",image_size=32'
    assert planned(reference, "--image-size", "32")["image_size"] == 32
    assert "is given image_size=16 and" in error_of("train", reference, "--image-size", "16", "--dry-run", code=2)
    message = error_of("train", "digits", "--image-size", "16", "--dry-run", code=2)
    assert "--image-size: data set 'digits' has no option image_size" in message
    message = error_of("train", "photo-patches", "--image-size", "16", "--dry-run", code=2)
    assert "Did you mean 'size'?" in message
    assert "is empty" in error_of("train", "", "--dry-run", code=2)
    for text in ("data.dataset.bogus=7", "data.dataset.image_size=7", "data.dataset.version=7"):
        assert "unknown option" in error_of("train", "digits", "--set", text, "--dry-run", code=2)


def test_a_network_that_does_not_fit_names_a_size_that_does(photos: Path) -> None:
    given = ["train", photos, "--image-size", "50", "--dry-run", "--backbone"]
    for backbone, size in (("dit:patch_size=4", "48"), ("unet:channels=32,channel_mult=[1,2,2]", "48")):
        refused = error_of(*given, backbone, code=2)
        assert f"Or resize the images: --image-size {size}" in refused
        assert "50" not in shlex.split(refused.strip().splitlines()[-1])  # the size takes the place of the one given
        succeed(*given, backbone, "--image-size", size)
    odd = error_of("train", photos, "--image-size", "512", "--dry-run", "--backbone", "dit:patch_size=7", code=2)
    assert "Or resize the images: --image-size 504" in odd  # rounder than 511
    # the sizes differ, and the size that would suit the images does not suit the network
    message = error_of("train", photos, "--dry-run", "--backbone", "dit:patch_size=3", code=2)
    assert message.count("Also: ") == 1
    command = shlex.split(message.strip().splitlines()[-1])
    assert command[-2:] == ["--image-size", "15"]
    assert "3x15x15" in succeed(*command[1:]).out
    conflict = error_of("train", f'folder:path="{photos}",image_size=50', *given[4:], "dit:patch_size=4", code=2)
    assert "patch_size 4 does not divide" in conflict
    assert "would run" not in conflict
    refused = error_of("train", "digits", "--backbone", "dit:patch_size=3", "--dry-run", code=2)
    assert "image-size" not in refused


def test_the_command_that_a_refusal_shows_runs(photos: Path) -> None:
    (photos / "cat" / "0.png").write_bytes(b"")
    (photos / "dog" / "gone.png").symlink_to("nowhere")
    photos = photos.rename(photos.with_name("my photos"))  # a name that the shell would take for two
    message = error_of("train", photos, *OPTIONS, "--steps", "1", "--name", "a", code=1)
    assert "2 of 25 images" in message
    assert "different sizes" in message
    head, _, command = message.strip().rpartition("\n")
    assert head.endswith("This would run:")
    words = shlex.split(command)
    assert words[:3] == ["debiasctl", "train", str(photos)]
    assert words[-4:] == ["--set", "data.dataset.skip_unreadable=true", "--image-size", "16"]
    outcome = succeed(*words[1:])
    assert "data: 19 training and 4 held-out images, 3x16x16" in outcome.err
    assert "2 classes (cat " in outcome.err


def test_storage_is_asked_about_with_both_commands(tmp_path: Path) -> None:
    for i in range(12):
        path = tmp_path / "set" / f"{i // 4:05}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), i).save(path)
    message = error_of("train", tmp_path / "set", "--dry-run", code=2)
    commands = message.strip().splitlines()[-2:]
    for command, classes in zip(commands, ("no classes", "3 classes (00000 "), strict=True):
        assert classes in succeed(*shlex.split(command)[1:]).out


def test_many_classes_are_told_by_their_range() -> None:
    def info(*counts: int) -> DatasetInfo:
        names = tuple(f"c{i}" for i in range(len(counts)))
        return DatasetInfo(8, 3, names, sum(counts), 1000, class_counts=counts)

    assert describe_images(info(3, 4)) == "7 training and 1,000 held-out images, 3x8x8, 2 classes (c0 3, c1 4)"
    assert describe_images(info(*range(1000, 1010))).endswith("10 classes (1,000 to 1,009 training images)")
    assert describe_images(info(*[5] * 10)).endswith("10 classes (5 training images each)")
    assert describe_images(info()).endswith("no classes")
    hostile = DatasetInfo(8, 3, ("\x1b[2J" + "x" * 300,), 4, 2, class_counts=(4,))
    assert "\x1b" not in describe_images(hostile)
    assert len(describe_images(hostile)) < 120


def test_classes_without_a_training_image_are_noted(capsys: pytest.CaptureFixture[str]) -> None:
    content = ContentSection(
        image_size=8, channels=1, classes=("a", "b", "c"), class_counts=(0, 4, 0), num_train=4, num_heldout=1,
        content_hash="x",
    )  # fmt: skip
    announce_images(content, conditional=True)
    assert "no training image shows a, c, so" in capsys.readouterr().err
    announce_images(content, conditional=False)
    assert "no training image" not in capsys.readouterr().err


def test_what_libraries_warn_of_is_a_note_without_a_path(tmp_path: Path) -> None:
    image = Image.new("P", (8, 8))
    image.putpalette([0, 0, 0, 255, 0, 0])
    (tmp_path / "set").mkdir()
    for i in range(4):
        image.save(tmp_path / "set" / f"{i}.png", transparency=bytes([0, 128]))
    corrupt = Image.new("RGB", (8, 8))
    corrupt.save(tmp_path / "set" / "4.jpg")
    data = (tmp_path / "set" / "4.jpg").read_bytes()
    exif = b"\xff\xe1\x00\x10Exif\x00\x00II*\x00\xff\xff\xff\x7f"
    (tmp_path / "set" / "4.jpg").write_bytes(data[:2] + exif + data[2:])
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        outcome = debiasctl("train", tmp_path / "set", *OPTIONS, "--steps", "1")
    assert outcome.code == 0, outcome.err
    assert "note: Corrupt EXIF data" in outcome.err
    assert "PIL/" not in outcome.err
    assert "warnings.warn" not in outcome.err


def test_a_home_and_a_run_whose_path_is_not_utf8_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strange = tmp_path / os.fsdecode(b"caf\xe9")
    assert "it is not UTF-8, and weights" in error_of("sample", f"{strange}/run", code=2)
    monkeypatch.setenv("DEBIASCTL_HOME", str(strange))
    for command in (["train", "digits", "--dry-run"], ["runs", "list"]):
        assert "which is not UTF-8, and weights cannot be read from there" in error_of(*command, code=2)
