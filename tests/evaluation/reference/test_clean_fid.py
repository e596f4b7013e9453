"""clean-fid's published statistics by name, from the cache or a server of the test's own."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from inception_stub import Stub, trust
from PIL import Image
from tiny import error_of, make_spec, succeed, train

from debiasctl.errors import EvaluationError, UsageError
from debiasctl.evaluation.reference import clean_fid
from debiasctl.evaluation.reference.clean_fid import obtain, parse_statistics
from debiasctl.files import sha256_file

CIFAR = "clean-fid:name=cifar10,resolution=32,split=train"
FILE = "cifar10_clean_train_32.npz"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("server") / "inception.pt"
    torch.jit.script(Stub()).save(str(path))
    return path


@pytest.fixture
def _trusted(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trust(monkeypatch, network)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of 32x32 tiles: `colour`, `real` and `grey`; `large` ones are of 40x40."""
    root = tmp_path_factory.mktemp("images")
    for name, photo, size, mode in (
        ("colour", "flower.jpg", 32, "RGB"),
        ("real", "china.jpg", 32, "RGB"),
        ("grey", "flower.jpg", 32, "L"),
        ("large", "flower.jpg", 40, "RGB"),
    ):
        (root / name).mkdir()
        for number, tile in enumerate(tiles(photo, size)):
            tile.convert(mode).save(root / name / f"{number}.png")
    return root


def tiles(photo: str, size: int) -> Iterator[Image.Image]:
    from sklearn.datasets import load_sample_image

    image = Image.fromarray(load_sample_image(photo))
    for number in range(12):
        yield image.crop((size * number, size, size * number + size, 2 * size))


def put(home: Path, name: str = FILE, *, dimension: int = 2048) -> Path:
    """Statistics in the cache, as clean-fid publishes them: a mean and a covariance, and nothing else."""
    path = home / "cache" / "clean-fid" / name
    path.parent.mkdir(parents=True)
    np.savez_compressed(path, mu=np.zeros(dimension), sigma=np.eye(dimension))
    return path


def evaluate(samples: Path, *arguments: str | Path) -> dict:
    (record,) = json.loads(succeed("evaluate", "--samples", samples, *arguments, "--json").out)["evaluations"]
    return record


def refused(samples: Path, *arguments: str | Path, code: int) -> str:
    return error_of("evaluate", "--samples", samples, *arguments, code=code)


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    "text",
    [
        CIFAR,
        "clean-fid:name=cifar10,resolution=32,split=test,mode=legacy_tensorflow",
        "clean-fid:name=ffhq,resolution=1024,split=trainval70k",
        "clean-fid:name=lsun_church,resolution=256,split=trainfull",
        "clean-fid:name=lsun_cat,resolution=256,split=trainfull,mode=legacy_tensorflow",
    ],
)
def test_a_file_is_named_and_found_as_clean_fid_does(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import cleanfid.features

    asked: list[str] = []

    def remember(local_folder: str, url: str) -> str:
        asked.append(url)
        raise InterruptedError

    monkeypatch.setattr(cleanfid.features, "check_download_url", remember)
    found = parse_statistics(text)
    with pytest.raises(InterruptedError):
        cleanfid.features.get_reference_statistics(found.name, found.resolution, mode=found.mode, split=found.split)
    (url,) = asked
    assert found.url == url.replace("stats//", "stats/")
    assert found.file_name == Path(url).name


@pytest.mark.parametrize(
    "text, message",
    [
        ("clean-fid", "option 'name' is required; option 'resolution' is required; option 'split' is required"),
        ("clean-fid:", "'clean-fid:' ends in ':' with no options. Write clean-fid:name=cifar10,resolution=32,"),
        ("clean-fid:nosuch", "'clean-fid:nosuch': 'nosuch' has no '='. Write clean-fid:name=cifar10,resolution=32,"),
        (
            "clean-fid:nam=cifar10",
            "'clean-fid:nam=cifar10': unknown option 'nam'. Did you mean 'name'? Write clean-fid",
        ),
        ("clean-fid:name=nosuch", "'clean-fid:name=nosuch': no statistics of 'nosuch' are published. Write clean-fid"),
        ("clean-fid:name=cifar10", "option 'resolution' is required; option 'split' is required. Write clean-fid"),
        (f"{CIFAR},mod=clean", "unknown option 'mod'. Did you mean 'mode'?"),
        (f"{CIFAR},mode=dirty", "mode: input should be 'clean'"),
        ("clean-fid:name=cifar10,resolution=big,split=train", "resolution: input should be a valid integer"),
        ("clean-fid:name=cifar,resolution=32,split=train", "of 'cifar' are published. Did you mean 'cifar10'?"),
        ("clean-fid:name=../../x,resolution=32,split=train", "no statistics of '../../x' are published"),
        ("clean-fid:name=cifar10,resolution=64,split=train", "of cifar10's split 'train' at 64 pixels are published"),
        ("clean-fid:name=ffhq,resolution=256,split=train", "no statistics of ffhq's split 'train' at 256 pixels"),
    ],
)
def test_what_is_not_published_is_refused_and_the_rest_listed(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        parse_statistics(text)
    assert message in str(caught.value)
    assert "cifar10 32 train or test; ffhq 256 or 1024 trainval or trainval70k; lsun_church" in str(caught.value)
    assert ".." not in str(caught.value).replace(text, "").replace("../../x", "")
    assert message in refused(tmp_path, "--reference", text, code=2)


@pytest.mark.parametrize(
    "text, message",
    [
        (f"{CIFAR},mode=legacy_pytorch", "mode=legacy_pytorch belongs to another network, which no features here use"),
        (
            "clean-fid:name=lsun_horse,resolution=256,split=trainfull,mode=legacy_tensorflow",
            "for lsun_horse's split 'trainfull' only mode=clean is published",
        ),
    ],
)
def test_modes_that_cannot_be_had(text: str, message: str) -> None:
    with pytest.raises(UsageError, match="mode=clean") as caught:
        parse_statistics(text)
    assert message in str(caught.value)


# ---------------------------------------------------------------- files


def serve(folder: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None = None) -> None:
    """A server of the statistics, without a network."""
    folder.mkdir()
    if content is None:
        np.savez(folder / FILE, mu=np.zeros(3), sigma=np.eye(3))
    else:
        (folder / FILE).write_bytes(content)
    monkeypatch.setattr(clean_fid, "_SITE", folder.as_uri())


def test_what_is_missing_is_downloaded_to_the_cache_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(tmp_path / "site", monkeypatch)
    cache = tmp_path / "cache"
    path = obtain(parse_statistics(CIFAR), cache)
    assert path == cache / "clean-fid" / FILE
    assert path.read_bytes() == (tmp_path / "site" / FILE).read_bytes()
    (tmp_path / "site" / FILE).unlink()
    assert obtain(parse_statistics(CIFAR), cache) == path


@pytest.mark.parametrize("content", [b"<html>", b"", "cut", "other"])
def test_a_download_that_is_cut_or_false_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | str
) -> None:
    serve(tmp_path / "site", monkeypatch, None if isinstance(content, str) else content)
    file = tmp_path / "site" / FILE
    if content == "cut":
        file.write_bytes(file.read_bytes()[:-40])
    elif content == "other":
        np.savez(file, mu=np.zeros(3))
    with pytest.raises(EvaluationError, match="cannot be downloaded") as caught:
        obtain(parse_statistics(CIFAR), tmp_path / "cache")
    assert file.as_uri() in str(caught.value)
    assert not list((tmp_path / "cache").rglob("*.npz"))


def test_without_a_network_it_says_what_to_put_where(
    images: Path, debiasctl_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clean_fid, "_SITE", "http://127.0.0.1:9/stats")
    message = refused(images / "colour", "--reference", CIFAR, code=1)
    assert f"clean-fid's statistics {FILE} cannot be downloaded" in message
    assert f"Put the file from http://127.0.0.1:9/stats/{FILE}" in message
    assert f"at {debiasctl_home / 'cache' / 'clean-fid' / FILE}" in message
    assert not list(debiasctl_home.rglob("*.npz"))


def test_a_damaged_file_is_named(images: Path, debiasctl_home: Path) -> None:
    path = put(debiasctl_home)
    path.write_bytes(path.read_bytes()[:-100])
    assert f"{path} cannot be read as an npz" in refused(images / "colour", "--reference", CIFAR, code=1)


# ---------------------------------------------------------------- figures


@pytest.mark.usefixtures("_trusted")
def test_the_figure_is_that_of_the_images_behind_the_statistics(images: Path, debiasctl_home: Path) -> None:
    path = debiasctl_home / "cache" / "clean-fid" / FILE
    chosen = ("--features", "inception", "--metrics", "fid")
    real = evaluate(images / "colour", "--reference", images / "real", *chosen, "--export-reference", path)
    with np.load(path) as archive:
        arrays = {"mu": archive["mu"], "sigma": archive["sigma"]}
    np.savez(path, **arrays)  # as clean-fid's, which say nothing of how they were made
    found = evaluate(images / "colour", "--reference", CIFAR, "--metrics", "fid")
    assert found["metrics"]["fid"]["value"] == pytest.approx(real["metrics"]["fid"]["value"], rel=1e-9)
    assert found["measured"]["features_identity"] == real["measured"]["features_identity"]
    assert (found["measured"]["dataset"], found["measured"]["reference"]) == (FILE, "statistics")
    assert not [text for text in found["notes"] if "does not say how it was made" in text or "pixels a side" in text]
    assert found["measured"]["dataset_hash"] == sha256_file(path)  # as of the file that is named by its path
    large = evaluate(images / "large", "--reference", CIFAR, "--metrics", "fid")
    assert f"the images have 40 pixels a side, and {FILE} is of images of 32" in large["notes"]


def test_a_run_against_statistics_is_measured_in_their_features(debiasctl_home: Path) -> None:
    """And not in those that suit its data, which are grey here, so that it is refused in the end."""
    train("a", make_spec(training__steps=1))
    put(debiasctl_home)
    given = ("evaluate", "a", "--num", "4", "--steps", "2", "--reference", CIFAR)
    assert "in features 'inception' it is 'fid'" in error_of(*given, "--metrics", "fd_local", code=2)
    assert "the images are grey and the reference's RGB" in error_of(*given, "--metrics", "fid", code=1)


@pytest.mark.usefixtures("_trusted")
def test_the_older_mode_is_of_the_network_that_resizes(images: Path, debiasctl_home: Path) -> None:
    put(debiasctl_home, "cifar10_legacy_tensorflow_train_32.npz")
    found = evaluate(images / "colour", "--reference", f"{CIFAR},mode=legacy_tensorflow", "--metrics", "fid")
    assert "legacy-tf" in found["reference"]["feature_details"]["resize"]


@pytest.mark.parametrize(
    "features, mode, way_on",
    [
        ("inception:resize=legacy-tf", "clean", "Use --features inception, or statistics of mode=legacy_tensorflow"),
        (
            "inception",
            "legacy_tensorflow",
            "Use --features inception:resize=legacy-tf, or statistics of mode=clean",
        ),
        ("clip", "clean", "Use --features inception"),
        ("pixels", "clean", "Use --features inception"),
    ],
)
def test_statistics_of_other_features_are_refused(
    images: Path, debiasctl_home: Path, features: str, mode: str, way_on: str
) -> None:
    put(debiasctl_home, f"cifar10_{mode}_train_32.npz")
    given = ("--reference", f"{CIFAR},mode={mode}", "--features", features)
    message = refused(images / "colour", *given, code=2)
    assert f"clean-fid's statistics of mode={mode} were not made with features" in message
    assert message.strip().endswith(way_on)


def test_grey_images_are_not_measured_against_statistics_of_colour(images: Path, debiasctl_home: Path) -> None:
    put(debiasctl_home)
    message = refused(images / "grey", "--reference", CIFAR, code=1)
    assert "the images are grey and the reference's RGB" in message
