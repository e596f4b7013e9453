"""The laws that debiasctl states for each kind of plugin."""

import pytest
from debiasctl_edm2.backbone import EDM2
from debiasctl_edm2.learning_rate import EDM2LearningRate
from debiasctl_edm2.normalization import ForcedWeightNormalization

from debiasctl.api import ImageShape
from debiasctl.testing import check_backbone, check_extension

SETTINGS = {"model": {"backbone": "edm2:channels=4", "prediction": "edm"}, "diffusion": {"schedule": "edm"}}


@pytest.mark.parametrize("options", [{"channels": 4}, {"channels": 4, "noise_level": "timestep", "num_blocks": 2}])
def test_the_backbone(options: dict) -> None:
    check_backbone(EDM2, options, shape=ImageShape(8, 3, 3))


def test_forced_weight_normalization() -> None:
    check_extension(ForcedWeightNormalization, settings=SETTINGS)


def test_the_learning_rate() -> None:
    check_extension(EDM2LearningRate, {"reference_steps": 2, "warmup_images": 20}, settings=SETTINGS)
