"""Inception-v3 features, the field's own (FID, KID), through clean-fid and from weights that are verified."""

import hashlib
import http.client
import json
import urllib.request
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from pydantic import Field
from torch import Tensor

from debiasctl.api import LoadedDataset, PluginOptions
from debiasctl.errors import EvaluationError, UsageError
from debiasctl.files import atomic_file, sha256_file

FILE_NAME = "inception-2015-12-05.pt"
URL = f"https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/{FILE_NAME}"  # clean-fid's
SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
_TIMEOUT = 30.0  # seconds without an answer
_CHUNK = 32
_PREPROCESSING = {"resize": "clean-fid clean: PIL bicubic, float32, 299x299", "range": "(x - 128) / 128"}


class Inception:
    """Inception-v3 pool features (Heusel et al., 2017), resized as clean-fid does (arXiv 2104.11222): fid, kid.

    The weights are taken from the cache, or downloaded to it, and verified by their SHA-256. The network runs in
    float32, always on 32 images at once, so that features do not depend on how images are batched.
    """

    labelled = False

    class Options(PluginOptions):
        """Options of Inception-v3."""

        weights: Path | None = Field(
            None,
            description=f"{FILE_NAME}, or the folder that holds it; by default the cache, downloaded where missing",
        )

    def __init__(self, options: Options) -> None:
        self.options = options

    def prepare(self, data: LoadedDataset, *, cache_dir: Path, device: torch.device) -> "PreparedInception":
        """The network, from verified weights.

        Raises:
            UsageError: `weights` names no such file.
            EvaluationError: images that are neither grey nor RGB; weights that cannot be had (the message says where
                to put them), or that are not the ones whose features are called FID.
        """
        if data.info.channels not in (1, 3):
            raise EvaluationError(
                f"Inception-v3 sees grey or RGB images; these have {data.info.channels} channels. Use --features pixels"
            )
        return PreparedInception(_verified(self._path(cache_dir)), device=device)

    def _path(self, cache_dir: Path) -> Path:
        given = self.options.weights
        if given is None:
            path = cache_dir / "features" / "inception" / FILE_NAME
            if not path.exists():
                download(path)
            return path
        path = given.expanduser().absolute()
        path = path / FILE_NAME if path.is_dir() else path
        if not path.is_file() or path.name != FILE_NAME:
            raise UsageError(
                f"features 'inception': {path} is no file of the name {FILE_NAME}. Give that file, or its folder; "
                f"it is found at {URL}"
            )
        return path


class PreparedInception:
    """The 2048 pool features of Inception-v3. `verified_inception`: its figures may be called FID and KID."""

    dimension = 2048
    verified_inception = True

    def __init__(self, path: Path, *, device: torch.device) -> None:
        from cleanfid.inception_torchscript import InceptionV3W
        from cleanfid.resize import build_resizer

        text = json.dumps({"weights": SHA256, "preprocessing": _PREPROCESSING}, sort_keys=True)
        self.identity = hashlib.sha256(text.encode()).hexdigest()
        self.details: Mapping[str, Any] = {"weights_sha256": SHA256, **_PREPROCESSING}
        self._device = device
        self._resize = build_resizer("clean")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # torch deprecates TorchScript, the format of this file
                self._network = InceptionV3W(str(path.parent), download=False).to(device).eval()
        except RuntimeError as error:
            raise EvaluationError(f"{path} cannot be loaded by this version of torch ({error})") from error

    def __call__(self, images: Tensor) -> Tensor:
        """float64 [N, 2048] on the CPU, for uint8 [N, 1 or 3, H, W]; grey becomes RGB."""
        # TF32 would make the figures of a GPU differ from a CPU's in the third digit.
        with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            return torch.cat([self._features(chunk) for chunk in torch.split(images, _CHUNK)])

    def _features(self, images: Tensor) -> Tensor:
        rgb = images.cpu().expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()  # [N, H, W, 3]
        batch = torch.zeros(_CHUNK, 3, 299, 299)
        for position, image in enumerate(rgb):
            batch[position] = torch.from_numpy(self._resize(image)).permute(2, 0, 1)
        features: Tensor = self._network(batch.to(self._device))
        return features[: len(images)].to(device="cpu", dtype=torch.float64)


def download(path: Path) -> None:
    """Download the weights to `path`; only a whole and verified file appears there.

    Raises:
        EvaluationError: they cannot be had, or are not the ones expected.
    """
    digest = hashlib.sha256()
    try:
        response = urllib.request.urlopen(URL, timeout=_TIMEOUT)
    except (OSError, http.client.HTTPException) as error:
        raise _unavailable(path, error) from error
    with response, atomic_file(path) as stream:
        for block in _blocks(response, path):
            digest.update(block)
            stream.write(block)
        if digest.hexdigest() != SHA256:
            raise _unavailable(path, f"its SHA-256 is {digest.hexdigest()}, not {SHA256}")


def _blocks(response: IO[bytes], path: Path) -> Iterator[bytes]:
    while True:
        try:
            block = response.read(1 << 20)
        except (OSError, http.client.HTTPException) as error:
            raise _unavailable(path, error) from error
        if not block:
            return
        yield block


def _unavailable(path: Path, reason: object) -> EvaluationError:
    return EvaluationError(
        f"the weights of Inception-v3 cannot be downloaded ({reason}).\nPut the file {FILE_NAME} from {URL}\n"
        f"at {path}\nor measure in other features: --features local (data with classes) or --features pixels"
    )


def _verified(path: Path) -> Path:
    found = sha256_file(path)
    if found != SHA256:
        raise EvaluationError(
            f"{path} is not the file whose features are called FID: its SHA-256 is {found}, and should be {SHA256}. "
            f"It was left as it is; replace it by the one at {URL}"
        )
    return path
