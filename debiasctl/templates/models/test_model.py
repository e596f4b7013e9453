"""The format keeps the contract of its kind, and reads what it writes."""

from pathlib import Path

import pytest
import torch
from debiasctl.api import ExternalModel, ModelError, Prediction, UsageError
from debiasctl.testing import check_model_source, tiny_training
from safetensors.torch import save_file

from my_package.model import MyModel

OPTIONS = {"patch_size": 2, "hidden_size": 16, "depth": 1, "num_heads": 2}


@pytest.fixture(scope="module")
def model() -> ExternalModel:
    """A network that was trained for a step, on images of 8x8 pixels."""
    trained = tiny_training({"model": {"backbone": {"name": "dit", "options": OPTIONS}}}, steps=1)
    return ExternalModel(
        backbone="dit",
        backbone_options=OPTIONS,
        weights=trained.network.state_dict(),
        image_size=8,
        channels=1,
        prediction="eps",
        schedule="linear",
        schedule_options={"num_timesteps": 500},
        steps=1,
    )


def read(path: Path, prediction: Prediction | None = None) -> ExternalModel:
    options = MyModel.Options(path=path, prediction=prediction)
    found: ExternalModel = MyModel(options).read()
    return found


def test_it_keeps_its_contract(model: ExternalModel, tmp_path: Path) -> None:
    MyModel.write(model, tmp_path / "model.safetensors")
    check_model_source(MyModel, {"path": tmp_path / "model.safetensors"})


def test_it_reads_what_it_writes(model: ExternalModel, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    MyModel.write(model, path)
    found = read(path)
    assert {**vars(found), "weights": None} == {**vars(model), "weights": None}
    assert found.weights.keys() == model.weights.keys()
    assert all(torch.equal(found.weights[name], tensor) for name, tensor in model.weights.items())
    assert read(path, prediction="v").prediction == "v"


def test_a_file_without_the_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.ones(2)}, path)
    with pytest.raises(ModelError, match="has no entry"):
        read(path)
    with pytest.raises(UsageError, match="there is no file"):
        read(tmp_path / "nothing")
