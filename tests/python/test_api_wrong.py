"""Wrong arguments to the Python API: each is refused with one message, and none gives a wrong number."""

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import debiasctl
from debiasctl import registry
from debiasctl.diffusion.denoiser import NetworkDenoiser
from debiasctl.diffusion.parameterization import Parameterization
from debiasctl.diffusion.process import process_of
from debiasctl.errors import UsageError
from debiasctl.python.runs import check_whole

W = debiasctl.weighting("min-snr:gamma=5")
TABLE = torch.linspace(0.99, 0.01, 8)
IMAGES = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)


def scheduler(table: Any, kind: Any = "epsilon") -> Any:
    return SimpleNamespace(alphas_cumprod=table, config=SimpleNamespace(prediction_type=kind))


def observed(t: Any, losses: Any) -> None:
    debiasctl.timesteps("loss-second-moment").for_schedule("linear").observe(t, losses)


@pytest.mark.parametrize("t", [-2.0, 1005, float("nan"), torch.tensor([3, 4])])
def test_a_denoiser_refuses_t_outside_its_schedule(t: Any) -> None:
    process = process_of(registry.create("schedules", "linear"))
    denoiser = NetworkDenoiser(torch.nn.Identity(), Parameterization("eps", process))
    with pytest.raises(UsageError, match=r"^t "):
        denoiser(torch.zeros(2, 1, 8, 8), t)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 3, 8, 8), "x_t is float32 [2, 3, 8, 8]. Give float32 [N, 1, 8, 8], noisy images"),
        (torch.zeros(1, 8, 8), "x_t is float32 [1, 8, 8]"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.float64), "x_t is float64 [2, 1, 8, 8]"),
        (torch.tensor(0.0), "x_t is float32 []"),
        (np.zeros((2, 1, 8, 8), np.float32), "x_t is a ndarray"),
    ],
)
def test_a_denoiser_refuses_images_that_its_network_does_not_take(images: Any, message: str) -> None:
    process = process_of(registry.create("schedules", "linear"))
    denoiser = NetworkDenoiser(torch.nn.Identity(), Parameterization("eps", process), shape=(1, 8, 8))
    with pytest.raises(UsageError, match=re.escape(message)):
        denoiser(images, 5)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 4]), "`labels` has 4 at index 1. Give int64 [2], from 0 to 2; 3 stands for no class"),
        (torch.tensor([-1, 0]), "`labels` has -1 at index 0"),
        (torch.tensor([0]), "`labels` are int64 [1]"),
        (torch.zeros(2), "`labels` are float32 [2]"),
        ([0, 1], "needs `labels`, and they are a list"),
        (None, "needs `labels`, and they are None"),
    ],
)
def test_a_denoiser_refuses_labels_that_its_network_has_not(labels: Any, message: str) -> None:
    process = process_of(registry.create("schedules", "linear"))
    denoiser = NetworkDenoiser(torch.nn.Identity(), Parameterization("eps", process), null_label=3, num_classes=3)
    with pytest.raises(UsageError, match=re.escape(message)):
        denoiser(torch.zeros(2, 1, 8, 8), 5, labels)
    denoiser.num_classes = 0
    with pytest.raises(UsageError, match="trained without them"):
        denoiser(torch.zeros(2, 1, 8, 8), 5, torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: W(torch.ones(2, device="meta")), "on the device meta"),
        (lambda: W(torch.eye(2).to_sparse()), "is sparse"),
        (lambda: W(torch.ones(2).to(torch.float8_e4m3fn)), "Give float32"),
        (lambda: W(10**400), "too large for a float"),
        (lambda: W(1.0, prediction="edm", sigma_data="a"), "`sigma_data='a'` is a str"),
        (lambda: W(1.0, prediction="edm", sigma_data=1e-300), "between 1e-100 and 1e100"),
        (lambda: W(1.0, normalize=np.ones(3)), "`normalize=[1. 1. 1.]`: choose none or mean"),
        (lambda: W(1.0, prediction="EPS"), "Did you mean 'eps'?"),
        (lambda: W(1.0, progress="half"), "`progress='half'` is a str"),
        (lambda: W.for_schedule("linear", normalize="mean", timesteps=3), "`timesteps` is an int"),
        (lambda: W.for_scheduler(scheduler(TABLE + 1j)), "complex64"),
        (lambda: W.for_scheduler(scheduler(TABLE.to("meta"))), "on the device meta"),
        (lambda: W.for_scheduler(scheduler(torch.tensor(0.5))), "has the shape []"),
        (lambda: W.for_scheduler(scheduler(np.array(["a"]))), "an array of <U1"),
        (lambda: W.for_scheduler(scheduler(TABLE, ["epsilon"])), "prediction_type"),
        (lambda: debiasctl.dataset(3), "a data set is given by its reference"),
        (lambda: debiasctl.dataset("digit"), "unknown dataset 'digit'"),
        (lambda: debiasctl.dataset("digits", data_dir=3), "`data_dir` is an int"),
        (lambda: debiasctl.sampler(None), "a sampler is given by its reference"),
        (lambda: debiasctl.sampler("ddim:eta=2"), "eta"),
        (lambda: debiasctl.timesteps("uniform").sample(10**30), "must be a whole number from 0 to 100,000,000"),
        (lambda: debiasctl.timesteps("uniform").sample(2, generator=3), "`generator` is an int"),
        (lambda: debiasctl.timesteps("uniform").sample(2, device="nowhere"), "`device=nowhere` cannot be used"),
        (lambda: debiasctl.timesteps("importance").for_schedule("linear", weighting=3), "`weighting` is an int"),
        (lambda: debiasctl.evaluate("", reference="digits"), "`images` is empty text"),
        (lambda: debiasctl.evaluate(IMAGES.to("meta"), reference="digits"), "on the device meta"),
        (lambda: debiasctl.evaluate(IMAGES, reference=IMAGES), "`reference` is a Tensor"),
        (lambda: debiasctl.evaluate(IMAGES, reference="digits", features=3), "`features` is an int"),
        (lambda: debiasctl.evaluate(IMAGES, reference="digits", metrics=3), "`metrics` is an int"),
        (lambda: debiasctl.evaluate(IMAGES, reference="digits", metrics=[3]), "Give names alone"),
        (lambda: debiasctl.evaluate(IMAGES, reference="digits", feature_weights=3), "`feature_weights` is an int"),
        (lambda: debiasctl.evaluate(IMAGES, reference="digits", device=None), "unknown device 'None'"),
        (lambda: check_whole(seed=-1), "`seed=-1` must be a whole number from 0"),
        (lambda: check_whole(batch_size=0), "`batch_size=0` must be a whole number from 1"),
        (lambda: debiasctl.compare("a", "b", margin="x"), "`margin='x'` is a str"),
        (lambda: debiasctl.compare("a", "b", by=3), "`by` is an int"),
        (lambda: debiasctl.compare("a", "b", paired="no"), "`paired` is a str"),
        (lambda: debiasctl.compare("a", "b", levels={"fd_local": "x"}), "is a str. Give a number"),
        (lambda: debiasctl.compare(figures=3), "`figures` is an int"),
        (lambda: debiasctl.compare(arms=["a"], against="digits"), "`arms` is a list"),
        (lambda: debiasctl.compare(arms={"a=b": "c"}, against="digits"), "'a=b' is no name of an arm"),
        (lambda: observed([1], [1.0]), "`t` is a list"),
        (lambda: observed(torch.tensor([1, 2]), torch.ones(1)), "`t` has the shape [2] and `losses` [1]"),
        (lambda: observed(torch.tensor([1000]), torch.ones(1)), "timestep 1000 is not there"),
        (lambda: observed(torch.tensor([1]), torch.tensor([float("nan")])), "`losses` is nan"),
        (lambda: observed(torch.tensor([1]), torch.tensor([float("inf")])), "`losses` is inf"),
        (lambda: observed(torch.tensor([1]), -torch.ones(1)), "`losses` is -1"),
    ],
)
def test_wrong_arguments_are_refused(call: Any, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        call()
    assert message in str(raised.value)
