"""Plans of absurd size are refused with the figure, before anything of their size is made."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from tiny import make_spec, resume, train

from debiasctl.api import DatasetInfo
from debiasctl.builtin.backbones.unet import UNet
from debiasctl.errors import UsageError
from debiasctl.runs.store import run_names
from debiasctl.specs.resolve import validate_spec
from debiasctl.training import feasibility
from debiasctl.training.estimate import estimate
from debiasctl.training.feasibility import check_feasible

INFO = DatasetInfo(8, 1, tuple("0123456789"), 1600, 197)
TINY = {"hidden_size": 16, "depth": 1, "num_heads": 2}


def check(
    backbone: str, options: Mapping[str, Any], *, batch_size: int = 4, memory: int = 10**9, times: float = 2
) -> None:
    spec = validate_spec(
        {
            "data": {"dataset": "digits"},
            "model": {"backbone": {"name": backbone, "options": dict(options)}, "conditional": True},
            "training": {"batch_size": batch_size},
        }
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feasibility, "total_memory", lambda device: memory)
        check_feasible(spec, INFO, device=torch.device("cpu"), times=times)


@pytest.mark.parametrize(
    "backbone, options, message",
    [
        ("dit", {**TINY, "depth": 100_000}, "more than 5,000 tensors"),
        ("unet", {"num_res_blocks": 10**6, "channels": 32}, "more than 5,000 tensors"),
        ("unet", {"channels": 10**6}, r"more than 4,000,000,000,000 parameters, which take 16.0 TB.* has 1.0 GB"),
        ("dit", {"hidden_size": 2**20}, "parameters, which take"),
        ("unet", {"channel_mult": [2**20, 1]}, "parameters, which take|more than 2.63 bytes"),
    ],
)
def test_a_network_of_absurd_size_is_refused(backbone: str, options: Mapping[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check(backbone, options)


@pytest.mark.parametrize("batch_size", [10**9, 10**18, 2**62])
def test_a_batch_of_absurd_size_is_refused_with_one_that_fits(batch_size: int) -> None:
    with pytest.raises(UsageError, match=r"this machine has 1\.0 GB\. To train here, choose") as caught:
        check("dit", TINY, batch_size=batch_size)
    fitting = int(str(caught.value).rpartition("at most about ")[2].replace(",", ""))
    check("dit", TINY, batch_size=fitting, times=1)
    with pytest.raises(UsageError):
        check("dit", TINY, batch_size=3 * fitting)


def test_a_plan_that_fits_passes_and_leaves_no_trace() -> None:
    check("dit", TINY)
    network = torch.nn.Linear(2, 2)
    assert network.weight.device.type == "cpu"
    assert bool(network.weight.any())


def test_the_figure_is_that_of_the_estimate() -> None:
    spec = validate_spec({"data": {"dataset": "digits"}, "model": {"backbone": {"name": "dit", "options": TINY}}})
    plan = estimate(spec, INFO)
    needed = plan.memory["activations"] + 4 * plan.memory["weights"]
    check("dit", TINY, batch_size=spec.training.batch_size, memory=int(1.2 * needed), times=1)
    with pytest.raises(UsageError):
        check("dit", TINY, batch_size=spec.training.batch_size, memory=int(0.8 * needed), times=1)


def test_a_resumed_run_and_callers_of_the_library_are_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    run = train("a", make_spec(training__steps=2))
    monkeypatch.setattr(feasibility, "total_memory", lambda device: 1000)
    message = "parameters, which take .* this machine has .*Resume run 'a' on a machine with more memory"
    with pytest.raises(UsageError, match=message):
        resume(run, steps=4)
    assert run.checkpoint_steps()[-1] == 2
    with pytest.raises(UsageError, match="Choose a smaller one"):
        train("b", make_spec())
    assert run_names() == ["a"]


@pytest.mark.parametrize("mult", [(0.5, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0), (1.0, 1.5), (0.3, 0.7), (1.0, 2.0), (1 / 64,)])
@pytest.mark.parametrize("channels, groups", [(32, 32), (33, 32), (2, 32), (48, 32), (128, 48)])
def test_the_advice_on_channels_has_been_tried(mult: tuple[float, ...], channels: int, groups: int) -> None:
    from debiasctl.builtin.backbones.unet import _widths

    options = UNet.Options(channels=channels, norm_groups=groups)
    try:
        _widths(options, mult)
    except UsageError as error:
        advice = str(error).rpartition("Use ")[2]
    else:
        return
    for part in advice.split(" or "):
        name, _, values = part.partition("=")
        if name in ("channels", "norm_groups"):
            for value in values.removesuffix(", ...").split(", "):
                _widths(options.model_copy(update={name: int(value)}), mult)
