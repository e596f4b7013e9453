"""Averages from snapshots, held against averages that were tracked all along."""

import json
import shutil
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file
from tiny import make_spec
from torch import nn

from debiasctl.errors import CheckpointError, DebiasctlError, UsageError
from debiasctl.files import write_json
from debiasctl.models.ema import EMA
from debiasctl.models.ema_snapshots import capture_snapshot, discard_snapshots_after, snapshots, write_snapshot
from debiasctl.models.posthoc_ema import store_average
from debiasctl.runs.store import Run
from debiasctl.specs.sections import DecayEMA, PowerEMA

STEPS, SNAPSHOTS = 4000, 32
TARGETS = (0.03, 0.05, 0.07, 0.1, 0.15, 0.2)


def reconstruct(run: Run, length: float, *, step: int) -> dict[str, torch.Tensor]:
    """The average alone: the run is left without it."""
    stored = store_average(run, length, step=step)
    tensors = load_file(stored.path)
    if not stored.reused:
        for file in (stored.path, stored.path.with_suffix(".json")):
            file.unlink()
    return tensors


def make_classifier() -> nn.Module:
    network = nn.Sequential(nn.Linear(64, 10), nn.BatchNorm1d(10, affine=False)).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)) / 8)
    return network


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, dict[int, dict]]:
    """Softmax regression on scikit-learn's digits in float64: snapshots of two lengths, all targets tracked as well."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images) / 16, torch.tensor(labels)
    run, network = Run(tmp_path_factory.mktemp("runs") / "power"), make_classifier()
    write_json(run.path / "spec.json", make_spec().model_dump(mode="json"))
    ema = EMA(network, PowerEMA(lengths=(0.05, 0.1)))
    tracked = EMA(network, PowerEMA(lengths=TARGETS))
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(1)
    known = {}
    for step in range(1, STEPS + 1):
        batch = torch.randint(len(x), (32,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x[batch]), y[batch]).backward()
        optimizer.step()
        ema.update(network, step)
        tracked.update(network, step)
        if step % (STEPS // SNAPSHOTS) == 0:
            write_snapshot(run, capture_snapshot(ema, step=step))
        if step in (3 * STEPS // 4, STEPS):
            averages = dict(zip(TARGETS, (tracked.network, *tracked.averages.values()), strict=True))
            known[step] = {
                "raw": {name: tensor.clone() for name, tensor in network.state_dict().items()},
                **{
                    length: {name: tensor.clone() for name, tensor in average.state_dict().items()}
                    for length, average in averages.items()
                },
            }
    return run, known


@pytest.fixture
def run(trained: tuple[Run, dict], tmp_path: Path) -> Run:
    """A copy to change."""
    return Run(Path(shutil.copytree(trained[0].path, tmp_path / "power")))


def distance(first: dict, second: dict) -> float:
    return float(sum((first[name] - second[name]).square().sum() for name in ("0.weight", "0.bias")) ** 0.5)


@pytest.mark.parametrize("step", [3 * STEPS // 4, STEPS])
@pytest.mark.parametrize("length", TARGETS)
def test_it_is_the_average_that_is_tracked_directly(trained: tuple, length: float, step: int) -> None:
    """Error below 1 % of the distance between that average and the raw weights."""
    run, known = trained
    found = reconstruct(run, length, step=step)
    direct, raw = known[step][length], known[step]["raw"]
    error = distance(found, direct) / distance(direct, raw)
    print(f"length {length} at step {step}: {error:.2e} of the distance to the raw weights")
    assert error < 0.01
    assert found["0.weight"].dtype == torch.float64
    assert torch.equal(found["1.running_mean"], direct["1.running_mean"])
    if length in (0.05, 0.1):
        assert all(torch.equal(found[name], direct[name]) for name in direct)


def test_it_is_not_one_of_the_stored_ones(trained: tuple) -> None:
    """What the error is measured against is large: the nearest stored average is far from what is wanted."""
    run, known = trained
    direct, raw = known[STEPS][0.15], known[STEPS]["raw"]
    assert distance(reconstruct(run, 0.1, step=STEPS), direct) > 0.1 * distance(direct, raw)


def test_steps_after_the_one_that_is_wanted_do_not_matter(run: Run) -> None:
    before = reconstruct(run, 0.15, step=2000)
    discard_snapshots_after(run, 2000)
    after = reconstruct(run, 0.15, step=2000)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_what_is_stored_is_read_again(run: Run) -> None:
    first = store_average(run, 0.15, step=STEPS)
    assert first.path.name == "length-0.15-00004000.safetensors"
    assert (first.num_snapshots, first.reused) == (SNAPSHOTS, False)
    assert 0 < first.residual < 0.01
    with patch("debiasctl.models.posthoc_ema._add_up", side_effect=AssertionError):
        again = store_average(run, 0.15, step=STEPS)
    assert again.reused
    assert again.sha256 == first.sha256
    changed = list(run.path.glob("ema/00000125.*"))
    for path in changed:
        path.unlink()
    assert not store_average(run, 0.15, step=STEPS).reused  # other snapshots, another sum


# ---------------------------------------------------------------- what cannot be had


@pytest.mark.parametrize(
    "length, step, message",
    [
        (0.005, STEPS, "gives the average of length 0.005 at step 4000: the best fit has a residual of"),
        (0.28, STEPS, "Available lengths: 0.0"),
        (0.1, STEPS - 60, "That step has no snapshot; choose one that has: …, 2875, 3000,"),
        (0.15, STEPS + 1, "has snapshots of its averages up to step 4000; it has none for step 4001"),
        (0.15, 0, "Choose a step from 1 to 4000"),
    ],
)
def test_averages_that_the_snapshots_do_not_give(trained: tuple, length: float, step: int, message: str) -> None:
    with pytest.raises(UsageError) as error:
        reconstruct(trained[0], length, step=step)
    assert message in str(error.value)


@pytest.mark.parametrize("number", [1, 6, 32])
def test_the_lengths_said_to_be_had_can_be_had(run: Run, number: int) -> None:
    step = 125 * number
    discard_snapshots_after(run, step)
    with pytest.raises(UsageError) as error:
        reconstruct(run, 0.28, step=step)
    said = str(error.value).partition("Available lengths: ")[2].partition(". More")[0]
    ends = [float(word) for word in said.replace(",", "").split() if word != "to"]
    assert len(ends) == (2 if number == 32 else 4)  # around both stored lengths, and from many snapshots between them
    for length in ends:
        reconstruct(run, length, step=step)
    for length in (ends[0] - 0.001, ends[-1] + 0.001):
        with pytest.raises(UsageError, match="More snapshots"):
            reconstruct(run, round(length, 3), step=step)


# ---------------------------------------------------------------- snapshots


def test_a_snapshot_states_what_it_is(trained: tuple) -> None:
    found = snapshots(trained[0])
    assert [snapshot.step for snapshot in found] == list(range(125, STEPS + 1, 125))
    assert {snapshot.lengths for snapshot in found} == {(0.05, 0.1)}
    names = set(load_file(found[0].path))
    assert {"0.05/0.weight", "0.1/0.bias", "buffers/1.running_var"} <= names
    assert len(names) == 2 * 2 + 3


def test_equal_averages_have_equal_files(trained: tuple, tmp_path: Path) -> None:
    ema = EMA(make_classifier(), PowerEMA())
    contents = []
    for name in ("a", "b"):
        path = write_snapshot(Run(tmp_path / name), capture_snapshot(ema, step=7))
        contents.append((path.read_bytes(), path.with_suffix(".json").read_bytes()))
    assert contents[0] == contents[1]


def test_other_kinds_have_no_snapshots() -> None:
    with pytest.raises(ValueError, match="power"):
        capture_snapshot(EMA(make_classifier(), DecayEMA()), step=1)


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_snapshot_is_told_of(run: Run, damage: str) -> None:
    path = run.path / "ema" / "00001000.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(data if damage == "flip" else data[:-100])
    with pytest.raises(CheckpointError, match=r"00001000.safetensors of run 'power' is damaged"):
        reconstruct(run, 0.15, step=STEPS)


@pytest.mark.parametrize("text", ["{", "[]", "{}", json.dumps({"step": 5, "lengths": [0.1], "sha256": "0"})])
def test_a_damaged_description_is_told_of(run: Run, text: str) -> None:
    (run.path / "ema" / "00001000.json").write_text(text)
    with pytest.raises(CheckpointError, match="is damaged"):
        reconstruct(run, 0.15, step=STEPS)


@pytest.mark.parametrize(
    ("change", "cause"),
    [({"residual": "small"}, "residual: Input should be a valid number"), ({"sha256": None}, "sha256 is missing")],
)
def test_a_damaged_description_of_a_kept_average_is_told_of(run: Run, change: dict, cause: str) -> None:
    file = store_average(run, 0.07, step=1000).path.with_suffix(".json")
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(CheckpointError, match=rf"length-0\.07-00001000\.json of run 'power' is damaged \({cause}"):
        store_average(run, 0.07, step=1000)


def test_descriptions_are_stored_as_they_always_were(run: Run) -> None:
    average = store_average(run, 0.07, step=1000).path.with_suffix(".json")
    names = ["length", "step", "last_snapshot", "num_snapshots", "residual", "key", "sha256"]
    assert list(json.loads(average.read_text())) == names
    snapshot = json.loads((run.path / "ema" / "00001000.json").read_text())
    assert list(snapshot.items())[:2] == [("step", 1000), ("lengths", [0.05, 0.1])]
    assert list(snapshot)[2:] == ["sha256"]


def test_a_resume_discards_what_comes_after_it(run: Run) -> None:
    kept = store_average(run, 0.07, step=1000).path
    late = [store_average(run, 0.07, step=step).path for step in (1125, STEPS)]
    folder = run.path / "ema"
    shutil.copy(folder / "00000125.safetensors", folder / "00000126.safetensors")  # as a kill leaves it
    (folder / ".00001125.safetensors.1.abc.tmp").write_bytes(b"x")
    (folder / "mine.txt").write_text("x")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    discard_snapshots_after(run, 1000)
    assert [snapshot.step for snapshot in snapshots(run)] == list(range(125, 1001, 125))
    assert kept.exists()
    assert not any(path.exists() for path in late)
    left = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert len(left) == 2 * 8 + 2 + 1
    assert left.items() <= before.items()


def test_a_full_disk_leaves_no_half_of_a_snapshot(run: Run) -> None:
    before = sorted(path.name for path in (run.path / "ema").iterdir())
    ema = EMA(make_classifier(), PowerEMA())
    with patch("os.fsync", side_effect=OSError(28, "No space left")), pytest.raises(DebiasctlError, match="full"):
        write_snapshot(run, capture_snapshot(ema, step=9000))
    assert sorted(path.name for path in (run.path / "ema").iterdir()) == before
