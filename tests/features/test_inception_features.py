import dataclasses
import hashlib

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from debiasctl.api import Features
from debiasctl.errors import EvaluationError, UsageError
from debiasctl.evaluation.measure import measure
from debiasctl.features import inception
from debiasctl.features.inception import FILE_NAME, Inception

CPU = torch.device("cpu")


class Stub(nn.Module):
    """In the shape of the real file: `layers` takes normalised 299x299 images and gives 2048 features."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.AdaptiveAvgPool2d(8), nn.Flatten(), nn.Linear(192, 2048))
        generator = torch.Generator().manual_seed(0)
        for parameter in self.layers.parameters():
            nn.init.normal_(parameter, generator=generator)

    def forward(self, x: torch.Tensor, return_features: bool = True) -> torch.Tensor:
        return self.layers(x)


@pytest.fixture(scope="session")
def stub():
    return Stub()


@pytest.fixture(scope="session")
def weights(stub, tmp_path_factory):
    path = tmp_path_factory.mktemp("server") / FILE_NAME
    torch.jit.script(stub).save(str(path))
    return path


@pytest.fixture
def trusted(weights, monkeypatch):
    """The stub takes the place of the file that is downloaded and expected."""
    monkeypatch.setattr(inception, "URL", weights.as_uri())
    monkeypatch.setattr(inception, "SHA256", hashlib.sha256(weights.read_bytes()).hexdigest())


def prepared(data, cache, **options):
    return Inception(Inception.Options(**options)).prepare(data, cache_dir=cache, device=CPU)


def by_hand(stub, images):
    rows = []
    for image in images.expand(-1, 3, -1, -1).numpy():
        channels = [
            np.asarray(Image.fromarray(channel.astype(np.float32)).resize((299, 299), Image.Resampling.BICUBIC))
            for channel in image
        ]
        rows.append(torch.from_numpy((np.stack(channels).clip(0, 255) - 128) / 128))
    with torch.no_grad():
        return stub.layers(torch.stack(rows)).double()


@pytest.mark.usefixtures("trusted")
def test_download_then_features_as_clean_fid_makes_them(digits, photos, stub, weights, tmp_path):
    assert isinstance(Inception(Inception.Options()), Features)
    for data in (digits, photos):
        features = prepared(data, tmp_path)
        images = data.heldout.array[:35]
        found = features(images)
        assert found.dtype == torch.float64
        torch.testing.assert_close(found, by_hand(stub, images), rtol=1e-4, atol=1e-4)
        parts = torch.cat([features(part) for part in torch.split(images, 6)])
        torch.testing.assert_close(parts, found, rtol=0, atol=1e-6 * found.abs().max().item())
    assert (tmp_path / "features" / "inception" / FILE_NAME).read_bytes() == weights.read_bytes()


@pytest.mark.usefixtures("trusted")
def test_figures_are_called_fid_and_kid(digits, tmp_path):
    small = dataclasses.replace(
        digits, train=dataclasses.replace(digits.train, array=digits.train.array[:20]), content_hash="small"
    )
    result = measure(
        digits.heldout.array[:10],
        dataclasses.replace(small, heldout=dataclasses.replace(digits.heldout, array=digits.heldout.array[:10])),
        prepared(small, tmp_path),
        feature_name="inception",
        metrics=["kid"],
        cache_dir=tmp_path,
    )
    assert list(result["metrics"]) == ["kid"]


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("folder", [True, False])
def test_weights_of_the_users_own(digits, weights, tmp_path, folder, monkeypatch):
    monkeypatch.setattr(inception, "URL", "http://127.0.0.1:9/nothing")
    features = prepared(digits, tmp_path, weights=weights.parent if folder else weights)
    assert features.dimension == 2048
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("given", ["missing", f"missing/{FILE_NAME}", "other-name.pt"])
def test_weights_that_are_not_there(digits, tmp_path, given):
    (tmp_path / "other-name.pt").write_bytes(b"weights")
    with pytest.raises(UsageError, match=FILE_NAME):
        prepared(digits, tmp_path, weights=tmp_path / given)


def test_no_network_says_which_file_to_put_where(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(inception, "URL", "http://127.0.0.1:9/inception.pt")
    with pytest.raises(EvaluationError) as caught:
        prepared(digits, tmp_path)
    assert str(tmp_path / "features" / "inception" / FILE_NAME) in str(caught.value)
    assert "http://127.0.0.1:9/inception.pt" in str(caught.value)
    assert caught.value.exit_code == 1
    assert not list(tmp_path.rglob("*.pt"))


def test_a_download_that_is_cut_or_false_leaves_nothing(digits, weights, tmp_path, monkeypatch):
    monkeypatch.setattr(inception, "URL", weights.as_uri())
    with pytest.raises(EvaluationError, match=f"not {inception.SHA256}"):
        prepared(digits, tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


class Dropped:
    def __init__(self):
        self.blocks = [b"first"]

    def read(self, _size):
        if self.blocks:
            return self.blocks.pop()
        raise TimeoutError("timed out")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def test_a_connection_that_drops_leaves_nothing(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(inception.urllib.request, "urlopen", lambda url, timeout: Dropped())
    with pytest.raises(EvaluationError, match="timed out"):
        prepared(digits, tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("own", [True, False])
def test_other_weights_are_refused_and_left_alone(digits, tmp_path, own):
    path = (tmp_path if own else tmp_path / "features" / "inception") / FILE_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"other weights")
    with pytest.raises(EvaluationError) as caught:
        prepared(digits, tmp_path, **({"weights": path} if own else {}))
    assert hashlib.sha256(b"other weights").hexdigest() in str(caught.value)
    assert inception.SHA256 in str(caught.value)
    assert path.read_bytes() == b"other weights"


def test_the_file_that_is_expected():
    from cleanfid.downloads_helper import inception_url

    assert inception.SHA256 == "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
    assert inception_url == inception.URL


def test_verified_but_not_loadable(digits, tmp_path, monkeypatch):
    path = tmp_path / FILE_NAME
    path.write_bytes(b"no torchscript")
    monkeypatch.setattr(inception, "SHA256", hashlib.sha256(b"no torchscript").hexdigest())
    with pytest.raises(EvaluationError, match="cannot be loaded"):
        prepared(digits, tmp_path, weights=path)


def test_images_of_four_channels(digits, tmp_path):
    data = dataclasses.replace(digits, info=dataclasses.replace(digits.info, channels=4))
    with pytest.raises(EvaluationError, match="4 channels"):
        prepared(data, tmp_path)
