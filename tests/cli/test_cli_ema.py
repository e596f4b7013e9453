import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import error_of, make_spec, set_up_tiny, succeed, train

from debiasctl.models.ema_snapshots import capture_snapshot, write_snapshot
from debiasctl.models.posthoc_ema import store_average
from debiasctl.models.weights import load_average, load_named_weights
from debiasctl.runs.store import Run
from debiasctl.training.step import train_step

STEPS = 24


@pytest.fixture(scope="module")
def _power_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = make_spec(
        ema__kind="power", ema__snapshot_every=2, training__steps=STEPS, training__checkpoint_every=8,
        training__keep_last=9,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEBIASCTL_HOME", str(tmp_path_factory.mktemp("power")))
        run, training = train("power", spec), set_up_tiny(spec)
    for step in range(STEPS):
        train_step(training, step)
        if (step + 1) % 2 == 0:
            write_snapshot(run, capture_snapshot(training.ema, step=step + 1))
    return run.path


@pytest.fixture
def power_run(_power_run: Path, debiasctl_home: Path) -> Run:
    """A tiny run with a snapshot every 2 steps, made here by the steps that training makes."""
    return Run(Path(shutil.copytree(_power_run, debiasctl_home / "runs" / "power")))


def test_lengths_are_reconstructed_and_kept(power_run: Run) -> None:
    records = json.loads(succeed("ema", "power", "--length", "0.05, 0.10,0.080", "--json").out)["averages"]
    assert [(record["length"], record["step"], record["num_snapshots"]) for record in records] == [
        (0.05, STEPS, 12), (0.1, STEPS, 12), (0.08, STEPS, 12),
    ]  # fmt: skip
    assert [record["reused"] for record in records] == 3 * [False]
    assert records[0]["residual"] == records[1]["residual"] == 0
    assert 0 < records[2]["residual"] < 0.02
    path = Path(records[2]["path"])
    assert path == power_run.path / "ema" / "length-0.08-00000024.safetensors"
    outcome = succeed("ema", "power", "--length", "0.08")
    assert outcome.out.splitlines()[-1] == str(path)
    assert outcome.out.splitlines()[0].split() == ["length", "step", "snapshots", "residual"]
    assert "debiasctl sample power --weights ema:0.08" in outcome.err
    assert json.loads(succeed("ema", "power", "--length", "0.08", "--json").out)["averages"][0]["reused"]


def test_an_earlier_step(power_run: Run) -> None:
    record = json.loads(succeed("ema", "power", "--length", "0.1", "--step", "16", "--json").out)["averages"][0]
    assert (record["step"], record["num_snapshots"]) == (16, 8)


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["power", "--length", "long"], 2, "--length 'long': a length is a number from 0.001 to 0.28"),
        (["power", "--length", "0.1,"], 2, "--length ''"),
        (["power", "--length", "0.27"], 2, "Available lengths: "),
        (["power", "--length", "0.1", "--step", "40"], 2, "up to step 24; it has none for step 40"),
        (["power"], 2, "Missing option '--length'"),
        (["nothing", "--length", "0.1"], 2, "there is no run 'nothing'"),
    ],
)
def test_what_cannot_be_reconstructed(arguments: list[str], code: int, message: str, power_run: Run) -> None:
    assert message in error_of("ema", *arguments, code=code)


def test_a_run_without_snapshots_says_what_makes_them(debiasctl_home: Path) -> None:
    train("plain", make_spec())
    message = error_of("ema", "plain", "--length", "0.1", code=2)
    assert "keeps one average (ema.kind=decay) and no snapshots" in message
    assert "--set ema.kind=power" in message


def test_a_network_takes_the_average(power_run: Run, tmp_path: Path) -> None:
    """The first length from the checkpoint, the others from the snapshots."""
    training = set_up_tiny(power_run.spec())
    other = Run(Path(shutil.copytree(power_run.path, tmp_path / "power")))  # stores averages of its own
    for length in (0.05, 0.1, 0.08):
        checksum = load_average(power_run, training.network, length=length, step=16)
        assert len(checksum) == 64
        expected = load_file(store_average(other, length, step=16).path)
        for name, tensor in training.network.state_dict().items():
            assert torch.equal(tensor, expected[name]), name
    stored = {path.name for path in (power_run.path / "ema").glob("length-*.safetensors")}
    assert stored == {"length-0.1-00000016.safetensors", "length-0.08-00000016.safetensors"}


def test_weights_are_loaded_by_their_names(power_run: Run) -> None:
    network = set_up_tiny(power_run.spec()).network
    ema = load_named_weights(power_run, network, step=16, weights="ema")
    assert load_named_weights(power_run, network, step=16, weights="ema:0.05") == ema
    raw = load_named_weights(power_run, network, step=16, weights="raw")
    other = load_named_weights(power_run, network, step=16, weights="ema:0.08")
    assert len({ema, raw, other}) == 3
