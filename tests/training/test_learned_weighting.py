"""`uncertainty`: it learns the log of the weighted loss at each noise level, and is trained beside the network."""

import json

import pytest
import torch
from tiny import digits, make_spec, same_state, set_up_tiny, stored_state, train
from torch import Tensor

from debiasctl.diffusion.loss import uncertain_losses, weighted_losses
from debiasctl.diffusion.weighting import bounded_snr
from debiasctl.specs.resolve import load_stored_spec
from debiasctl.training.step import train_step
from debiasctl.training.training import Training

TOLERANCE = 0.1  # of u, which is a logarithm: 10 % of the loss level
EDM = {"model__prediction": "edm", "diffusion__schedule": "edm", "loss__timesteps": "lognormal",
       "loss__weighting": "uncertainty"}  # fmt: skip


def log_snr_visited(training: Training) -> Tensor:
    """log SNR, float64, of the t between the 2nd and the 98th percentile of those that training draws."""
    below = training.objective.tables().probability.cumsum(0)
    return training.objective.process.log_snr[(below > 0.02) & (below < 0.98)]


def learned(training: Training, log_snr: Tensor) -> Tensor:
    assert training.learned is not None
    with torch.no_grad():
        found: Tensor = training.learned.module(log_snr.float())
    return found.double()


def weights(training: Training, log_snr: Tensor) -> Tensor:
    """The effective weight on F at the t of these noise levels."""
    table = training.objective.process.log_snr
    return training.objective.tables().weight[torch.isin(table, log_snr)]


@pytest.mark.parametrize(
    ("weighting", "slope"), [("uncertainty", 1.0), ("uncertainty", 0.9), ("uncertainty:base=debiased", 0.6)]
)
def test_the_loss_level_of_a_linear_denoiser_of_gaussian_data_is_recovered(weighting: str, slope: float) -> None:
    """x0 ~ N(0, s²) and x0_hat = a E[x0 | x_t]: the expected error of x0, and of eps, is known at every SNR.

    With E[x0 | x_t] = m x_t, m = alpha s²/(alpha² s² + sigma²), that of x0 is s² (1 - a alpha m)² + (a m sigma)², and
    that of eps is SNR times it: a = 1 is the best denoiser.
    """
    deviation = 1.5
    training = set_up_tiny(make_spec(**EDM | {"loss__weighting": weighting, "model__prediction": "eps"}))
    objective, module = training.objective, training.learned
    assert module is not None
    generator = torch.Generator().manual_seed(0)
    size, positions = 256, torch.arange(256)

    def gain(alpha: Tensor, sigma: Tensor) -> Tensor:
        return slope * alpha * deviation**2 / (alpha**2 * deviation**2 + sigma**2)

    log_snr, found = log_snr_visited(training), []
    for step in range(600):
        u = torch.rand(size, generator=generator, dtype=torch.float64)
        drawn = objective.draw(u, shared=u[:1], positions=positions, batch_size=size, progress=0)
        x0, eps = torch.randn(2, size, 1, 4, 4, generator=generator, dtype=torch.float64)
        x_t = objective.process.add_noise(deviation * x0, eps, drawn.levels)
        alpha, sigma = (one[:, None, None, None] for one in (drawn.levels.alpha, drawn.levels.sigma))
        eps_hat = (x_t - alpha * gain(alpha, sigma) * x_t) / sigma
        losses = weighted_losses(eps_hat, eps, drawn.weight).float()
        log_variance = module.module(bounded_snr(drawn.levels.snr).log().float())
        module.optimizer.zero_grad()
        (drawn.correction * uncertain_losses(losses, log_variance)).mean().backward()
        module.optimizer.step()
        if step >= 400 and step % 10 == 0:  # Adam's last steps go to and fro about the minimum
            found.append(learned(training, log_snr))

    assert float(log_snr.max() - log_snr.min()) > 9  # noise levels that differ 90-fold
    alpha, sigma = torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()
    error = deviation**2 * (1 - alpha * gain(alpha, sigma)) ** 2 + (gain(alpha, sigma) * sigma) ** 2
    if slope == 1:
        torch.testing.assert_close(error, 1 / (deviation**-2 + log_snr.exp()))
    expected = (weights(training, log_snr) * log_snr.exp() * error).log()
    assert float(expected.max() - expected.min()) > 0.5  # u has something to learn
    assert float((torch.stack(found).mean(0) - expected).abs().max()) < TOLERANCE


@pytest.mark.parametrize(
    "settings",
    [EDM, {"loss__weighting": "uncertainty:base=debiased", "model__prediction": "v", "diffusion__schedule": "cosine"}],
)
def test_training_steps_learn_the_loss_level_of_a_network_that_predicts_nothing(settings: dict[str, str]) -> None:
    """Real digits, and a network that gives 0 and is not trained: the error of F is that of its target.

    With m the mean square of the digits' pixels that is alpha² + sigma² m for v, and for edm, with D = sigma² +
    alpha² sigma_data², (sigma² m/sigma_data² + alpha² sigma_data²)/D.
    """
    training = set_up_tiny(make_spec(**settings, training__batch_size=48, optimizer__lr=1e-30, training__steps=400))
    assert training.learned is not None
    start = {name: one.clone() for name, one in training.learned.module.state_dict().items()}
    for step in range(400):
        train_step(training, step)
    after = training.learned.module.state_dict()
    assert [name for name in start if not torch.equal(start[name], after[name])] == ["weight"]  # features stay

    data = digits().train
    pixels = (data.images(torch.arange(len(data))).double() / 127.5 - 1).square().mean()
    log_snr = log_snr_visited(training)
    alpha2, sigma2 = torch.sigmoid(log_snr), torch.sigmoid(-log_snr)
    if settings["model__prediction"] == "v":
        error = alpha2 + sigma2 * pixels
    else:
        error = (sigma2 * pixels / 0.25 + alpha2 * 0.25) / (sigma2 + alpha2 * 0.25)
    expected = (weights(training, log_snr) * error).log()
    assert float(expected.max() - expected.min()) > 0.5
    assert float((learned(training, log_snr) - expected).abs().max()) < TOLERANCE


def test_the_first_step_is_that_of_the_base() -> None:
    """u is 0 at the start, and neither its gradient nor its optimizer reaches into the network's."""
    plain, over = (
        set_up_tiny(make_spec(loss__weighting=one, optimizer__clip_grad_norm=1e-3))
        for one in ("debiased", "uncertainty:base=debiased")
    )
    results = [train_step(training, 0) for training in (plain, over)]
    assert results[0].loss == results[1].loss
    assert results[0].grad_norm == results[1].grad_norm
    for mine, other in zip(over.network.parameters(), plain.network.parameters(), strict=True):
        assert torch.equal(mine, other)
    assert train_step(plain, 1).loss != train_step(over, 1).loss
    assert plain.learned is None


def test_what_is_learned_starts_from_the_seed_and_leaves_the_network_as_it_is() -> None:
    def frequencies(seed: int) -> Tensor:
        training = set_up_tiny(make_spec(**EDM, training__seed=seed))
        assert training.learned is not None
        found: Tensor = training.learned.module.state_dict()["frequencies"]
        return found

    torch.manual_seed(1)
    before, first = torch.get_rng_state(), frequencies(1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(frequencies(1), first)
    assert not torch.equal(frequencies(2), first)


def test_a_run_learns_and_keeps_what_it_learned() -> None:
    run = train("run", make_spec(**EDM, training__keep_steps=[0]))
    first, last = stored_state(run, 0), stored_state(run, 6)
    assert torch.equal(first["state/weighting/module/weight"], torch.zeros(128))
    assert float(last["state/weighting/module/weight"].abs().min()) > 0
    moment = next(name for name in last if name.startswith("state/weighting/optimizer/") and name.endswith("exp_avg"))
    assert float(last[moment].abs().sum()) > 0
    again = set_up_tiny(run.spec())
    assert again.learned is not None
    assert torch.equal(again.learned.module.state_dict()["frequencies"], last["state/weighting/module/frequencies"])
    plain = stored_state(train("plain", make_spec(**EDM | {"loss__weighting": "edm"})), 6)
    assert plain["state/weighting"] is None
    assert not same_state({name: last[name] for name in first if name.startswith("raw/")}, plain)


def test_what_is_named_inside_is_stored_resolved_and_read_again(tmp_path) -> None:
    table = tmp_path / "weights.csv"
    table.write_text("t,weight\n0,1\n500,3\n999,0.5\n")
    weighting = f"uncertainty:base='product:factors=[p2,\"table:path={table},space=v\"],space=x0'"
    run = train("run", make_spec(loss__weighting=weighting, loss__timesteps="importance:base=lognormal:mean=-0.4"))
    stored = json.loads((run.path / "spec.json").read_text())["loss"]
    product = stored["weighting"]["options"]["base"]
    assert (product["name"], product["distribution"], product["options"]["space"]) == ("product", "debiasctl", "x0")
    p2, read = product["options"]["factors"]
    assert (p2["name"], p2["options"], p2["distribution"]) == ("p2", {"k": 1.0, "gamma": 1.0}, "debiasctl")
    assert read["options"] == {
        "path": str(table), "space": "v", "axis": "t", "points": [[0.0, 1.0], [500.0, 3.0], [999.0, 0.5]],
    }  # fmt: skip
    assert stored["timesteps"]["options"]["base"]["options"] == {"mean": -0.4, "std": 1.2}
    before = set_up_tiny(run.spec()).objective.tables()
    table.unlink()  # its rows are in the spec
    again = load_stored_spec((run.path / "spec.json").read_text(), "spec.json")
    assert again == run.spec()
    after = set_up_tiny(again).objective.tables()
    assert torch.equal(before.weight, after.weight)
    assert torch.equal(before.probability, after.probability)
