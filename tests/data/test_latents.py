"""Encoding a data set once, and the files that keep its latents."""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from debiasctl.api import ArraySplit, DatasetInfo, LoadedDataset
from debiasctl.data import latent_cache, latents
from debiasctl.data.latents import EncodedImages, LatentSplit, encode_images, mirrored_of, with_mirrored
from debiasctl.errors import DataError, DebiasctlError
from debiasctl.training.batches import BatchSource


def some_data(num: int = 10) -> LoadedDataset:
    images = torch.randint(0, 256, (num, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    split = ArraySplit(images, torch.arange(num) % 2)
    return LoadedDataset(
        DatasetInfo(4, 1, ("a", "b"), num, num), split, ArraySplit(images[:3], torch.zeros(3).long()), "h"
    )


class Encoder:
    """Rows of an image as channels, times 3, plus 1; it counts the images, and may fail at one."""

    def __init__(self, *, fail_at: int | None = None) -> None:
        self.seen, self.fail_at = 0, fail_at

    def __call__(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        if self.fail_at is not None and self.seen > self.fail_at:
            raise KeyboardInterrupt
        return images.reshape(len(images), 4, 2, 2) * 3 + 1


@pytest.fixture
def encoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., EncodedImages]:
    monkeypatch.setattr(latent_cache, "_BLOCK", 4)

    def encode(encoder: Encoder, **changes: Any) -> EncodedImages:
        how: dict[str, Any] = {
            "shape": (4, 2, 2),
            "autoencoder": "sum",
            "maker": "pca",
            "mirrored": False,
            "cache_dir": tmp_path,
        }
        return encode_images(some_data(), encoder, **how | changes)

    return encode


def test_latents_are_encoded_once_for_each_autoencoder(encoded: Callable[..., EncodedImages]) -> None:
    first, second, other = Encoder(), Encoder(), Encoder()
    encoded(first)
    encoded(second)
    encoded(other, autoencoder="another")
    assert (first.seen, second.seen, other.seen) == (13, 0, 13)


def test_an_interrupted_encoding_is_resumed(encoded: Callable[..., EncodedImages], tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        encoded(Encoder(fail_at=9))  # in the third block
    again = Encoder()
    assert np.array_equal(encoded(again).train, encoded(Encoder(), cache_dir=tmp_path / "other").train)
    assert again.seen == 2 + 3


def test_a_damaged_rest_of_an_encoding_is_not_used(encoded: Callable[..., EncodedImages], tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        encoded(Encoder(fail_at=9))
    (path,) = tmp_path.glob("latents/*/.train.partial/latents.f32")
    data = bytearray(path.read_bytes())
    data[-10 * 64 + 4 * 64] ^= 1  # in the second block
    path.write_bytes(data)
    again = Encoder()
    assert np.array_equal(encoded(again).train, encoded(Encoder(), cache_dir=tmp_path / "other").train)
    assert again.seen == 6 + 3


def test_a_full_disk_is_reported_and_what_fitted_is_kept(
    encoded: Callable[..., EncodedImages], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mapped file would end the process instead, when a page of it finds no room."""
    mapped = np.memmap

    def only_to_read(*arguments: Any, mode: str, **options: Any) -> Any:
        assert mode == "r"
        return mapped(*arguments, mode=mode, **options)

    monkeypatch.setattr(np, "memmap", only_to_read)
    full = Encoder()

    def until_it_is_full(images: Tensor) -> Tensor:
        found = full(images)
        if full.seen > 8:
            raise OSError(errno.ENOSPC, "full")
        return found

    with pytest.raises(DebiasctlError, match=r"cannot write .*/train: the disk is full. Free some space"):
        encoded(until_it_is_full)
    again = Encoder()
    assert encoded(again).train.shape == (10, 4, 2, 2)
    assert again.seen == 2 + 3


@pytest.mark.parametrize("file", ["latents.f32", "manifest.json"])
def test_damaged_latents_are_noticed_and_made_again(
    file: str, encoded: Callable[..., EncodedImages], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = encoded(Encoder()).train
    (path,) = tmp_path.glob(f"latents/*/train/{file}")
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    again = Encoder()
    assert np.array_equal(encoded(again).train, before)
    assert again.seen == 10
    assert "are damaged" in caplog.text


def test_a_latent_that_is_not_finite_is_refused_by_its_number(encoded: Callable[..., EncodedImages]) -> None:
    def broken(images: Tensor) -> Tensor:
        found = images.reshape(len(images), 4, 2, 2).clone()
        found[2:] = torch.nan
        return found

    with pytest.raises(DataError, match="pca makes NaN or infinity of image 2"):
        encoded(broken)


@pytest.mark.parametrize("mapped", [False, True])
def test_training_reads_standardised_latents_and_those_of_mirrored_images(
    mapped: bool, encoded: Callable[..., EncodedImages], monkeypatch: pytest.MonkeyPatch
) -> None:
    if mapped:
        monkeypatch.setattr(latent_cache, "IN_MEMORY", 0)
        monkeypatch.setattr(latents, "IN_MEMORY", 0)
    found = encoded(Encoder(), mirrored=True)
    data = found.scaled(found.measured_scale())
    assert isinstance(data.train, LatentSplit) == mapped
    everything = data.train.images(torch.arange(10))
    torch.testing.assert_close(everything.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-6, rtol=0)
    torch.testing.assert_close(everything.std(dim=(0, 2, 3), correction=0), torch.ones(4), atol=1e-6, rtol=1e-6)
    mirrored = mirrored_of(data.train)
    assert mirrored is not None
    assert not torch.equal(mirrored.images(torch.arange(10)), everything.flip(-1))  # which is another image's
    both = with_mirrored(data.train)
    assert torch.equal(
        both.images(torch.tensor([13, 2])), torch.stack([mirrored.images(torch.tensor([3]))[0], everything[2]])
    )
    assert both.labels(torch.tensor([13])).tolist() == [1]
    how: dict[str, Any] = {"seed": 0, "batch_size": 10, "conditional": True, "device": torch.device("cpu")}
    with BatchSource(data.train, horizontal_flip=True, **how) as source:
        indices, flips, batch = source.indices(0), source._flips(0), source(0)
    assert flips is not None
    assert 0 < int(flips.sum()) < 10
    wanted = torch.where(flips[:, None, None, None], mirrored.images(indices), everything[indices])
    assert torch.equal(batch.x0, wanted)


def test_a_channel_without_variance_is_not_divided_by_it(encoded: Callable[..., EncodedImages]) -> None:
    scale = encoded(lambda images: torch.full((len(images), 4, 2, 2), 5.0)).measured_scale()
    assert (scale.shift, scale.scale) == ((5.0,) * 4, (1.0,) * 4)


def test_what_is_kept_states_its_checksum(encoded: Callable[..., EncodedImages], tmp_path: Path) -> None:
    encoded(Encoder())
    (path,) = tmp_path.glob("latents/*/heldout/manifest.json")
    assert len(json.loads(path.read_text())["sha256"]) == 64
