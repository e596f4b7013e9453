import dataclasses
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from cleanfid.resize import build_resizer
from inception_stub import Stub, trust
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import Tensor, nn

from debiasctl.api import ArraySplit, Features
from debiasctl.builtin.features import inception
from debiasctl.builtin.features._support import inception_network
from debiasctl.builtin.features.inception import FILE_NAME, Inception
from debiasctl.errors import EvaluationError, UsageError
from debiasctl.evaluation.measure import measure
from debiasctl.evaluation.suggestions import modes_of

CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def stub():
    return Stub()


@pytest.fixture(scope="session")
def weights(stub, tmp_path_factory):
    path = tmp_path_factory.mktemp("server") / FILE_NAME
    torch.jit.script(stub).save(str(path))
    return path


def at_url(monkeypatch, url):
    monkeypatch.setattr(inception, "WEIGHTS", dataclasses.replace(inception.WEIGHTS, url=url))


@pytest.fixture
def trusted(weights, monkeypatch):
    trust(monkeypatch, weights)


def prepared(data, cache, **options):
    return Inception(Inception.Options(**options)).prepare(data, cache_dir=cache, device=CPU)


def resized(images):
    rows = []
    for image in images.expand(-1, 3, -1, -1).numpy():
        channels = [
            np.asarray(Image.fromarray(channel.astype(np.float32)).resize((299, 299), Image.Resampling.BICUBIC))
            for channel in image
        ]
        rows.append(torch.from_numpy(np.stack(channels).clip(0, 255)))
    return torch.stack(rows)


@pytest.mark.usefixtures("trusted")
def test_download_then_features_as_clean_fid_makes_them(digits, photos, stub, weights, tmp_path):
    assert isinstance(Inception(Inception.Options()), Features)
    for data in (digits, photos):
        features = prepared(data, tmp_path)
        images = data.heldout.array[:35]
        found = features(images)
        assert found.dtype == torch.float64
        with torch.no_grad():
            by_hand = stub.layers((resized(images) - 128) / 128).double()
        torch.testing.assert_close(found, by_hand, rtol=1e-4, atol=1e-4)
        parts = torch.cat([features(part) for part in torch.split(images, 6)])
        torch.testing.assert_close(parts, found, rtol=0, atol=1e-6 * found.abs().max().item())
    assert (tmp_path / "features" / "inception" / FILE_NAME).read_bytes() == weights.read_bytes()


def grey_and_colour(size: int) -> Iterator[Tensor]:
    """uint8 [C, size, size]: a photograph, noise of all levels, and noise of the outermost two; each in both kinds."""
    photo = Image.fromarray(load_sample_image("china.jpg")[:400, :400]).resize((size, size))
    noise = torch.randint(0, 256, (3, size, size), generator=torch.Generator().manual_seed(size), dtype=torch.uint8)
    for image in (torch.from_numpy(np.array(photo)).permute(2, 0, 1), noise, (noise > 127).to(torch.uint8) * 255):
        yield image
        yield image[:1]


@pytest.mark.parametrize("size", [8, 28, 32, 64, 96, 150, 256, 257, 299, 300, 302, 311, 320, 512, 640, 1024])
def test_the_fast_resize_is_clean_fids_to_a_hundredth_of_a_grey_level(size):
    """Up and down; at 300 to 350 pixels float32 alone would be off by 0.015."""
    resize = build_resizer("clean")
    for image in grey_and_colour(size):
        rgb = image.expand(3, -1, -1)
        expected = torch.from_numpy(resize(rgb.permute(1, 2, 0).numpy())).permute(2, 0, 1)
        found = inception_network.clean_resize(rgb[None].float())[0]
        assert found.dtype == torch.float32
        assert (found - expected).abs().max() < 0.01


@pytest.mark.usefixtures("trusted")
def test_clean_fids_own_resize(digits, photos, stub, tmp_path):
    for data in (digits, photos):
        fast, own = prepared(data, tmp_path), prepared(data, tmp_path, resize="clean-fid")
        images = data.heldout.array[:33]
        with torch.no_grad():
            by_hand = stub.layers((resized(images) - 128) / 128).double()
        torch.testing.assert_close(own(images), by_hand, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(own(images), fast(images), rtol=1e-3, atol=1e-3)
    assert own.identity != fast.identity
    assert "clean-fid's own" in own.details["resize"]


@pytest.mark.parametrize(
    "resize, mode", [("clean", "clean"), ("clean-fid", "clean"), ("legacy-tf", "legacy_tensorflow")]
)
def test_which_published_statistics_are_of_these_features(resize, mode):
    features = Inception(Inception.Options(resize=resize))
    assert modes_of(features, "clean-fid") == [mode]
    assert modes_of(features, "another") == []


@pytest.mark.usefixtures("trusted")
def test_the_network_resizes_itself_as_adm_and_edm_do(digits, photos, stub, tmp_path):
    clean = prepared(photos, tmp_path)
    for data in (digits, photos):
        legacy = prepared(data, tmp_path, resize="legacy-tf")
        images = data.heldout.array[:33]
        with torch.no_grad():
            expected = stub(images.expand(-1, 3, -1, -1).float(), return_features=True)
        torch.testing.assert_close(legacy(images), expected.double(), rtol=1e-4, atol=1e-4)
    assert (clean(images) - legacy(images)).abs().max() > 1e-2
    assert clean.identity != legacy.identity
    assert "legacy-tf" in legacy.details["resize"]


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("resize", ["clean", "legacy-tf"])
def test_probabilities_and_the_spatial_grid(photos, stub, tmp_path, resize):
    """Both are of the same network at the same 299x299 pixels as the features."""
    features = prepared(photos, tmp_path, resize=resize)
    images = photos.heldout.array[:33]
    with torch.no_grad():
        if resize == "clean":
            x = resized(images)
        else:
            held = []
            handle = stub.layers.pool0.register_forward_pre_hook(lambda module, given: held.append(given[0]))
            stub(images.float())
            handle.remove()
            x = held[0] * 128 + 128
        probabilities = stub(x, no_output_bias=True)
        grid = stub.layers.mixed_6.conv(stub.layers.pool0((x - 128) / 128))[:, :7]
    torch.testing.assert_close(features.logits(images).exp().float(), probabilities, rtol=1e-3, atol=1e-6)
    spatial = features.spatial(images)
    together = features.parts(images, ["features", "logits", "spatial"])
    for part, alone in (("features", features(images)), ("logits", features.logits(images)), ("spatial", spatial)):
        assert torch.equal(together[part], alone)
    assert spatial.shape == (33, 2023)
    torch.testing.assert_close(spatial.view(33, 17, 17, 7).permute(0, 3, 1, 2).float(), grid, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_classes_are_the_whole_networks_whatever_its_last_layer(photos, tmp_path, monkeypatch, temperature):
    """Only a last layer that is seen to give the network's own probabilities spares the second pass."""

    class Tempered(Stub):
        def forward(
            self, x: torch.Tensor, return_features: bool = False, use_fp16: bool = False, no_output_bias: bool = False
        ) -> torch.Tensor:
            features = self.layers((x - 128) / 128)
            return (nn.functional.linear(features, self.output.weight) / self.temperature).softmax(1)

    network = Tempered()
    network.temperature = temperature
    path = tmp_path / FILE_NAME
    torch.jit.script(network).save(str(path))
    trust(monkeypatch, path)
    features = prepared(photos, tmp_path, weights=path)
    images = photos.heldout.array[:40]
    found = features.logits(images)
    with torch.no_grad():
        expected = network(resized(images), no_output_bias=True)
    torch.testing.assert_close(found.exp().float(), expected, rtol=1e-3, atol=1e-6)
    assert (features._head is None) == (temperature == 2.0)


@pytest.mark.usefixtures("trusted")
def test_nothing_is_written_into_clean_fids_package(digits, tmp_path, monkeypatch):
    """A site-packages that cannot be written to is enough."""
    import cleanfid

    package = Path(cleanfid.__file__).parent
    before = {path: path.stat().st_mtime_ns for path in package.rglob("*") if "__pycache__" not in path.parts}
    written = []
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "no-temporary-folder"))
    sys.addaudithook(
        lambda event, given: (
            written.append(given[0])
            if event == "open" and isinstance(given[1], str) and set(given[1]) & set("wax+")
            else None
        )
    )
    prepared(digits, tmp_path / "cache")(digits.heldout.array[:2])
    assert all(Path(path).is_relative_to(tmp_path / "cache") for path in written if isinstance(path, str))
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.usefixtures("trusted")
def test_a_truncated_file_is_named_by_its_checksum(digits, weights, tmp_path):
    cut = tmp_path / FILE_NAME
    cut.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(EvaluationError, match=hashlib.sha256(cut.read_bytes()).hexdigest()):
        prepared(digits, tmp_path / "cache", weights=cut)


@pytest.mark.usefixtures("trusted")
def test_figures_are_called_fid_and_kid(digits, tmp_path):
    small = dataclasses.replace(
        digits, train=dataclasses.replace(digits.train, array=digits.train.array[:20]), content_hash="small"
    )
    result = measure(
        ArraySplit(digits.heldout.array[:10]),
        dataclasses.replace(small, heldout=dataclasses.replace(digits.heldout, array=digits.heldout.array[:10])),
        prepared(small, tmp_path),
        names=Inception.metric_names("inception"),
        metrics=["kid"],
        cache_dir=tmp_path,
    )
    assert list(result.metrics) == ["kid"]


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("folder", [True, False])
def test_weights_of_the_users_own(digits, weights, tmp_path, folder, monkeypatch):
    at_url(monkeypatch, "http://127.0.0.1:9/nothing")
    features = prepared(digits, tmp_path, weights=weights.parent if folder else weights)
    assert features.dimension == 2048
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("given", ["missing", f"missing/{FILE_NAME}", "."])
def test_weights_that_are_not_there(digits, tmp_path, given):
    with pytest.raises(UsageError, match=FILE_NAME):
        prepared(digits, tmp_path, weights=tmp_path / given)


def test_no_network_says_which_file_to_put_where(digits, tmp_path, monkeypatch):
    at_url(monkeypatch, "http://127.0.0.1:9/inception.pt")
    with pytest.raises(EvaluationError) as caught:
        prepared(digits, tmp_path)
    assert str(tmp_path / "features" / "inception" / FILE_NAME) in str(caught.value)
    assert "http://127.0.0.1:9/inception.pt" in str(caught.value)
    assert caught.value.exit_code == 1
    assert not list(tmp_path.rglob("*.pt"))


def test_a_download_that_is_cut_or_false_leaves_nothing(digits, weights, tmp_path, monkeypatch):
    at_url(monkeypatch, weights.as_uri())
    with pytest.raises(EvaluationError, match=f"not {inception.WEIGHTS.sha256}"):
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
    monkeypatch.setattr("urllib.request.urlopen", lambda url, timeout: Dropped())
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
    assert inception.WEIGHTS.sha256 in str(caught.value)
    assert path.read_bytes() == b"other weights"


def test_the_file_that_is_expected():
    from cleanfid.downloads_helper import inception_url

    assert inception.WEIGHTS.sha256 == "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
    assert inception_url == inception.WEIGHTS.url


def test_verified_but_not_loadable(digits, tmp_path, monkeypatch):
    path = tmp_path / FILE_NAME
    path.write_bytes(b"no torchscript")
    trust(monkeypatch, path)
    with pytest.raises(EvaluationError, match="cannot be loaded"):
        prepared(digits, tmp_path, weights=path)


def test_images_of_four_channels(digits, tmp_path):
    data = dataclasses.replace(digits, info=dataclasses.replace(digits.info, channels=4))
    with pytest.raises(EvaluationError, match="4 channels"):
        prepared(data, tmp_path)
