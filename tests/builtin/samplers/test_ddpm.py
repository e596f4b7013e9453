from dataclasses import dataclass, replace

import pytest
import torch
from diffusers import DDPMScheduler
from sampler_cases import (
    KnownDenoiser,
    crooked,
    gaussian,
    moments,
    no_noise,
    numbered_noise,
    process,
    random_x,
    uniform_timesteps,
)

from debiasctl import registry
from debiasctl.api import Estimate
from debiasctl.builtin.samplers.ddpm import DDPM
from debiasctl.diffusion.process import DiffusionProcess
from debiasctl.errors import PluginOptionsError, UsageError

MEAN, STD = 0.3, 0.5


def make(**options: object) -> DDPM:
    return DDPM(DDPM.Options(**{"clip_x0": False, **options}))


@pytest.mark.parametrize("num_steps", [1, 2, 20])
def test_the_small_variance_is_exact_for_a_single_image(num_steps: int) -> None:
    """Where x0 is known the reverse step is the posterior itself (DDPM, §3.2): x_t ~ N(alpha x0, sigma²) throughout."""
    forward = process()
    denoiser = gaussian(forward, mean=MEAN, std=0.0)
    start = {"mean": forward.alpha[-1].item() * MEAN, "variance": forward.sigma[-1].item() ** 2}
    got = moments(make(), denoiser, num_steps=num_steps, **start)
    visited = [t for _, t in denoiser.asked]
    assert got.means == pytest.approx([*(forward.alpha[visited] * MEAN).tolist(), MEAN], rel=1e-9)
    assert got.variances == pytest.approx([*(forward.sigma[visited] ** 2).tolist(), 0], rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("num_steps", [2, 20, 1000])
def test_the_large_variance_is_exact_for_standard_normal_pixels(num_steps: int) -> None:
    """There q(x_{t-1} | x_t) has variance beta (DDPM, §3.2), so x_t stays N(0, 1); the last step adds no noise."""
    forward = process()
    denoiser = gaussian(forward, mean=0.0, std=1.0)
    got = moments(make(variance="fixed-large"), denoiser, num_steps=num_steps, mean=0.0, variance=1.0)
    assert got.means == pytest.approx([0] * (num_steps + 1), abs=1e-12)
    assert got.variances[:-1] == pytest.approx([1] * num_steps, rel=1e-9)
    assert got.variances[-1] == pytest.approx(forward.alphas_cumprod[0].item(), rel=1e-9)


@pytest.mark.parametrize("variance", ["fixed-small", "fixed-large"])
@pytest.mark.parametrize("schedule", ["linear", "cosine", "linear:zero_terminal_snr=true"])
def test_mean_and_variance_of_the_result(variance: str, schedule: str) -> None:
    forward = process(schedule)
    alpha, sigma = forward.alpha[-1].item(), forward.sigma[-1].item()
    got = moments(
        make(variance=variance),
        gaussian(forward, mean=MEAN, std=STD),
        num_steps=1000,
        mean=alpha * MEAN,
        variance=alpha**2 * STD**2 + sigma**2,
    )
    assert got.means[-1] == pytest.approx(MEAN, abs=1e-9)
    assert got.variances[-1] == pytest.approx(STD**2, rel=0.03)


def test_samples_are_normal_within_monte_carlo_error() -> None:
    forward, x = process("linear:num_timesteps=100"), random_x(20_000, 1, 1, 1)
    denoiser = gaussian(forward, mean=MEAN, std=STD)
    expected = moments(make(), gaussian(forward, mean=MEAN, std=STD), num_steps=100, mean=0.0, variance=1.0)
    got = make()(denoiser, x, num_steps=100, noise=numbered_noise(x.shape))
    assert got.mean().item() == pytest.approx(expected.means[-1], abs=4 * STD / len(x) ** 0.5)
    assert got.var().item() == pytest.approx(expected.variances[-1], rel=4 * (2 / len(x)) ** 0.5)


@pytest.mark.parametrize("variance", ["fixed-small", "fixed-large"])
@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("num_steps", [1, 2, 10, 23, 50])
def test_every_step_is_diffusers(monkeypatch: pytest.MonkeyPatch, num_steps: int, clip: bool, variance: str) -> None:
    x = random_x(2, 3, 4, 4)
    noise = numbered_noise(x.shape)
    ours = crooked(process())
    result = make(variance=variance, clip_x0=clip)(ours, x, num_steps=num_steps, noise=noise)

    peer = DDPMScheduler(
        beta_start=1e-4,
        beta_end=0.02,
        clip_sample=clip,
        prediction_type="sample",
        variance_type=variance.replace("-", "_"),
    )
    timesteps = uniform_timesteps(num_steps)
    peer.set_timesteps(timesteps=timesteps)
    theirs = crooked(process())
    peer.alphas_cumprod = (
        theirs.alphas_cumprod
    )  # theirs is float32; tests/builtin/schedules compares the tables themselves
    for done, t in enumerate(timesteps, start=1):
        mine, asked_t = ours.asked[done - 1]
        assert asked_t == t
        torch.testing.assert_close(mine, x, rtol=1e-6, atol=1e-6)
        # diffusers adds noise wherever t > 0, and so at the last step where that is the only one
        z = noise(done) if done < num_steps else torch.zeros_like(x)
        monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, z=z, **__: z)
        x = peer.step(theirs(x, t).x0, t, x).prev_sample
    torch.testing.assert_close(result, x, rtol=1e-6, atol=1e-6)


def test_clipping_is_the_default_and_bounds_the_image() -> None:
    x = 3 * random_x(2, 1, 4, 4)
    noise = numbered_noise(x.shape)
    assert DDPM(DDPM.Options())(crooked(process()), x, num_steps=10, noise=noise).abs().max() <= 1
    assert make()(crooked(process()), x, num_steps=10, noise=noise).abs().max() > 1


def test_one_step_is_the_estimate_itself() -> None:
    forward, x = process(), random_x(2, 1, 2, 2)
    got = make()(crooked(forward), x, num_steps=1, noise=no_noise)
    torch.testing.assert_close(got, crooked(forward)(x, 999).x0, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("num_steps", [1, 2, 9])
def test_what_is_asked_for_and_what_is_told(num_steps: int) -> None:
    asked, told, labels = [], [], torch.tensor([1, 0])
    denoiser, x = crooked(process()), random_x(2, 1, 2, 2).float()

    def noise(k: int) -> torch.Tensor:
        asked.append(k)
        return torch.zeros_like(x)

    before = x.clone()
    got = make()(
        denoiser, x, num_steps=num_steps, noise=noise, labels=labels, on_step=lambda done, *_: told.append(done)
    )
    assert (got.shape, got.dtype) == (x.shape, torch.float32)
    assert torch.equal(x, before)
    assert denoiser.nfe == num_steps
    assert all(given is labels for given in denoiser.labels)
    assert told == list(range(1, num_steps + 1))
    assert asked == list(range(1, num_steps))


@pytest.mark.parametrize("variance", ["fixed-small", "fixed-large"])
def test_the_noise_has_the_respaced_process_own_variance(variance: str) -> None:
    """Few steps are longer steps: their variance is the respaced posterior's or beta, not the one-step one's."""
    forward = process()
    x, num_steps = torch.zeros(2, 1, 1, 1, dtype=torch.float64), 5

    def noise(k: int) -> torch.Tensor:
        return torch.tensor([0.0, 1.0], dtype=torch.float64).reshape(2, 1, 1, 1)

    denoiser = gaussian(forward, mean=0.0, std=0.0)  # x0_hat = 0: x shows the noise of one step and what is left of it
    make(variance=variance)(denoiser, x, num_steps=num_steps, noise=noise)
    respaced = DiffusionProcess(forward.alphas_cumprod[uniform_timesteps(num_steps)[::-1]])
    table = respaced.posterior_variance if variance == "fixed-small" else respaced.betas
    first = denoiser.asked[1][0]
    assert (first[1] - first[0]).item() == pytest.approx(table[-1].sqrt().item(), rel=1e-12)


@dataclass
class WithFraction:
    """A denoiser whose learned variance is the same everywhere."""

    inner: KnownDenoiser
    fraction: float

    @property
    def alphas_cumprod(self) -> torch.Tensor:
        return self.inner.alphas_cumprod

    null_label = None

    def __call__(self, x_t: torch.Tensor, t: float, labels: torch.Tensor | None = None) -> Estimate:
        return replace(self.inner(x_t, t, labels), variance_fraction=torch.full_like(x_t, self.fraction))


@pytest.mark.parametrize("schedule", ["linear", "cosine:zero_terminal_snr=true"])
@pytest.mark.parametrize("num_steps", [1, 2, 10, 100])
def test_a_learned_variance_lies_between_the_two_fixed_ones(schedule: str, num_steps: int) -> None:
    """Of the respaced process too, whose steps are longer than those that the network was trained on."""
    forward, x = process(schedule), random_x(2, 1, 4, 4)
    noise = numbered_noise(x.shape)

    def draw(fraction: float, variance: str) -> torch.Tensor:
        return make(variance=variance)(WithFraction(crooked(forward), fraction), x, num_steps=num_steps, noise=noise)

    small, large = draw(0.5, "fixed-small"), draw(0.5, "fixed-large")
    torch.testing.assert_close(draw(0.0, "learned"), small, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(draw(1.0, "learned"), large, rtol=1e-9, atol=1e-9)
    if num_steps > 1:
        assert not torch.allclose(draw(0.5, "learned"), small)
        assert not torch.allclose(draw(0.5, "learned"), large)


def test_a_learned_variance_is_refused_where_none_was_learned() -> None:
    with pytest.raises(UsageError, match=r"model\.learned_variance=true`; for this one choose variance=fixed-small"):
        make(variance="learned")(crooked(process()), random_x(1, 1, 2, 2), num_steps=2, noise=numbered_noise)


@pytest.mark.parametrize("ref", ["ddpm:variance=large", "ddpm:eta=1", "ddpm:clip_x0=2"])
def test_options_out_of_range(ref: str) -> None:
    with pytest.raises(PluginOptionsError):
        registry.create("samplers", ref)


def test_by_default_the_variance_is_the_learned_one_where_there_is_one() -> None:
    """As the published samplers of models with a learned variance do."""
    x = random_x(2, 1, 2, 2)

    def draw(denoiser: KnownDenoiser | WithFraction, **options: object) -> torch.Tensor:
        return make(**options)(denoiser, x, num_steps=5, noise=numbered_noise(x.shape))

    forward = process()
    plain, learned = crooked(forward), WithFraction(crooked(forward), 0.3)
    assert torch.equal(draw(plain), draw(plain, variance="fixed-small"))
    assert torch.equal(draw(learned), draw(learned, variance="learned"))
    assert not torch.equal(draw(learned), draw(learned, variance="fixed-small"))
