"""The ways of drawing under a base: what they draw, and what they leave as it is."""

from collections import deque

import numpy as np
import pytest
import torch
from scipy import stats
from timestep_cases import context, generator

from debiasctl import registry
from debiasctl.errors import PluginError, UsageError

HISTORY = "loss-second-moment:history=3"


# ---------------------------------------------------------------- stratified


@pytest.mark.parametrize("batch_size", [1, 7, 64])
@pytest.mark.parametrize("shape", [(), (1,)], ids=["one number", "a tensor of one"])
def test_a_stratified_batch_covers_every_stratum_once(batch_size: int, shape: tuple[int, ...]) -> None:
    stratified = registry.create("timesteps", "stratified")
    positions = torch.arange(batch_size)
    for shared in torch.rand(50, generator=generator(), dtype=torch.float64):
        draws = torch.rand(batch_size, generator=generator(1), dtype=torch.float64)
        spread = stratified.spread(draws, shared.reshape(shape), positions, batch_size)
        assert spread.dtype == torch.float64
        assert spread.shape == (batch_size,)
        assert bool(((spread >= 0) & (spread < 1)).all())
        assert torch.equal(torch.sort((spread * batch_size).floor().long()).values, positions)


def test_each_position_of_a_stratified_batch_is_uniform() -> None:
    stratified = registry.create("timesteps", "stratified")
    shared = torch.rand(4000, 1, generator=generator(2), dtype=torch.float64)
    for position in (0, 3, 7):
        numbers = torch.cat([stratified.spread(u, u, torch.tensor([position]), 8) for u in shared])
        assert stats.kstest(numbers.numpy(), "uniform").pvalue > 0.01


def test_a_process_draws_its_own_part_of_the_batch() -> None:
    stratified, shared = registry.create("timesteps", "stratified"), torch.tensor(0.9, dtype=torch.float64)
    draws, positions = torch.zeros(8, dtype=torch.float64), torch.arange(8)
    whole = stratified.spread(draws, shared, positions, 8)
    parts = [stratified.spread(draws[part], shared, positions[part], 8) for part in (slice(0, 4), slice(4, 8))]
    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("base", ["uniform", "laplace", "speed:tau=9"])
def test_stratified_draws_its_base(base: str) -> None:
    shown, stratified = context("cosine"), registry.create("timesteps", f"stratified:base={base}")
    assert torch.equal(stratified.probabilities(shown), stratified.base(shown))


# ---------------------------------------------------------------- importance


@pytest.mark.parametrize("base", ["uniform", "lognormal", "speed"])
def test_importance_draws_base_times_weight(base: str) -> None:
    weight = torch.rand(1000, generator=generator(), dtype=torch.float64) ** 4
    weight[100:150] = 0
    shown, importance = context("linear", weight), registry.create("timesteps", f"importance:base={base}")
    q, under = importance.probabilities(shown), importance.base(shown)
    torch.testing.assert_close(q * (under * weight).sum(), under * weight, rtol=1e-12, atol=0)
    assert bool((q[100:150] == 0).all())
    # so that the corrected loss, weight base/q, counts every drawn error alike
    corrected = (weight * under / q)[weight > 0]
    torch.testing.assert_close(corrected, torch.full_like(corrected, float((under * weight).sum())))


def test_importance_leaves_the_expected_loss() -> None:
    weight, errors = torch.rand(2, 1000, generator=generator(), dtype=torch.float64)
    shown, importance = context("cosine", weight), registry.create("timesteps", "importance:base=lognormal")
    q, under = importance.probabilities(shown), importance.base(shown)
    assert (q * under / q * weight * errors).sum().item() == pytest.approx(float((under * weight * errors).sum()))


def test_importance_of_nothing_is_refused() -> None:
    weight = torch.zeros(1000, dtype=torch.float64)
    importance = registry.create("timesteps", "importance:base=lognormal")
    with pytest.raises(UsageError, match="the loss weight is 0 at every t that base=lognormal draws"):
        importance.probabilities(context("linear", weight))


# ---------------------------------------------------------------- loss-second-moment


class Reference:
    """The sampler of arXiv 2102.09672, Sec. 3.3, in plain Python."""

    def __init__(self, base: list[float], *, history: int, base_share: float) -> None:
        self.base, self.history, self.base_share = base, history, base_share
        self.losses: list[deque[float]] = [deque(maxlen=history) for _ in base]

    def observe(self, t: list[int], losses: list[float]) -> None:
        for timestep, loss in zip(t, losses, strict=True):
            self.losses[timestep].append(loss)

    def probabilities(self) -> list[float]:
        if any(len(seen) < self.history for seen in self.losses):
            return self.base
        sizes = [
            share * (sum(loss**2 for loss in seen) / self.history) ** 0.5
            for share, seen in zip(self.base, self.losses, strict=True)
        ]
        mixed = zip(self.base, sizes, strict=True)
        return [(1 - self.base_share) * size / sum(sizes) + self.base_share * share for share, size in mixed]


@pytest.mark.parametrize("base", ["uniform", "speed:tau=5"])
@pytest.mark.parametrize(("history", "base_share", "batch_size"), [(10, 0.001, 16), (3, 0.2, 40), (1, 1.0, 4)])
def test_loss_second_moment_is_the_slow_one(base: str, history: int, base_share: float, batch_size: int) -> None:
    shown = context("cosine:num_timesteps=25")
    ref = f'loss-second-moment:history={history},base_share={base_share},base="{base}"'
    fast = registry.create("timesteps", ref)
    slow = Reference(fast.base(shown).tolist(), history=history, base_share=base_share)
    seeded, states = generator(3), set()
    for _ in range(60):
        q = fast.probabilities(shown)
        np.testing.assert_allclose(q.numpy(), slow.probabilities(), rtol=1e-12)
        assert q.sum().item() == pytest.approx(1, rel=1e-12)
        states.add(torch.equal(q, fast.base(shown)))
        t = torch.randint(25, (batch_size,), generator=seeded)
        t[: batch_size // 4] = t[0]  # the same t more often in one batch than is remembered
        losses = torch.rand(batch_size, generator=seeded, dtype=torch.float64) * (1 + t)
        fast.observe(t, losses)
        slow.observe(t.tolist(), losses.tolist())
    assert states == {True, False} or base_share == 1


def test_loss_second_moment_waits_for_every_timestep() -> None:
    shown, sampler = context("cosine:num_timesteps=10"), registry.create("timesteps", HISTORY)
    t = torch.arange(10).repeat(3)
    sampler.observe(t[:-1], 1.0 + t[:-1])
    assert torch.equal(sampler.probabilities(shown), sampler.base(shown))
    sampler.observe(t[-1:], 1.0 + t[-1:])
    expected = 0.999 * torch.arange(1, 11, dtype=torch.float64) / 55 + 0.001 / 10
    torch.testing.assert_close(sampler.probabilities(shown), expected, rtol=1e-12, atol=0)


def test_loss_second_moment_does_not_wait_for_what_is_hardly_ever_drawn() -> None:
    """What the base leaves out or almost leaves out is drawn as if its losses were the mean of the others'."""
    shown = context("linear:zero_terminal_snr=true")
    sampler = registry.create("timesteps", "loss-second-moment:history=1,base=lognormal:std=0.5")
    base = sampler.base(shown)
    often = base >= 0.01 / 1000
    assert 0 < int(often.sum()) < 900
    t = often.nonzero().flatten()
    sampler.observe(t[1:], torch.full((len(t) - 1,), 3.0))
    assert torch.equal(sampler.probabilities(shown), base)
    sampler.observe(t[:1], torch.tensor([3.0]))
    torch.testing.assert_close(sampler.probabilities(shown), base, rtol=1e-12, atol=0)
    sampler.observe(t[:1], torch.tensor([30.0]))
    q = sampler.probabilities(shown)
    squares = torch.full_like(base, 9)
    squares[t[0]] = 900
    squares[~often] = (base * squares)[often].sum() / base[often].sum()
    density = base * squares.sqrt()
    expected = 0.999 * density / density.sum() + 0.001 * base
    torch.testing.assert_close(q, expected, rtol=1e-10, atol=0)
    assert torch.equal(q > 0, base > 0)  # or the correction base/q would not be one


def test_loss_second_moment_of_no_losses_at_all_draws_the_base() -> None:
    shown, sampler = context("cosine:num_timesteps=10"), registry.create("timesteps", HISTORY)
    sampler.observe(torch.arange(10).repeat(3), torch.zeros(30))
    assert torch.equal(sampler.probabilities(shown), sampler.base(shown))


def test_loss_second_moment_goes_on_from_its_state() -> None:
    shown, seeded = context("cosine:num_timesteps=10"), generator(4)
    batches = [(torch.randint(10, (32,), generator=seeded), torch.rand(32, generator=seeded)) for _ in range(9)]
    whole, first = registry.create("timesteps", HISTORY), registry.create("timesteps", HISTORY)
    for t, losses in batches:
        whole.observe(t, losses)
    first.probabilities(shown)
    for t, losses in batches[:5]:
        first.observe(t, losses)
    state = first.state_dict()
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    before = {key: value.clone() for key, value in state.items()}
    first.observe(*batches[5])
    assert all(torch.equal(state[key], value) for key, value in before.items())
    for asked_before in (True, False):  # resuming may read the checkpoint before or after the first q
        second = registry.create("timesteps", HISTORY)
        if asked_before:
            second.probabilities(shown)
        second.load_state_dict(state)
        for t, losses in batches[5:]:
            second.observe(t, losses)
        assert torch.equal(second.probabilities(shown), whole.probabilities(shown))
    assert not torch.equal(whole.probabilities(shown), whole.base(shown))


def test_loss_second_moment_observes_before_it_knows_the_schedule() -> None:
    shown = context("cosine:num_timesteps=10")
    early = registry.create("timesteps", HISTORY)
    early.observe(torch.zeros(0, dtype=torch.int64), torch.zeros(0))
    early.observe(torch.tensor([2, 2]), torch.tensor([1.0, 2.0]))
    early.observe(torch.tensor([0, 7]), torch.tensor([3.0, 4.0]))
    again = registry.create("timesteps", HISTORY)
    again.load_state_dict(early.state_dict())
    late = registry.create("timesteps", HISTORY)
    late.probabilities(shown)
    late.observe(torch.tensor([2, 2, 0, 7]), torch.tensor([1.0, 2.0, 3.0, 4.0]))
    for sampler in (early, again):
        sampler.probabilities(shown)
        assert all(torch.equal(value, late.state_dict()[key]) for key, value in sampler.state_dict().items())


def test_loss_second_moment_refuses_what_does_not_fit() -> None:
    short, long = context("cosine:num_timesteps=50"), context("cosine:num_timesteps=60")
    sampler = registry.create("timesteps", HISTORY)
    sampler.probabilities(short)
    with pytest.raises(PluginError, match=r"outside 0 … 49"):
        sampler.observe(torch.tensor([3, 50]), torch.ones(2))
    with pytest.raises(PluginError, match=r"outside 0 … 49"):
        sampler.observe(torch.tensor([-1]), torch.ones(1))
    with pytest.raises(PluginError, match="from a schedule with 50 timesteps, but this one has 60"):
        sampler.probabilities(long)
    other = registry.create("timesteps", "loss-second-moment:history=4")
    with pytest.raises(PluginError, match="has 3 losses for each t, but history=4"):
        other.load_state_dict(sampler.state_dict())
    for asked_before in (True, False):
        resumed = registry.create("timesteps", HISTORY)
        if asked_before:
            resumed.probabilities(long)
        else:
            resumed.load_state_dict(sampler.state_dict())
        with pytest.raises(PluginError, match="from a schedule with 50 timesteps, but this one has 60"):
            resumed.load_state_dict(sampler.state_dict()) if asked_before else resumed.probabilities(long)
    eager = registry.create("timesteps", HISTORY)
    eager.observe(torch.tensor([70]), torch.ones(1))
    with pytest.raises(PluginError, match="from a schedule with 71 timesteps, but this one has 60"):
        eager.probabilities(long)
