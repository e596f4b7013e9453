import math

import pytest
from torch import nn

from debiasctl.models.ema import EMA
from debiasctl.models.initial_share import (
    BOUND,
    initial_share,
    planned_note,
    reached_note,
    share_in,
    steps_needed,
)
from debiasctl.specs.sections import DecayEMA, EMASection, HalfLifeEMA, PowerEMA

AVERAGES = [
    DecayEMA(decay=0.9999, warmup=False),
    DecayEMA(decay=0.999, warmup=True),
    DecayEMA(decay=0.5, warmup=True),
    DecayEMA(decay=0.05, warmup=True),
    DecayEMA(decay=0.0, warmup=False),
    HalfLifeEMA(half_life_images=500, rampup_ratio=0.05),
    HalfLifeEMA(half_life_images=500, rampup_ratio=None),
    HalfLifeEMA(half_life_images=20_000, rampup_ratio=0.5),
    PowerEMA(),
]
BATCH = 8


@pytest.mark.parametrize("ema", AVERAGES, ids=str)
def test_the_share_is_what_an_average_holds_of_its_start(ema: EMASection) -> None:
    """Weights that start at 1 and are 0 from the first step on leave their share in the average."""
    network = nn.Linear(1, 1, bias=False).double()
    nn.init.ones_(network.weight)
    average = EMA(network, ema, batch_size=BATCH)
    nn.init.zeros_(network.weight)
    for step in range(1, 401):
        average.update(network, step)
        held = average.network.weight.item()
        assert initial_share(ema, step, batch_size=BATCH) == pytest.approx(held, rel=1e-9, abs=1e-300)
    assert initial_share(ema, 0, batch_size=BATCH) == 1


@pytest.mark.parametrize("ema", AVERAGES, ids=str)
def test_so_it_is_after_many_steps(ema: EMASection) -> None:
    average = EMA(nn.Linear(1, 1), ema, batch_size=BATCH)
    logs = [math.log(decay) if (decay := average.decays(step)[0]) else -math.inf for step in range(1, 30_001)]
    assert initial_share(ema, 30_000, batch_size=BATCH) == pytest.approx(math.exp(math.fsum(logs)), rel=1e-8)


def test_the_published_average_holds_97_percent_after_300_steps() -> None:
    assert initial_share(DecayEMA(decay=0.9999, warmup=False), 300, batch_size=8) == pytest.approx(0.9704, abs=1e-4)
    assert initial_share(DecayEMA(decay=0.9999, warmup=True), 300, batch_size=8) < 1e-12


@pytest.mark.parametrize("ema", AVERAGES, ids=str)
def test_the_steps_needed_are_the_first_that_suffice(ema: EMASection) -> None:
    needed = steps_needed(ema, batch_size=BATCH)
    assert initial_share(ema, needed, batch_size=BATCH) < BOUND
    assert initial_share(ema, needed - 1, batch_size=BATCH) >= BOUND


@pytest.mark.parametrize("steps", [1, 2, 10, 300, 40_000])
@pytest.mark.parametrize("ema", AVERAGES, ids=str)
def test_advice_of_a_note_helps(ema: EMASection, steps: int) -> None:
    note, share = planned_note(ema, steps, batch_size=BATCH), initial_share(ema, steps, batch_size=BATCH)
    assert (note is None) == (share < BOUND) == (reached_note("ema", ema, steps, batch_size=BATCH) is None)
    if note is None:
        return
    for quoted in note.split("`")[1::2]:
        name, _, value = quoted.partition("=")
        if name != "weights":
            changed = type(ema).model_validate(ema.model_dump() | {name.removeprefix("ema."): value})
            assert planned_note(changed, steps, batch_size=BATCH) is None, quoted
    later = int(note.split("rain ")[1].split(" steps")[0].replace(",", ""))
    assert planned_note(ema, later, batch_size=BATCH) is None


def test_raw_weights_and_reconstructed_averages_have_no_share() -> None:
    ema = DecayEMA(decay=0.9999, warmup=False)
    assert share_in("raw", ema, 300, batch_size=8) is None
    assert share_in("ema:0.1", PowerEMA(), 300, batch_size=8) == 0
    for weights in ("raw", "ema:0.1"):
        assert reached_note(weights, ema, 300, batch_size=8) is None
    assert reached_note("ema", ema, 0, batch_size=8) is None  # nothing was trained, whatever the weights
    found = reached_note("ema", ema, 300, batch_size=8)
    assert found is not None
    assert found.startswith("at step 300 97% of the averaged weights are still the initial ones")
