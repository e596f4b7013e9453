"""EDM2's training as debiasctl runs it: forced weights, their averages, the learning rate, activations, resuming."""

import json
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path

import measuring
import pytest
import torch
from debiasctl_edm2.learning_rate import EDM2LearningRate
from debiasctl_edm2.normalization import ForcedWeightNormalization
from safetensors.torch import load_file
from torch import nn

import debiasctl
from debiasctl.api import StepContext, UsageError

LR, REFERENCE, WARMUP, BATCH = 0.03, 100, 640, 16
OPTIONS = (
    "--backbone", "edm2:preset=nano", "--prediction", "edm", "--schedule", "edm", "--weighting", "uncertainty",
    "--timesteps", "lognormal:mean=-0.4,std=1.0", "--batch-size", str(BATCH), "--lr", str(LR), "--set",
    "optimizer.betas=[0.9,0.99]", "--set", "optimizer.decay=none", "--set", "optimizer.warmup_steps=0", "--set",
    "optimizer.clip_grad_norm=null", "--set", "ema.kind=power", "--set", "ema.lengths=[0.05,0.10]", "--set",
    "training.log_every=1", "--set", "training.heldout_images=8", "--extension", "forced-weight-normalization",
    "--extension", f"edm2-learning-rate:reference_steps={REFERENCE},warmup_images={WARMUP}",
)  # fmt: skip
GAMMA = 16.97  # of the length 0.05 (Sec. 3.1)


def command(home: Path, *arguments: str) -> None:
    environment = os.environ | {"DEBIASCTL_HOME": str(home), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", "debiasctl", *arguments], capture_output=True, text=True,
                          env=environment, timeout=600, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr


def train(home: Path, name: str, *, steps: int, more: tuple[str, ...] = ()) -> Path:
    command(home, "train", "digits", *OPTIONS, "--steps", str(steps), "--name", name, *more)
    return home / "runs" / name


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def trained(home: Path) -> Path:
    """A run of 200 steps, stopped after the first and resumed, with checkpoints at 0, 1, 2 and 200."""
    more = ("--set", "training.keep_steps=[0,1,2]", "--checkpoint-every", "200", "--max-hours", "1e-9")
    run = train(home, "trained", steps=200, more=more)
    assert json.loads((run / "status.json").read_text())["step"] == 1
    command(home, "train", "--resume", "trained")
    return run


def stored(run: Path, step: int, weights: str) -> nn.Module:
    network = measuring.build()
    network.load_state_dict(load_file(run / "checkpoints" / f"{step:08}" / f"{weights}.safetensors"))
    return network


# ---------------------------------------------------------------- magnitudes


def test_magnitudes_before_training() -> None:
    """On real digits: 0.7 to 1.1 for blocks, 0.35 to 1.15 for the layers inside them.

    Less than 1 is what the zeros beyond the edges of 8 and 4 px and attention's means leave.
    """
    network = measuring.build(preset="micro")
    for least, most in measuring.weights(network).values():
        assert (least, most) == pytest.approx((1, 1), abs=3e-4)
    found = measuring.activations(network)
    assert len(found) == 47
    assert all(0.35 < value < 1.15 for value in found.values()), found
    assert all(0.7 < value < 1.1 for value in blocks(found).values()), found


def blocks(found: dict[str, float]) -> dict[str, float]:
    """Those of the residual stream after each block."""
    assert sum(name.split(".")[-1].isdigit() for name in found) == 10
    return {name: value for name, value in found.items() if name.split(".")[-1].isdigit()}


def circular(monkeypatch) -> None:
    """Convolutions without edges, whose magnitudes are those of the paper's formulas."""

    def forward(self, x, gain=None):
        reach = self.weight.shape[-1] // 2
        padded = nn.functional.pad(x, (reach,) * 4, mode="circular") if reach else x
        return nn.functional.conv2d(padded, self.unit_weight(gain))

    monkeypatch.setattr("debiasctl_edm2.magnitude.Conv.forward", forward)


def mean_magnitude() -> float:
    """The geometric mean over the convolutions of a network without edges."""
    found = measuring.activations(measuring.build(preset="mini"))
    return statistics.geometric_mean(value for name, value in found.items() if "conv" in name)


def test_convolutions_without_edges_have_unit_magnitude(monkeypatch) -> None:
    circular(monkeypatch)
    assert mean_magnitude() == pytest.approx(1, abs=0.08)


@pytest.mark.parametrize("wrong", [0.55, 0.64])
def test_which_would_be_lost_by_another_constant(wrong: float, monkeypatch) -> None:
    circular(monkeypatch)
    monkeypatch.setattr("debiasctl_edm2.magnitude.SILU_MAGNITUDE", wrong)
    assert mean_magnitude() != pytest.approx(1, abs=0.08)


def test_magnitudes_over_200_steps(trained: Path) -> None:
    """Stored weights: 1 to 0.1 %. On digits: 0.8 to 1.4 for the encoder's blocks, 0.8 to 3.5 for the decoder's."""
    for step in (0, 1, 2, 200):
        for name, (least, most) in measuring.weights(stored(trained, step, "model")).items():
            assert (least, most) == pytest.approx((1, 1), abs=1e-3), (step, name)
    for weights in ("model", "ema"):
        found = measuring.activations(stored(trained, 200, weights))
        assert all(0.3 < value < 5 for value in found.values()), found
        for name, value in blocks(found).items():
            assert 0.8 < value < (1.4 if name.startswith("encoder") else 3.5), found


# ---------------------------------------------------------------- forced weight normalization


def step_of(network: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    optimizer.zero_grad()
    network(*measuring.inputs(16, seed=step)).add(1).square().mean().backward()
    optimizer.step()


def test_without_it_weights_grow_and_with_it_they_do_not() -> None:
    grown = []
    for extensions in ([], [ForcedWeightNormalization(ForcedWeightNormalization.Options())]):
        network = measuring.build()
        optimizer = torch.optim.Adam(network.parameters(), lr=0.03)
        for step in range(10):
            step_of(network, optimizer, step)
            for extension in extensions:
                extension.after_step(StepContext(step, network, optimizer))
        grown.append(max(most for _, most in measuring.weights(network).values()))
    assert grown[0] > 1.02
    assert grown[1] == pytest.approx(1, abs=1e-3)


def test_it_changes_nothing_but_the_lengths_of_weight_vectors() -> None:
    """Each is divided by its length in NumPy's arithmetic; gains stay; and the network computes what it did."""
    network = measuring.build()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.03)
    for step in range(3):  # after which gains are not 0
        step_of(network, optimizer, step)
    arguments = measuring.inputs(16)
    before, output = {name: value.clone() for name, value in network.named_parameters()}, network(*arguments)
    ForcedWeightNormalization(ForcedWeightNormalization.Options()).after_step(StepContext(0, network, optimizer))
    for name, value in network.named_parameters():
        expected = before[name].detach().double().numpy()
        if name.endswith("weight"):
            for vector in expected.reshape(len(expected), -1):
                vector /= (vector @ vector / vector.size) ** 0.5
        torch.testing.assert_close(value.detach().double(), torch.from_numpy(expected), rtol=2e-4, atol=0)
    assert output.any()
    torch.testing.assert_close(network(*arguments), output, rtol=0, atol=2e-3)


def test_averages_are_made_of_the_scaled_weights(trained: Path) -> None:
    first, second, average = (
        load_file(trained / "checkpoints" / f"{step:08}" / f"{weights}.safetensors")
        for step, weights in ((1, "model"), (2, "model"), (2, "ema"))
    )
    decay = (1 - 1 / 2) ** (GAMMA + 1)
    assert decay < 1e-5
    later = load_file(trained / "checkpoints" / "00000200" / "ema-0.1.safetensors")
    for name in average:
        expected = decay * first[name].double() + (1 - decay) * second[name].double()
        torch.testing.assert_close(average[name].double(), expected, rtol=1e-6, atol=1e-6)
    name = "encoder.0.residual.conv_in.weight"
    lengths = later[name].flatten(1).norm(dim=1) / math.sqrt(later[name][0].numel())
    assert lengths.max() < 0.9999  # an average of different vectors is shorter; the layers scale it when they use it


def test_weights_from_elsewhere_are_scaled_at_step_0() -> None:
    network = measuring.build()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(3)
    extension = ForcedWeightNormalization(ForcedWeightNormalization.Options())
    extension.on_init(StepContext(0, network, torch.optim.SGD(network.parameters())))
    for least, most in measuring.weights(network).values():
        assert (least, most) == pytest.approx((1, 1), abs=3e-4)


def test_a_network_without_such_layers_is_refused() -> None:
    extension, network = ForcedWeightNormalization(ForcedWeightNormalization.Options()), nn.Linear(2, 2)
    with pytest.raises(UsageError, match=r"Use `model\.backbone=edm2`"):
        extension.on_init(StepContext(0, network, torch.optim.SGD(network.parameters())))


# ---------------------------------------------------------------- the learning rate


def expected_rate(step: int) -> float:
    """Of the `step`-th step, counted from 1, by cases."""
    rate = LR if step <= REFERENCE else LR * (REFERENCE / step) ** 0.5
    return rate * step * BATCH / WARMUP if step * BATCH < WARMUP else rate


def test_the_rate_that_is_logged_is_the_schedules(trained: Path, monkeypatch) -> None:
    monkeypatch.setenv("DEBIASCTL_HOME", str(trained.parent.parent))
    logged = {one["step"]: one["lr"] for one in debiasctl.run("trained").metrics() if one["kind"] == "train"}
    assert set(logged) == set(range(1, 201))
    for step, rate in logged.items():
        assert rate == pytest.approx(expected_rate(step), rel=1e-12), step


@pytest.mark.parametrize(
    ("step", "share"), [(1, 2048e-7), (2441, 0.4999168), (4883, 1), (70_000, 1), (280_000, 0.5), (7_000_000, 0.1)]
)
def test_the_papers_schedule(step: int, share: float) -> None:
    """Warm-up over 10 million images at a batch of 2048, and from step 70,000 on the square root."""
    network = nn.Linear(1, 1)
    context = StepContext(step - 1, network, torch.optim.SGD(network.parameters()), batch_size=2048)
    rate = EDM2LearningRate(EDM2LearningRate.Options()).learning_rate(0.01, context)
    assert rate == pytest.approx(0.01 * share, rel=1e-4)


def test_without_a_warm_up_the_first_step_is_a_whole_one() -> None:
    network = nn.Linear(1, 1)
    extension = EDM2LearningRate(EDM2LearningRate.Options(warmup_images=0))
    assert extension.learning_rate(0.01, StepContext(0, network, torch.optim.SGD(network.parameters()))) == 0.01


def test_a_resumed_run_has_the_same_bits(home: Path, trained: Path) -> None:
    """The first two steps of a run that was stopped between them, and of one that was not."""
    whole = train(home, "whole", steps=2)
    for name in ("model", "ema", "ema-0.1"):
        first, second = (
            load_file(run / "checkpoints" / "00000002" / f"{name}.safetensors") for run in (whole, trained)
        )
        assert first
        assert all(torch.equal(first[key], second[key]) for key in first)
