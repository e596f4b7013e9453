import copy
import math
from dataclasses import replace

import pytest
import torch
from tiny import digits, make_spec, randomize, set_up_tiny, write_distribution
from torch.distributions import Normal, kl_divergence

from debiasctl.compute import counter_random
from debiasctl.compute.counter_random import Stream
from debiasctl.errors import TrainingError
from debiasctl.models.objective import build_objective
from debiasctl.specs.sections import OptimizerSection
from debiasctl.training.optimizers import learning_rate
from debiasctl.training.step import train_step

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


def drawn():
    """x0, labels, noise and the uniform numbers for t that counter_random gives for (seed, step)."""
    data, positions = digits(), torch.arange(SIZE)
    chosen = counter_random.order(SEED, epoch=0, size=1501)[STEP * SIZE : (STEP + 1) * SIZE]
    x0 = data.train.images(chosen).to(torch.float32) / 127.5 - 1
    eps = counter_random.normal(SEED, Stream.NOISE, step=STEP, positions=positions, shape=(1, 8, 8))
    uniforms = counter_random.uniform(SEED, Stream.TIMESTEP, step=STEP, positions=positions)
    return x0, data.train.labels(chosen), eps, uniforms


def noised(t):
    x0, labels, eps, _ = drawn()
    alpha, sigma = column(ALPHAS_CUMPROD[t].sqrt()), column((1 - ALPHAS_CUMPROD[t]).sqrt())
    return alpha, sigma, alpha * x0 + sigma * eps, labels


def independent_errors(output, t, prediction):
    x0, _, eps, _ = drawn()
    alpha, sigma, _, _ = noised(t)
    target = {"eps": eps, "x0": x0, "v": alpha * eps - sigma * x0}[prediction]
    return [((output[i] - target[i]) ** 2).mean() for i in range(SIZE)]


def uniform_timesteps():
    return torch.floor(1000 * drawn()[3]).long()


def independent_loss(network, prediction, weight, t=None):
    """weight[t] * mean squared error, averaged."""
    t = uniform_timesteps() if t is None else t
    _, _, x_t, labels = noised(t)
    errors = independent_errors(network(x_t, t.float(), labels), t, prediction)
    return sum(weight[t[i]] * errors[i] for i in range(SIZE)) / SIZE


def set_up_free(**settings):
    """A training with weights at which all matters, whose gradient is not clipped, and a copy of its network."""
    training = set_up_tiny(make_spec(training__seed=SEED, optimizer__clip_grad_norm=None, **settings))
    randomize(training.network)
    return training, copy.deepcopy(training.network)


@pytest.mark.parametrize("normalize", ["mean", "none"])
@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
@pytest.mark.parametrize("weighting", list(WEIGHTS))
def test_loss_is_the_papers_formula(weighting: str, prediction: str, normalize: str) -> None:
    training, network = set_up_free(loss__weighting=weighting, model__prediction=prediction, loss__normalize=normalize)
    weight = WEIGHTS[weighting][prediction]
    weight = weight / weight.mean() if normalize == "mean" else weight
    loss = independent_loss(network, prediction, weight)
    loss.backward()
    norm = torch.cat([parameter.grad.flatten() for parameter in network.parameters()]).norm()
    result = train_step(training, STEP)
    assert result.loss == pytest.approx(loss.item(), rel=1e-5)
    assert result.grad_norm == pytest.approx(norm.item(), rel=1e-4)


@pytest.mark.parametrize("metric", ["huber", "smooth-l1"])
def test_a_huber_loss_takes_the_place_of_the_squared_error(metric: str) -> None:
    training, network = set_up_free(loss__metric=metric, loss__huber_c=0.2, loss__huber_schedule="exponential")
    t = uniform_timesteps()
    _, _, eps, _ = drawn()
    _, _, x_t, labels = noised(t)
    c, d = column(0.2 ** (t.double() / 1000)), network(x_t, t.float(), labels) - eps
    factor = 2 * c if metric == "huber" else 2
    errors = (factor * ((d**2 + c**2).sqrt() - c)).mean(dim=(1, 2, 3))
    weight = WEIGHTS["debiased"]["eps"] / WEIGHTS["debiased"]["eps"].mean()
    loss = (weight[t] * errors).mean()
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
def test_what_is_not_finite_changes_nothing(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    training = set_up_tiny(make_spec(training__seed=SEED))
    for step in range(2):
        train_step(training, step)
    objective = training.objective
    if where == "loss":
        drawn_with, infinite = objective.draw, torch.full((SIZE,), math.inf)
        monkeypatch.setattr(
            objective, "draw", lambda *given, **named: replace(drawn_with(*given, **named), weight=infinite)
        )
    else:
        next(training.network.parameters()).register_hook(lambda gradient: gradient * math.nan)
    before = [copy.deepcopy(part.state_dict()) for part in (training.network, training.ema.network)]
    moments = copy.deepcopy(training.optimizer.state_dict()["state"])
    with pytest.raises(TrainingError) as caught:
        train_step(training, STEP)
    message = str(caught.value)
    assert f"the {where} is not finite at step 4" in message
    named = int(message.partition("at t = ")[2].partition(",")[0])
    assert named in uniform_timesteps().tolist()
    weight_text = "inf" if where == "loss" else f"{objective.tables().weight[named].item():.4g}"
    assert f"weight {weight_text}; norm of the parameters" in message
    for state, part in zip(before, (training.network, training.ema.network), strict=True):
        assert all(torch.equal(state[name], tensor) for name, tensor in part.state_dict().items())
    after = training.optimizer.state_dict()["state"]
    assert all(torch.equal(moments[i][key], after[i][key]) for i in moments for key in moments[i])


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_where_results_are_looked_at_late_weights_stay_those_before_the_first_spoiled_step(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, whose results are waited for two steps later: later, finite steps change nothing either."""
    training = set_up_tiny(make_spec(training__seed=SEED))
    training.guard.lag = 2
    for step in range(2):
        train_step(training, step)
    before = copy.deepcopy(training.network.state_dict())
    moments = copy.deepcopy(training.optimizer.state_dict()["state"])
    norm = math.sqrt(sum(float(value.detach().norm()) ** 2 for value in training.network.parameters()))
    with monkeypatch.context() as patch:
        if where == "loss":
            drawn_with, infinite = training.objective.draw, torch.full((SIZE,), math.inf)
            patch.setattr(
                training.objective,
                "draw",
                lambda *given, **named: replace(drawn_with(*given, **named), weight=infinite),
            )
            train_step(training, 2)
        else:
            hook = next(training.network.parameters()).register_hook(lambda gradient: gradient * math.nan)
            train_step(training, 2)
            hook.remove()
    train_step(training, 3)
    with pytest.raises(TrainingError) as caught:
        train_step(training, 4)
    assert f"the {where} is not finite at step 2" in str(caught.value)
    assert f"norm of the parameters {norm:.4g}" in str(caught.value)
    assert "gradients are not" not in str(caught.value)  # they are step 4's
    assert all(torch.equal(before[name], tensor) for name, tensor in training.network.state_dict().items())
    after = training.optimizer.state_dict()["state"]
    assert all(torch.equal(moments[i][key], after[i][key]) for i in moments for key in moments[i])


def test_looking_late_changes_nothing_of_a_training_that_stays_finite() -> None:
    now, late = (set_up_tiny(make_spec(training__seed=SEED)) for _ in range(2))
    late.guard.lag = 2
    for step in range(4):
        train_step(now, step)
        train_step(late, step)
    late.guard.settle()
    for one, other in zip(now.network.parameters(), late.network.parameters(), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(now.optimizer.state.values(), late.optimizer.state.values(), strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)


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


TIMESTEPS = '''
"""Timestep distributions of a package of its own."""
import torch
from debiasctl.api import TimestepDistribution


class Tilted(TimestepDistribution):
    """Density in proportion to t + 1."""

    corrected = True

    def probabilities(self, context):
        return torch.arange(1, len(context.snr) + 1, dtype=torch.float64)
'''


def test_a_corrected_distribution_changes_the_draws_and_not_the_objective(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = {"debiasctl.timesteps": {"tilted": "tilted_timesteps:Tilted"}}
    write_distribution(
        tmp_path, name="tilted", version="1", entry_points=points, modules={"tilted_timesteps": TIMESTEPS}
    )
    monkeypatch.syspath_prepend(tmp_path)
    training, network = set_up_free(loss__timesteps="tilted")
    plain, tables = build_objective(make_spec()).tables(), training.objective.tables()
    torch.testing.assert_close(tables.weight, plain.weight, rtol=1e-9, atol=0)
    torch.testing.assert_close(tables.probability * tables.correction, plain.probability, rtol=1e-9, atol=0)
    density = torch.arange(1, 1001, dtype=torch.float64)
    density = density / density.sum()
    t = torch.tensor([int((density.cumsum(0) <= u).sum()) for u in drawn()[3]])
    assert not torch.equal(t, uniform_timesteps())
    weight = WEIGHTS["debiased"]["eps"]
    loss = independent_loss(network, "eps", weight / weight.mean() * 0.001 / density, t)
    assert train_step(training, STEP).loss == pytest.approx(loss.item(), rel=1e-5)


def test_a_distribution_that_observes_is_shown_every_weighted_loss() -> None:
    training, network = set_up_free(loss__timesteps="loss-second-moment:history=8", loss__weighting="min-snr")
    t = uniform_timesteps()
    _, _, x_t, labels = noised(t)
    errors = independent_errors(network(x_t, t.float(), labels), t, "eps")
    weight = WEIGHTS["min-snr"]["eps"] / WEIGHTS["min-snr"]["eps"].mean()
    expected = torch.zeros(1000, dtype=torch.float64).index_add(0, t, weight[t] * torch.stack(errors).detach())
    train_step(training, STEP)
    state = training.objective.distribution.state_dict()
    assert torch.equal(state["counts"], torch.bincount(t, minlength=1000))
    torch.testing.assert_close(state["losses"].sum(dim=1), expected, rtol=1e-4, atol=1e-6)


# ---------------------------------------------------------------- other objectives


def test_training_by_edm_is_its_papers_loss_in_continuous_time() -> None:
    """lambda(sigma) ||D(y + n; sigma) - y||² with Table 1's preconditioning and weight (arXiv 2206.00364, Eq. 2)."""
    training, network = set_up_free(
        model__prediction="edm", model__sigma_data=0.3, loss__weighting="edm:sigma_data=0.3", loss__normalize="none",
        diffusion__schedule="edm:sigma_min=0.01,sigma_max=10,num_timesteps=50",
    )  # fmt: skip
    y, labels, noise, uniforms = drawn()
    sigma = column(0.01 * 1000 ** ((50 * uniforms - 0.5) / 49))  # ln sigma linear in t, which runs from -1/2 to 49.5
    total = sigma**2 + 0.3**2
    x = y + sigma * noise
    output = network(x / total.sqrt(), sigma.log().flatten() / 4, labels)
    denoised = 0.09 / total * x + sigma * 0.3 / total.sqrt() * output
    loss = (total / (sigma * 0.3) ** 2 * (denoised - y) ** 2).mean()
    assert train_step(training, STEP).loss == pytest.approx(loss.item(), rel=1e-4)


def independent_bound(output, t):
    """KL(q(x_{t-1} | x_t, x0) || p(x_{t-1} | x_t)) by eps-prediction, bits per dimension, averaged over the batch."""
    x0, _, _, _ = drawn()
    alpha, sigma, x_t, _ = noised(t)
    estimate = (x_t - sigma * output[:, :1]) / alpha
    before, now = column(ALPHAS_CUMPROD[t - 1]).double(), column(ALPHAS_CUMPROD[t]).double()
    beta = 1 - ALPHAS_CUMPROD[t][:, None, None, None] / ALPHAS_CUMPROD[t - 1][:, None, None, None]
    small = (1 - before) / (1 - now) * beta
    fraction = (output[:, 1:] + 1) / 2
    variance = torch.exp(fraction * beta.log() + (1 - fraction) * small.log())

    def mean(image):
        return (before.sqrt() * beta * image + (1 - beta).sqrt() * (1 - before) * x_t) / (1 - now)

    true, predicted = Normal(mean(x0), small.sqrt()), Normal(mean(estimate), variance.sqrt())
    return kl_divergence(true, predicted).mean() / math.log(2)


@pytest.mark.parametrize("variance_weight", [0.0, 0.01, 1.0])
def test_a_learned_variance_adds_its_share_of_the_bound(variance_weight: float) -> None:
    training, network = set_up_free(model__learned_variance=True, loss__variance_weight=variance_weight)
    t = uniform_timesteps()
    assert t.min() > 0
    _, _, x_t, labels = noised(t)
    output = network(x_t, t.float(), labels)
    assert output.shape == (SIZE, 2, 8, 8)
    weight = WEIGHTS["debiased"]["eps"] / WEIGHTS["debiased"]["eps"].mean()
    errors = independent_errors(output[:, :1], t, "eps")
    error, bound = sum(weight[t[i]] * errors[i] for i in range(SIZE)) / SIZE, independent_bound(output, t)
    assert 1000 * bound > error
    loss = error + variance_weight * 1000 * bound
    assert train_step(training, STEP).loss == pytest.approx(loss.item(), rel=1e-4)


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_the_mean_is_not_trained_through_the_bound(prediction: str) -> None:
    def output_gradient(variance_weight: float) -> torch.Tensor:
        training, _ = set_up_free(
            model__learned_variance=True, loss__variance_weight=variance_weight, model__prediction=prediction
        )
        outputs = []
        training.network.register_forward_hook(lambda *parts: (parts[-1].retain_grad(), outputs.append(parts[-1]))[1])
        train_step(training, STEP)
        return outputs[0].grad

    without, balanced = output_gradient(0.0), output_gradient(10.0)
    assert torch.equal(balanced[:, :1], without[:, :1])
    assert bool((without[:, :1] != 0).any())
    assert not bool((without[:, 1:] != 0).any())
    assert bool((balanced[:, 1:].flatten(1).norm(dim=1) > 0).all())
