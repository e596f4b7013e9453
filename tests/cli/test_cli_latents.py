"""Training, sampling, evaluation, comparison and analysis of latents, by the command line and in Python."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from tiny import OPTIONS, error_of, succeed

import debiasctl
from debiasctl.comparison.evaluations import evaluations_of
from debiasctl.comparison.remeasure import measuring_command
from debiasctl.runs.store import find_run

PCA = "pca:patch=2,components=3"
FEW = ("--num", "40", "--steps", "2", "--features", "pixels", "--device", "cpu")


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random autoencoder as diffusers saves it, for grey images."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("vae")
    AutoencoderKL(
        in_channels=1, out_channels=1, block_out_channels=(4, 8), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=4, latent_channels=2, scaling_factor=0.5,
        shift_factor=0.25,
    ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def _trained(tmp_path_factory: pytest.TempPathFactory, vae: Path) -> Path:
    home = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEBIASCTL_HOME", str(home))
        for name, autoencoder in (("pca", PCA), ("vae", f"diffusers-vae:path={vae}"), ("pixels", None)):
            given = () if autoencoder is None else ("--autoencoder", autoencoder)
            succeed("train", "digits", *given, *OPTIONS, "--steps", "2", "--name", name, "--device", "cpu")
    return home


@pytest.fixture(autouse=True)
def trained(_trained: Path, debiasctl_home: Path) -> None:
    shutil.copytree(_trained, debiasctl_home, dirs_exist_ok=True)


def test_a_plan_says_what_is_trained_on() -> None:
    shown = succeed("train", "digits", "--autoencoder", PCA, *OPTIONS, "--dry-run").out
    assert "3x4x4, by pca:patch=2,components=3" in shown
    assert "pca:patch=2,components=3" in succeed("runs", "show", "pca").out


@pytest.mark.parametrize("name", ["pca", "vae"])
def test_samples_and_grids_are_of_images(name: str, tmp_path: Path) -> None:
    succeed("sample", name, "--num", "4", "--steps", "2", "--out", tmp_path / "grid.png", "--device", "cpu")
    succeed("sample", name, "--num", "2", "--steps", "2", "--trajectory", tmp_path / "way.png", "--device", "cpu")
    assert Image.open(tmp_path / "grid.png").size == (102, 102)
    images = debiasctl.run(name).sample(4, steps=2, device="cpu")
    assert (images.shape, images.dtype) == ((4, 1, 8, 8), torch.uint8)


def test_a_denoiser_in_python_works_on_latents() -> None:
    denoiser = debiasctl.run("pca").denoiser(device="cpu")
    assert denoiser(torch.zeros(2, 3, 4, 4), 500, torch.zeros(2).long()).x0.shape == (2, 3, 4, 4)


def test_the_autoencoder_that_a_run_keeps_is_given_in_python() -> None:
    run = debiasctl.run("vae")
    prepared = run.autoencoder(device="cpu")
    assert prepared is not None
    section = run.spec.latents
    assert section is not None
    assert prepared.encode(torch.zeros(1, 1, 8, 8)).shape == (1, section.channels, section.size, section.size)
    assert run.model().channels == section.channels


def test_an_evaluation_says_what_the_autoencoder_costs() -> None:
    (record,) = json.loads(succeed("evaluate", "pca", *FEW, "--json").out)["evaluations"]
    (note,) = [text for text in record["notes"] if text.startswith("the autoencoder by itself")]
    assert note.startswith(
        "the autoencoder by itself: 40 held-out images that it encodes and decodes again are off by 0.189 "
    )
    assert "and their fd_pixels is" in note
    assert "clip_x0=false" in record["measured"]["sampler"]


def test_the_runs_vae_is_not_needed_again(vae: Path, tmp_path: Path) -> None:
    succeed("runs", "export", "vae", "--out", tmp_path / "vae.tar")
    before = debiasctl.run("vae").sample(4, steps=2, device="cpu")
    spec = find_run("vae").path / "spec.json"
    assert str(vae) in spec.read_text()
    succeed("runs", "rm", "vae", "--yes")
    succeed("runs", "import", tmp_path / "vae.tar", "--name", "elsewhere")
    moved = find_run("elsewhere").path / "spec.json"
    moved.write_text(moved.read_text().replace(str(vae), "/nowhere"))
    shutil.rmtree(find_run("elsewhere").samples_dir, ignore_errors=True)
    assert torch.equal(debiasctl.run("elsewhere").sample(4, steps=2, device="cpu"), before)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda folder: shutil.rmtree(folder), "there is no such folder"),
        (lambda folder: (folder / "config.json").unlink(), "it holds no config.json that can be read"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is damaged"),
        (lambda folder: (folder / "config.json").write_text('{"_class_name": "UNet"}'), "a network of class UNet"),
        (lambda folder: _edit(folder, in_channels=3), "takes images of 3 channels and gives 1, and the data have 1"),
        (lambda folder: _edit(folder, in_channels=3, out_channels=3), "if the data set can (mode=rgb)"),
        (lambda folder: _edit(folder, block_out_channels=[4] * 5), "by 16, which 8 is no multiple of. Resize"),
        (lambda folder: (folder / "diffusion_pytorch_model.safetensors").unlink(), "holds no diffusion_pytorch_model"),
        (lambda folder: _edit(folder, latent_channels=3), "cannot be loaded"),
        (lambda folder: _edit(folder, layers_per_block=2), "does not hold the tensors that config.json describes"),
    ],
)  # fmt: skip
def test_a_vae_that_does_not_fit_is_refused(change, message: str, vae: Path, tmp_path: Path) -> None:
    folder = tmp_path / "vae"
    shutil.copytree(vae, folder)
    change(folder)
    given = ("--autoencoder", f"diffusers-vae:path={folder}", *OPTIONS, "--steps", "1", "--device", "cpu")
    error = error_of(
        "train", "digits", *given, code=2 if any(word in message for word in ("multiple", "channels", "mode=")) else 1
    )
    assert message in error


def _edit(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def test_a_pipelines_folder_is_searched_for_its_vae(vae: Path, tmp_path: Path) -> None:
    shutil.copytree(vae, tmp_path / "pipeline" / "vae")
    given = ("--autoencoder", f"diffusers-vae:path={tmp_path / 'pipeline'}", *OPTIONS, "--dry-run", "--json")
    assert json.loads(succeed("train", "digits", *given).out)["spec"]["data"]["autoencoder"]["name"] == "diffusers-vae"


def test_a_vaes_own_scale_is_used() -> None:
    section = debiasctl.run("vae").spec.latents
    assert section is not None
    assert (section.channels, section.size, section.shift, section.scale) == (2, 4, (0.25, 0.25), (0.5, 0.5))


def test_images_that_cannot_be_encoded_are_refused() -> None:
    error = error_of("train", "digits", "--autoencoder", "pca:patch=3", *OPTIONS, code=2)
    assert "patch=3 does not divide images of 8 pixels a side" in error


def test_a_likelihood_of_latents_is_refused() -> None:
    assert "a likelihood of these is no likelihood of images" in error_of("likelihood", "pca", "--num", "4", code=2)


def test_runs_of_different_latents_are_compared_by_their_images_alone(tmp_path: Path) -> None:
    for name in ("pca", "vae"):
        succeed("evaluate", name, *FEW)
    page = tmp_path / "page.html"
    succeed("compare", "pca", "vae", "--device", "cpu", "--html", page)
    text = page.read_text()
    assert "Held-out errors are not shown: the arms were trained on latents of different autoencoders" in text
    assert "autoencoder=diffusers-vae" in text
    error = error_of("weightings", "fit", "pca", "vae", "--rule", "optimal-loss", code=2)
    assert "make latents of different autoencoders" in error


def test_a_run_on_latents_is_compared_with_one_on_images() -> None:
    for name in ("pca", "pixels"):
        succeed("evaluate", name, *FEW)
    assert "fd_pixels" in succeed("compare", "pca", "pixels", "--device", "cpu").out
    command = measuring_command(find_run("pca"), "fd_pixels", evaluations_of(find_run("pixels")))
    succeed(*shlex.split(command)[1:], "--device", "cpu")


def test_an_analysis_is_of_latents_and_of_decoded_images(tmp_path: Path) -> None:
    given = ("--num", "32", "--steps", "2", "--trajectories", "2", "--device", "cpu")
    found = json.loads(succeed("analyze", "pca", "vae", *given, "--html", tmp_path / "page.html", "--json").out)
    text = json.dumps(found)
    assert "all figures are those of the latents" in text
    assert "all figures are those of decoded images" in text
    for skipped in ("existence of vae: its errors are those of other latents", "whose channels are no colours"):
        assert skipped in text
    assert "cannot be stitched: they make latents of different autoencoders" in text
