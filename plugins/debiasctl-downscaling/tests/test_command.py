"""The commands, from images to the table."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from debiasctl_downscaling.command import app
from debiasctl_downscaling.conditioning import Conditioned
from debiasctl_downscaling.network import network_of, sampler_of
from debiasctl_downscaling.operators import Mean
from typer.testing import CliRunner

import debiasctl
from debiasctl.api import DataError, DebiasctlError, UsageError
from debiasctl.testing import check_command

FINE = "kuramoto-sivashinsky:image_size=16,num=200,spin_up=10"
COARSE = f"{FINE},fidelity=coarse"
QUICK = ("--steps", "3", "--device", "cpu")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a tiny run, trained for two steps."""
    folder = tmp_path_factory.mktemp("home")
    backbone = "unet:channels=8,channel_mult=[1],norm_groups=8,attention_resolutions=[]"
    options = ["--name", "ks", "--steps", "2", "--batch-size", "8", "--backbone", backbone]
    command = [sys.executable, "-m", "debiasctl", "train", FINE, *options]
    subprocess.run(command, check=True, env=os.environ | {"DEBIASCTL_HOME": str(folder)})
    return folder


@pytest.fixture(autouse=True)
def _at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEBIASCTL_HOME", str(home))


def run(*arguments: str | Path) -> str:
    """What a command prints to stdout."""
    result = CliRunner().invoke(app, list(map(str, arguments)))
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_it_keeps_the_laws_of_its_kind() -> None:
    check_command(app)


def test_from_a_map_to_figures(tmp_path: Path) -> None:
    path, out = tmp_path / "map.npz", tmp_path / "samples.npz"
    facts = json.loads(run("fit-map", COARSE, FINE, "--out", path, "--num", "100", "--epsilon", "0.05", "--json"))
    assert facts["marginal_error"] <= facts["tolerance"]
    assert facts["images"] == [100, 100]
    text = run("sample", "ks", COARSE, "--map", path, "--num", "50", "--out", out, *QUICK)
    assert "50 images of 1x16x16" in text
    stored = np.load(out)
    pooled = stored["images"].reshape(50, 1, 4, 4, 4, 4).mean(axis=(3, 5))
    assert np.abs(pooled - stored["low"]).max() < 1e-5
    assert np.abs(stored["low"] - stored["given"]).max() > 0.01  # it was debiased
    again = tmp_path / "again.npz"
    run("sample", "ks", COARSE, "--map", path, "--num", "50", "--out", again, "--batch-size", "16", *QUICK)
    assert np.abs(np.load(again)["images"] - stored["images"]).max() < 1e-3
    figures = json.loads(run("evaluate", out, FINE, "--json"))["figures"][str(out)]
    assert figures["constraint_rmse"]["value"] < 1e-5
    assert figures["melr"]["low"] <= figures["melr"]["value"] <= figures["melr"]["high"]
    assert "Wasserstein-1" in run("evaluate", out, FINE, "--operator", "mean:4")
    with pytest.raises(UsageError, match="drawn with the operator mean:4, and `operator=subsample:4` is subsample:4"):
        run("evaluate", out, FINE, "--operator", "subsample:4")


def test_the_table_has_all_ways() -> None:
    text = run("table", "ks", COARSE, FINE, "--num", "48", "--epsilon", "0.1", "--spectrum", "rows", *QUICK)
    lines = text.strip().splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == [
        "bicubic", "bicubic, debiased", "conditioned", "conditioned, debiased", "true images"
    ]  # fmt: skip
    assert "covariance RMSE" in lines[0]
    assert len({line.count("|") for line in lines}) == 1


def test_a_trained_networks_estimate_is_differentiated() -> None:
    """The guidance's gradient is that of finite differences through the network."""
    network = network_of("ks", device=torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    x, low = torch.randn(2, 1, 16, 16, generator=generator), torch.zeros(2, 1, 4, 4)
    operator = Mean(4, 4)

    def error(x: torch.Tensor) -> torch.Tensor:
        return operator.coordinates(network.denoiser(x, 500.0).x0).double().square().sum(dim=1)

    alpha = float(network.denoiser.alphas_cumprod[500].sqrt())
    plain = Conditioned(network.denoiser, operator, low, alpha=0.0)(x, 500.0).x0
    guided = Conditioned(network.denoiser, operator, low, alpha=1.0)(x, 500.0).x0
    direction = torch.randn(x.shape, generator=generator)
    direction = direction - operator.lift(operator.coordinates(direction), x.shape)
    with torch.no_grad():
        slope = (error(x + 1e-2 * direction) - error(x - 1e-2 * direction)) / 2e-2
    found = -((guided - plain) * direction).flatten(1).sum(dim=1).double() / alpha
    assert torch.allclose(found, slope, rtol=0.02, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"autoencoder": "pca"}, "makes latents"),
        ({"content": None}, "has not begun training"),
        ({"conditional": True}, "needs a class for each image"),
    ],
)
def test_networks_that_cannot_be_conditioned_so_are_refused(
    changes: dict, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = {"autoencoder": None, "conditional": False, "content": SimpleNamespace(image_size=16, channels=1)} | changes
    spec = SimpleNamespace(
        data=SimpleNamespace(autoencoder=facts["autoencoder"]),
        model=SimpleNamespace(conditional=facts["conditional"]),
        content=facts["content"],
    )
    run = SimpleNamespace(name="a", spec=spec, denoiser=lambda **_: SimpleNamespace(null_label=None))
    monkeypatch.setattr(debiasctl, "run", lambda name: run)
    with pytest.raises(UsageError, match=text):
        network_of("a", device=torch.device("cpu"))


def test_clipping_is_done_before_the_projection() -> None:
    made, clip = sampler_of("ddim")
    assert clip
    assert not made.options.clip_x0
    assert not sampler_of("ddim:clip_x0=false")[1]
    for text in ("ddim:guidance=2", "ddim:threshold=0.9"):
        with pytest.raises(UsageError, match="leave"):
            sampler_of(text)


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        (("fit-map", COARSE, FINE, "--out", "map.pt"), UsageError, r"ends in \.npz"),
        (("fit-map", COARSE, FINE, "--out", "m.npz", "--operator", "mean:8"), UsageError, "the true ones 1x2x2"),
        (("fit-map", COARSE, COARSE, "--out", "m.npz", "--operator", "mean:4"), UsageError, "leave --operator out"),
        (("fit-map", COARSE, FINE, "--out", "m.npz", "--num", "5000"), DataError, "has 200 images, and 5,000"),
        (("fit-map", "nowhere.npz", FINE, "--out", "m.npz"), UsageError, "there is no file nowhere.npz"),
        (("sample", "ks", COARSE, "--out", "s.npz", "--map", "none.npz"), UsageError, "there is no file none.npz"),
        (("sample", "none", COARSE, "--out", "s.npz", "--num", "4"), DebiasctlError, "none"),
        (("sample", "ks", FINE, "--out", "s.npz", "--num", "3"), UsageError, "images are 1x16x16, and operator mean:4"),
        (("sample", "ks", COARSE, "--out", "s.npz", "--device", "abacus"), UsageError, "no such device"),
        (("sample", "ks", COARSE, "--out", "s.npz", "--alpha", "1", "--exact", "2"), UsageError, "has no effect"),
        (("table", "ks", COARSE, FINE, "--alpha", "0", "--exact", "1"), UsageError, "alpha=0` has no effect"),
        (("evaluate", FINE, FINE, "--operator", "mean:4"), UsageError, "has no effect"),
        (("evaluate", COARSE, FINE), UsageError, "the images are 1x4x4, and the true ones 1x16x16"),
    ],
)  # fmt: skip
def test_misuse_is_explained(
    arguments: tuple[str, ...], kind: type[Exception], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=text):
        run(*arguments)
    assert not list(tmp_path.iterdir())


def test_a_seed_beyond_those_of_the_noise_is_refused() -> None:
    found = CliRunner().invoke(app, ["sample", "ks", COARSE, "--out", "s.npz", "--seed", str(2**63)])
    assert found.exit_code == 2
    assert "--seed" in found.output


def test_images_of_files_are_read_in_their_forms(tmp_path: Path) -> None:
    from debiasctl_downscaling.images import images_of

    path = tmp_path / "images.npz"
    bytes_ = np.arange(2 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4, 1)
    np.savez(path, images=bytes_, labels=np.zeros(2))
    found = images_of(str(path), split="train", num=None)
    assert found.shape == (2, 1, 4, 4)
    assert torch.equal(found, torch.from_numpy(bytes_).permute(0, 3, 1, 2).float() / 127.5 - 1)
    np.save(tmp_path / "a.npy", np.arange(10.0)[:, None, None] * np.ones((10, 2, 2)))
    parts = [images_of(str(tmp_path / "a.npy"), split=one, num=None, divided=True) for one in ("train", "heldout")]
    assert [len(one) for one in parts] == [8, 2]
    assert float(parts[1][0].mean()) == 8
    for array in (np.zeros((2, 2, 2, 2, 2)), np.zeros((3, 4, 4), dtype=np.int64), np.full((2, 3, 3), np.inf)):
        np.savez(path, images=array)
        with pytest.raises(DataError):
            images_of(str(path), split="train", num=None)


def test_the_public_names_that_it_needs_are_there() -> None:
    assert debiasctl.sampler("ddim:eta=1").options.eta == 1
    assert len(debiasctl.dataset("digits").heldout) > 200
