"""A published DiT draws latents: with the autoencoder that decodes them, it is a run like any other."""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from test_dit_checkpoints import published_state
from tiny import error_of, succeed

import debiasctl
from debiasctl.runs.store import find_run


@pytest.fixture
def dit(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    AutoencoderKL(
        block_out_channels=(4, 8), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=4, latent_channels=4,
    ).save_pretrained(tmp_path / "vae")  # fmt: skip
    torch.save(published_state(), tmp_path / "dit.pt")
    return tmp_path / "dit.pt"


def test_its_latents_are_decoded(dit: Path, tmp_path: Path) -> None:
    model, vae = f"dit:path={dit},num_heads=3", f"diffusers-vae:path={tmp_path / 'vae'}"
    error = error_of("runs", "add-model", "a", model, code=2)
    assert "it draws latents. Name the autoencoder that decodes them: --autoencoder diffusers-vae:path=FOLDER" in error
    succeed("runs", "add-model", "a", model, "--autoencoder", vae)
    section = debiasctl.run("a").spec.latents
    assert section is not None
    assert (section.channels, section.size, section.scale) == (4, 8, (0.18215,) * 4)
    assert debiasctl.run("a").sample(2, steps=2, device="cpu").shape == (2, 3, 16, 16)
    assert (find_run("a").path / "autoencoder.safetensors").is_file()
    succeed("runs", "export-checkpoint", "a", tmp_path / "again.pt", "--format", "dit")
    given, again = (torch.load(path, weights_only=True) for path in (dit, tmp_path / "again.pt"))
    assert all(torch.equal(given[name], again[name]) for name in given)


@pytest.mark.parametrize(
    "autoencoder, message",
    [("pca:patch=2,components=4", "is fitted to images, and there are none"),
     ("pca:patch=2,components=5", "makes no latents 4x8x8, which the model draws")],
)  # fmt: skip
def test_an_autoencoder_that_does_not_suit_is_refused(autoencoder: str, message: str, dit: Path) -> None:
    assert message in error_of(
        "runs", "add-model", "a", f"dit:path={dit},num_heads=3", "--autoencoder", autoencoder, code=2
    )
