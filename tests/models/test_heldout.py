import math

import pytest
import torch
from tiny import digits, make_spec

from debiasctl.compute import counter_random
from debiasctl.compute.counter_random import Stream
from debiasctl.data.heldout_set import HeldoutSet
from debiasctl.models.heldout import LOG_SNR_EDGES, heldout_errors
from debiasctl.models.objective import build_objective

NUM = 20


class Zero(torch.nn.Module):
    """Predicts 0 and keeps what it was given."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.seen, self.channels = [], channels

    def forward(self, x, noise_level, labels=None):
        self.seen.append((x, noise_level, labels))
        return x.new_zeros(len(x), self.channels, 8, 8)


def heldout_set(num_images: int = NUM, conditional: bool = True) -> HeldoutSet:
    return HeldoutSet.of(
        digits().heldout,
        num_images=num_images,
        conditional=conditional,
        device=torch.device("cpu"),
        dtype=torch.float32,
    )


@pytest.mark.parametrize(
    "prediction, schedule",
    [("eps", "linear"), ("x0", "linear"), ("v", "linear"), ("edm", "linear"), ("edm", "edm"), ("flow", "linear")],
)
def test_a_network_that_gives_0_errs_by_its_target(prediction: str, schedule: str) -> None:
    spec = make_spec(model__prediction=prediction, diffusion__schedule=schedule)
    objective, network, heldout = build_objective(spec), Zero(), heldout_set()
    bins = heldout_errors(network, objective, heldout)
    assert [one.log_snr for one in bins] == list(zip([None, *LOG_SNR_EDGES], [*LOG_SNR_EDGES, None], strict=True))
    for number, (one, (_, noise_level, labels)) in enumerate(zip(bins, network.seen, strict=True)):
        low, high = one.log_snr
        t = noise_level.long()
        if prediction == "edm":  # which is told ln(sigma/alpha)/4
            t = (objective.process.log_snr + 8 * noise_level.double()[:, None]).abs().argmin(dim=1)
        elif prediction == "flow":  # which is told 1000 s
            s = 1 / (1 + objective.process.snr.sqrt())
            t = (1000 * s - noise_level.double()[:, None]).abs().argmin(dim=1)
        log_snr = objective.process.log_snr[t]
        assert low is None or bool((log_snr >= low).all())
        assert high is None or bool((log_snr < high).all())
        assert torch.equal(labels, heldout.labels)
        positions = torch.arange(NUM)
        eps = counter_random.normal(0, Stream.HELDOUT, step=2 * number + 1, positions=positions, shape=(1, 8, 8))
        eps, x0 = eps.double(), heldout.x0.double()
        snr = objective.process.snr[t][:, None, None, None]
        alpha, sigma = (snr / (1 + snr)).sqrt(), (1 / (1 + snr)).sqrt()
        skipped = alpha * 0.25 / (sigma**2 + alpha**2 * 0.25) * (alpha * x0 + sigma * eps)
        of_x0 = {
            "eps": eps**2 / snr,
            "x0": x0**2,
            "v": (alpha * eps - sigma * x0) ** 2 / (1 + snr),
            "edm": (x0 - skipped) ** 2,
            "flow": (eps - x0) ** 2 / (1 + snr.sqrt()) ** 2,
        }[prediction]
        # one error in four units
        assert one.x0 == pytest.approx(of_x0.mean().item(), rel=1e-4)
        assert one.eps == pytest.approx((of_x0 * snr).mean().item(), rel=1e-4)
        assert one.flow == pytest.approx((of_x0 * (1 + snr.sqrt()) ** 2).mean().item(), rel=1e-4)
        assert one.v == pytest.approx((of_x0 * (snr + 1)).mean().item(), rel=1e-4)
        for found, error in ((one.x0_std, of_x0), (one.eps_std, of_x0 * snr), (one.v_std, of_x0 * (snr + 1))):
            over_images = error.flatten(1).mean(dim=1).std(correction=0)
            assert found == pytest.approx(over_images.item(), rel=1e-4)
        assert one.num == NUM
        if prediction == "eps":
            assert one.eps == pytest.approx((eps**2).mean().item(), rel=1e-5)


def test_a_network_that_knows_the_noise_has_no_error() -> None:
    objective, heldout = build_objective(make_spec(model__prediction="v")), heldout_set()

    class Knowing(torch.nn.Module):
        def forward(self, x, noise_level, labels=None):
            t = noise_level.long()
            alpha = objective.process.alpha[t][:, None, None, None]
            sigma = objective.process.sigma[t][:, None, None, None]
            eps = (x - alpha * heldout.x0) / sigma
            return (alpha * eps - sigma * heldout.x0).float()

    for one in heldout_errors(Knowing(), objective, heldout):
        assert max(one.eps, one.v) < 1e-6


def test_the_numbers_do_not_depend_on_the_runs_seed_or_loss() -> None:
    def errors(**settings):
        return heldout_errors(Zero(), build_objective(make_spec(**settings)), heldout_set())

    other = errors(training__seed=7, loss__weighting="constant", loss__metric="huber")
    assert errors(training__seed=0) == other


def test_a_learned_variance_does_not_enter_the_numbers() -> None:
    plain, learned = (build_objective(make_spec(model__learned_variance=value)) for value in (False, True))
    assert heldout_errors(Zero(), plain, heldout_set()) == heldout_errors(Zero(2), learned, heldout_set())


def test_bins_that_the_schedule_does_not_enter_are_left_out_and_zero_snr_is_in_the_lowest() -> None:
    few = build_objective(make_spec(diffusion__schedule="linear:num_timesteps=4,beta_start=0.0016,beta_end=0.002"))
    bins = [one.log_snr for one in heldout_errors(Zero(), few, heldout_set())]
    assert bins == [(-4.0, -2.0), (-2.0, 0.0), (0.0, 2.0)]
    zero = build_objective(make_spec(diffusion__schedule="linear:zero_terminal_snr=true", model__prediction="v"))
    lowest = heldout_errors(Zero(), zero, heldout_set())[0]
    assert lowest.log_snr == (None, -8.0)
    assert all(map(math.isfinite, (lowest.eps, lowest.x0, lowest.v)))
