import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import BACKBONE, make_spec, set_up_tiny, train
from torch import nn

from debiasctl.errors import UsageError
from debiasctl.models.checkpoint_files import load_weights
from debiasctl.runs.store import Run
from debiasctl.specs.sections import InitFromSection
from debiasctl.training.initial import initial_weights, load_initial


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEBIASCTL_HOME", str(tmp_path_factory.mktemp("home")))
        return train("source", make_spec(training__keep_last=9))


def new_network() -> nn.Module:
    return set_up_tiny(make_spec(training__seed=5)).network


@pytest.mark.parametrize("weights", ["ema", "raw"])
@pytest.mark.parametrize("step, chosen", [(None, 6), (3, 3)])
def test_a_network_starts_from_another_runs_weights(run: Run, weights: str, step: int | None, chosen: int) -> None:
    expected, network = new_network(), new_network()
    checksum = load_weights(run, expected, step=chosen, weights=weights)
    state, about = initial_weights(run, weights, step=step)
    assert about == InitFromSection(run="source", step=chosen, weights=weights, sha256=checksum)
    load_initial(network, state, source=run.name)
    for one, other in zip(network.parameters(), expected.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    "weights, step, error, message",
    [
        ("mean", None, UsageError, "`training.init_from.weights=mean`: choose ema"),
        ("ema:2", None, UsageError, "a length is a number from 0.001 to 0.28"),
        ("ema:0.1", None, UsageError, "keeps one average"),
        ("raw", 4, UsageError, "no checkpoint '4'. It has: 0, 3, 6"),
    ],
)
def test_weights_that_there_are_not(
    run: Run, weights: str, step: int | None, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        initial_weights(run, weights, step=step)
    assert message in str(caught.value)


def test_a_network_of_another_shape_is_refused_and_stays(run: Run) -> None:
    wider = set_up_tiny(make_spec(model__backbone=BACKBONE.replace("hidden_size=16", "hidden_size=32"))).network
    before = [parameter.clone() for parameter in wider.parameters()]
    with pytest.raises(UsageError) as error:
        load_initial(wider, initial_weights(run)[0], source=run.name)
    message = str(error.value)
    assert message.startswith("the weights of run 'source' do not fit this run's network: '")
    assert "more. Use the data, `model.backbone`, `model.prediction`" in message
    assert all(f"model.{name}" in message for name in ("conditional", "label_dropout", "learned_variance"))
    assert message.count(" there and [") == 3
    assert all(torch.equal(one, other) for one, other in zip(before, wider.parameters(), strict=True))


def test_missing_and_surplus_tensors_are_named() -> None:
    network = nn.Linear(2, 1)
    with pytest.raises(UsageError, match=r"'bias' is missing there; 'scale' is missing here\. Use"):
        load_initial(network, {"weight": torch.zeros(1, 2), "scale": torch.zeros(1)}, source="a")


def test_of_several_processes_the_first_reconstructs_and_the_others_read(tmp_path: Path) -> None:
    source = train("power", make_spec(ema__kind="power", ema__snapshot_every=1, training__steps=40))
    script = Path(__file__).with_name("initial_process.py")
    processes = [
        subprocess.Popen(
            [sys.executable, script, str(rank), source.path, tmp_path / "meet"], stdout=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    one, other = (json.loads(process.communicate(timeout=120)[0]) for process in processes)
    assert one == other
    assert "gives the average of length 0.28" in one["message"]
    state, about = initial_weights(source, "ema:0.08")
    assert about.model_dump() == one["about"]
    assert sum(float(tensor.double().sum()) for tensor in state.values()) == one["sum"]
