"""What is summed up from one logged step to the next."""

from dataclasses import replace

import pytest
import torch
from tiny import make_spec, set_up_tiny, train

from debiasctl.models.heldout import bin_edges
from debiasctl.runs.store import read_metrics
from debiasctl.training.guard import Settled
from debiasctl.training.meters import MACHINE_FIELDS, Meter, flops_per_image, peak_memory
from debiasctl.training.step import train_step


def test_shares_are_each_log_snr_bins_part_of_the_loss() -> None:
    training = set_up_tiny(make_spec(training__batch_size=64, loss__timesteps="importance"))
    meter, expected, number = Meter(), [0.0] * len(bin_edges()), 0
    for step in range(3):
        result = train_step(training, step)
        meter.count(training.guard.settled())
        for loss, weight, snr in zip(result.losses, result.draw.correction, result.draw.levels.snr, strict=True):
            log_snr = float(snr.log())
            place = [
                (low is None or log_snr >= low) and (high is None or log_snr < high) for low, high in bin_edges()
            ].index(True)
            expected[place] += float(loss) * float(weight)
            number += 1
    found = meter.read()
    whole = sum(expected)
    assert [one.share for one in found.loss_shares] == pytest.approx([one / whole for one in expected], rel=1e-6)
    assert [one.log_snr for one in found.loss_shares] == bin_edges()
    assert found.loss == pytest.approx(whole / number, rel=1e-5)
    meter.clear()
    assert meter.state()["num"] == 0


def test_losses_that_are_not_positive_have_no_shares() -> None:
    meter = Meter()
    meter.count([Settled(0, -1.0, 2.0, 0.1, (-0.1,) * len(bin_edges()))])
    assert {one.share for one in meter.read().loss_shares} == {None}


def test_sums_go_into_a_checkpoint_and_out() -> None:
    training = set_up_tiny(make_spec())
    one, other = Meter(), Meter()
    train_step(training, 0)
    one.count(training.guard.settled())
    other.load(one.state())
    assert replace(other.read(), lr=0) == replace(one.read(), lr=0)
    other.load({"loss": 2.0, "grad_norm": 4.0, "num": 2.0})  # of a checkpoint from before there were shares
    assert other.read().loss == 1.0


def test_asking_for_the_sums_changes_none() -> None:
    asked, alone, training = Meter(), Meter(), set_up_tiny(make_spec())
    for step in range(3):
        train_step(training, step)
        settled = training.guard.settled()
        asked.count(settled)
        asked.state()["loss"] = 0.0
        alone.count(settled)
    assert asked.read() == alone.read()


def test_operations_of_a_dense_layer() -> None:
    spec = train("run", make_spec(training__steps=1)).spec()
    count, size = 0, spec.content.image_size

    class Dense(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(size * size, 10)

        def forward(self, x, noise_level, labels=None):
            nonlocal count
            count += 1
            assert labels is not None
            return self.layer(x.flatten(1))

    # a multiplication and an addition for each weight; forward once, backward twice
    assert flops_per_image(Dense(), spec) == 3 * 2 * size * size * 10
    assert count == 1


def test_records_hold_what_the_machine_did() -> None:
    record = next(one for one in read_metrics(train("run", make_spec())) if one.kind == "train")
    assert set(MACHINE_FIELDS) <= record.to_json().keys()
    assert record.peak_memory > 100e6
    assert peak_memory(torch.device("cpu")) >= record.peak_memory
