import copy
import math
from dataclasses import replace

import pytest
import torch
from tiny import digits, make_spec, randomize, set_up_tiny, write_distribution

from debiasctl import counter_random
from debiasctl.counter_random import Stream
from debiasctl.errors import DebiasctlError, TrainingError
from debiasctl.specs import OptimizerSection
from debiasctl.training.setup import build_network, build_objective
from debiasctl.training.step import learning_rate, train_step

ALPHAS_CUMPROD = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), dim=0)
SNR = ALPHAS_CUMPROD / (1 - ALPHAS_CUMPROD)
# weights on the error of eps, x0 and v, as the papers write them
WEIGHTS = {
    "constant": {"eps": torch.ones_like(SNR), "x0": SNR, "v": SNR / (SNR + 1)},
    "debiased": {"eps": SNR**-0.5, "x0": SNR**0.5, "v": SNR**0.5 / (SNR + 1)},
    "min-snr": {"eps": SNR.clamp(max=5) / SNR, "x0": SNR.clamp(max=5), "v": SNR.clamp(max=5) / (SNR + 1)},
}
SEED, STEP, SIZE = 5, 4, 8


def column(values):
    return values.to(torch.float32)[:, None, None, None]


def independent_loss(network, prediction, weight):
    """weight[t] * mean squared error, averaged, from the numbers that counter_random gives for (seed, step)."""
    data, positions = digits(), torch.arange(SIZE)
    chosen = counter_random.order(SEED, epoch=0, size=1501)[STEP * SIZE : (STEP + 1) * SIZE]
    x0 = data.train.images(chosen).to(torch.float32) / 127.5 - 1
    t = torch.floor(1000 * counter_random.uniform(SEED, Stream.TIMESTEP, step=STEP, positions=positions)).long()
    eps = counter_random.normal(SEED, Stream.NOISE, step=STEP, positions=positions, shape=(1, 8, 8))
    alpha, sigma = column(ALPHAS_CUMPROD[t].sqrt()), column((1 - ALPHAS_CUMPROD[t]).sqrt())
    output = network(alpha * x0 + sigma * eps, t.float(), data.train.labels(chosen))
    target = {"eps": eps, "x0": x0, "v": alpha * eps - sigma * x0}[prediction]
    errors = [((output[i] - target[i]) ** 2).mean() for i in range(SIZE)]
    return sum(weight[t[i]] * errors[i] for i in range(SIZE)) / SIZE


@pytest.mark.parametrize("normalize", ["mean", "none"])
@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
@pytest.mark.parametrize("weighting", list(WEIGHTS))
def test_loss_is_the_papers_formula(weighting: str, prediction: str, normalize: str) -> None:
    training = set_up_tiny(
        make_spec(
            loss__weighting=weighting, model__prediction=prediction, loss__normalize=normalize,
            training__seed=SEED, optimizer__clip_grad_norm=None,
        )
    )  # fmt: skip
    randomize(training.network)
    network = copy.deepcopy(training.network)
    weight = WEIGHTS[weighting][prediction]
    weight = weight / weight.mean() if normalize == "mean" else weight
    loss = independent_loss(network, prediction, weight)
    loss.backward()
    norm = torch.cat([parameter.grad.flatten() for parameter in network.parameters()]).norm()
    result = train_step(training, STEP)
    assert result.loss == pytest.approx(loss.item(), rel=1e-5)
    assert result.grad_norm == pytest.approx(norm.item(), rel=1e-4)


def test_the_step_is_adamws_down_the_losss_gradient() -> None:
    spec = make_spec(training__seed=SEED, optimizer__lr=0.01, optimizer__weight_decay=0.1, optimizer__warmup_steps=0,
                     optimizer__clip_grad_norm=None, optimizer__decay="none", optimizer__eps=1e-3)  # fmt: skip
    training = set_up_tiny(spec)
    randomize(training.network)
    network = copy.deepcopy(training.network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=0.1, eps=1e-3, foreach=False)
    independent_loss(network, "eps", WEIGHTS["debiased"]["eps"] / WEIGHTS["debiased"]["eps"].mean()).backward()
    optimizer.step()
    train_step(training, STEP)
    for mine, other in zip(training.network.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


def record_inputs(training, steps: int):
    """x_t, t and labels of every step."""
    seen = []
    training.network.register_forward_pre_hook(lambda _, inputs: seen.append([part.clone() for part in inputs]))
    for step in range(steps):
        train_step(training, step)
    return seen


def test_runs_of_one_seed_see_the_same_whatever_their_weighting() -> None:
    def seen(**settings):
        return record_inputs(set_up_tiny(make_spec(**settings)), 4)

    first = seen(loss__weighting="debiased", training__seed=1)
    second = seen(loss__weighting="constant", training__seed=1, model__prediction="v")
    other = seen(loss__weighting="debiased", training__seed=2)
    for one, two, three in zip(first, second, other, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))  # x_t, t, labels
        assert not torch.equal(one[0], three[0])
        assert not torch.equal(one[1], three[1])
    t = torch.stack([one[1] for one in first])
    assert len(t.unique()) > 20  # no step and no image repeats another's


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_what_is_not_finite_changes_nothing(where: str) -> None:
    training = set_up_tiny(make_spec(training__seed=SEED))
    for step in range(2):
        train_step(training, step)
    if where == "loss":
        weight = torch.full_like(training.objective.weight, math.inf)
        training.objective = replace(training.objective, weight=weight)
    else:
        next(training.network.parameters()).register_hook(lambda gradient: gradient * math.nan)
    before = [copy.deepcopy(part.state_dict()) for part in (training.network, training.ema.network)]
    moments = copy.deepcopy(training.optimizer.state_dict()["state"])
    with pytest.raises(TrainingError) as caught:
        train_step(training, STEP)
    t = torch.floor(1000 * counter_random.uniform(SEED, Stream.TIMESTEP, step=STEP, positions=torch.arange(SIZE)))
    message = str(caught.value)
    assert f"the {where} is not finite at step 4" in message
    named = int(message.partition("at t = ")[2].partition(",")[0])
    assert named in t.long().tolist()
    weight_text = "inf" if where == "loss" else f"{training.objective.weight[named].item():.4g}"
    assert f"weight {weight_text})" in message
    for state, part in zip(before, (training.network, training.ema.network), strict=True):
        assert all(torch.equal(state[name], tensor) for name, tensor in part.state_dict().items())
    after = training.optimizer.state_dict()["state"]
    assert all(torch.equal(moments[i][key], after[i][key]) for i in moments for key in moments[i])


@pytest.mark.parametrize("step", [0, 3, 9, 10, 11, 60, 99])
def test_learning_rate(step: int) -> None:
    spec = {"lr": 0.5, "warmup_steps": 10}
    ramp = min((step + 1) / 10, 1)
    done = max(step - 10, 0) / 90  # the share of the steps after the warm-up
    cosine = 0.5 + 0.5 * math.cos(math.pi * done)
    expected = {"none": ramp, "linear": ramp * (1 - done), "cosine": ramp * cosine}
    for decay, value in expected.items():
        assert learning_rate(OptimizerSection(**spec, decay=decay), step, 100) == pytest.approx(0.5 * value, rel=1e-12)


def test_learning_rate_without_warm_up_starts_full_and_ends_near_0() -> None:
    for decay in ("linear", "cosine"):
        spec = OptimizerSection(lr=2.0, decay=decay)
        rates = [learning_rate(spec, step, 1000) for step in range(1000)]
        assert rates[0] == 2
        assert 0 < rates[-1] <= 2 / 999
        assert rates == sorted(rates, reverse=True)
    assert learning_rate(OptimizerSection(lr=2.0, warmup_steps=50), 9, 10) == pytest.approx(0.4)  # all warm-up


def test_the_step_uses_that_learning_rate() -> None:
    spec = make_spec(optimizer__lr=0.25, optimizer__warmup_steps=4, optimizer__decay="cosine", training__steps=9)
    training = set_up_tiny(spec)
    for step in (0, 2, 7):
        expected = learning_rate(spec.optimizer, step, 9)
        assert train_step(training, step).lr == expected
        assert [group["lr"] for group in training.optimizer.param_groups] == [expected]


def test_gradients_are_clipped_to_the_norm_and_the_norm_before_is_reported() -> None:
    def gradients(clip):
        training = set_up_tiny(make_spec(optimizer__clip_grad_norm=clip))
        result = train_step(training, 0)
        return result.grad_norm, torch.cat([one.grad.flatten() for one in training.network.parameters()])

    norm, free = gradients(None)
    clipped_norm, clipped = gradients(norm / 10)
    assert norm == pytest.approx(free.norm().item(), rel=1e-5)
    assert clipped_norm == norm
    torch.testing.assert_close(clipped, free / 10, rtol=1e-4, atol=1e-9)
    assert torch.equal(gradients(norm * 10)[1], free)


def test_timesteps_are_the_quantiles_of_their_distribution() -> None:
    objective = replace(build_objective(make_spec()), cumulative=torch.tensor([0.5, 0.75, 1 - 1e-12]))
    uniforms = torch.tensor([0, 0.4999, 0.5, 0.7499, 0.75, 0.99, 1 - 1e-16], dtype=torch.float64)
    assert objective.timesteps(uniforms).tolist() == [0, 0, 1, 1, 2, 2, 2]


def test_uniform_timesteps_are_the_floor_of_t_times_u() -> None:
    uniforms = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    assert torch.equal(build_objective(make_spec()).timesteps(uniforms), torch.arange(4000) // 4)


TIMESTEPS = '''
"""Timestep distributions of a package of its own."""
import torch
from pydantic import Field
from debiasctl.api import PluginOptions


class Tilted:
    """Density in proportion to t + 1."""

    corrected = True

    class Options(PluginOptions):
        """Options."""

        first: float = Field(1.0, description="what stands at t = 0, to break it")

    def __init__(self, options):
        self.first = options.first

    def probabilities(self, snr):
        density = torch.arange(1, len(snr) + 1, dtype=torch.float64)
        density = density / density.sum()
        density[0] *= self.first
        return density
'''


@pytest.fixture
def tilted(tmp_path, monkeypatch) -> None:
    points = {"debiasctl.timesteps": {"tilted": "tilted_timesteps:Tilted"}}
    write_distribution(
        tmp_path, name="tilted", version="1", entry_points=points, modules={"tilted_timesteps": TIMESTEPS}
    )
    monkeypatch.syspath_prepend(tmp_path)


def test_a_corrected_distribution_changes_the_draws_and_not_the_objective(tilted: None) -> None:
    plain, drawn = build_objective(make_spec()), build_objective(make_spec(loss__timesteps="tilted"))
    density = torch.diff(drawn.cumulative, prepend=torch.zeros(1, dtype=torch.float64))
    torch.testing.assert_close(density * drawn.weight, plain.weight / 1000, rtol=1e-9, atol=0)
    assert drawn.timesteps(torch.tensor([0.25], dtype=torch.float64)).item() == 499  # √0.25 of the way


@pytest.mark.parametrize("first", [0.0, 2.0])
def test_a_distribution_that_is_none_is_refused(tilted: None, first: float) -> None:
    spec = make_spec(loss__timesteps=f"tilted:first={first}")
    with pytest.raises(DebiasctlError, match="timestep distribution 'tilted' gives no probability"):
        build_objective(spec)


def test_weights_are_drawn_from_the_seed_and_leave_the_global_generator_alone() -> None:
    def weights(seed: int):
        network = build_network(make_spec(training__seed=seed), image_size=8, channels=1, num_classes=10)
        return torch.cat([parameter.flatten() for parameter in network.parameters()])

    torch.manual_seed(9)
    before = torch.get_rng_state()
    first = weights(1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(10)
    assert torch.equal(weights(1), first)
    assert not torch.equal(weights(2), first)
