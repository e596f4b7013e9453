"""The plugins keep the laws of their kinds."""

import warnings
from pathlib import Path
from typing import Any

import pytest
from debiasctl_diffusers.betas import Betas
from debiasctl_diffusers.command import app
from debiasctl_diffusers.dit import DiffusersDiT
from debiasctl_diffusers.sampler import DiffusersSampler
from debiasctl_diffusers.source import DiffusersModel
from debiasctl_diffusers.unet import DiffusersUNet
from worlds import network, saved

from debiasctl.api import ImageShape
from debiasctl.testing import (
    check_backbone,
    check_command,
    check_model_source,
    check_sampler,
    check_schedule,
)


@pytest.fixture(autouse=True)
def _what_is_not_checked_is_no_failure() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_the_unet() -> None:
    check_backbone(
        DiffusersUNet,
        {"block_out_channels": [8, 16], "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 4},
        shape=ImageShape(8, 3, 3),
    )


def test_the_dit() -> None:
    check_backbone(
        DiffusersDiT,
        {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 1},
        shape=ImageShape(8, 3, 3),
    )


@pytest.mark.parametrize("scheduler", ["DPMSolverMultistepScheduler", "ddim", "ddpm", "heun"])
def test_the_sampler(scheduler: str) -> None:
    check_sampler(DiffusersSampler, {"scheduler": scheduler})


def test_the_schedule() -> None:
    check_schedule(Betas)


def test_the_model_source(tmp_path: Path) -> None:
    check_model_source(DiffusersModel, {"path": str(saved(tmp_path / "pipeline", unet=network()))})


def test_the_command() -> None:
    check_command(app)
