from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler
from sampler_cases import crooked, gaussian, moments, no_noise, numbered_noise, process, random_x

from debiasctl import registry
from debiasctl.builtin.samplers.ddim import DDIM
from debiasctl.builtin.samplers.ddpm import DDPM
from debiasctl.errors import PluginOptionsError, UsageError

MEAN, STD = 0.3, 0.5


def make(**options: object) -> DDIM:
    return DDIM(DDIM.Options(**{"clip_x0": False, **options}))


def test_it_converges_to_the_probability_flow_at_first_order() -> None:
    """For x0 ~ N(mean, std²) the flow keeps (x_t - alpha mean)/sqrt(alpha² std² + sigma²), so its end is known."""
    noise_process = process("linear:num_timesteps=16001,beta_start=0.00001")
    x = random_x(8, 1, 2, 2)
    alpha, sigma = noise_process.alpha[-1], noise_process.sigma[-1]
    exact = MEAN + STD * (x - alpha * MEAN) / (alpha**2 * STD**2 + sigma**2).sqrt()
    errors = []
    for num_steps in (51, 101, 201, 401):
        denoiser = gaussian(noise_process, mean=MEAN, std=STD)
        errors.append((make()(denoiser, x, num_steps=num_steps, noise=no_noise) - exact).abs().max().item())
    assert errors[-1] < 0.01
    for coarse, fine in pairwise(errors):
        assert coarse / fine == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize("num_steps", [1, 2, 7, 50])
@pytest.mark.parametrize("schedule", ["linear", "cosine", "linear:zero_terminal_snr=true"])
def test_a_single_image_is_reached_exactly_in_any_number_of_steps(num_steps: int, schedule: str) -> None:
    denoiser = gaussian(process(schedule), mean=MEAN, std=0.0)
    got = make()(denoiser, random_x(4, 1, 2, 2), num_steps=num_steps, noise=no_noise)
    torch.testing.assert_close(got, torch.full_like(got, MEAN), rtol=0, atol=1e-12)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("num_steps", [1, 2, 20])
def test_every_eta_visits_the_forward_process_own_noise_levels(eta: float, num_steps: int) -> None:
    """arXiv 2010.02502, Lemma 1: with the true x0, x_t ~ N(alpha x0, sigma²) at every t, whatever eta is."""
    forward = process()
    denoiser = gaussian(forward, mean=MEAN, std=0.0)
    start = {"mean": forward.alpha[-1].item() * MEAN, "variance": forward.sigma[-1].item() ** 2}
    got = moments(make(eta=eta), denoiser, num_steps=num_steps, **start)
    visited = [t for _, t in denoiser.asked]
    assert got.means == pytest.approx([*(forward.alpha[visited] * MEAN).tolist(), MEAN], rel=1e-9)
    assert got.variances == pytest.approx([*(forward.sigma[visited] ** 2).tolist(), 0], rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_mean_and_variance_of_the_result(eta: float) -> None:
    forward = process()
    alpha, sigma = forward.alpha[-1].item(), forward.sigma[-1].item()
    got = moments(
        make(eta=eta),
        gaussian(forward, mean=MEAN, std=STD),
        num_steps=1000,
        mean=alpha * MEAN,
        variance=alpha**2 * STD**2 + sigma**2,
    )
    assert got.means[-1] == pytest.approx(MEAN, abs=1e-9)
    assert got.variances[-1] == pytest.approx(STD**2, rel=0.02)


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("num_steps", [1, 2, 13, 100])
def test_eta_one_is_ddpm(clip: bool, num_steps: int) -> None:
    x = random_x(3, 2, 4, 4)
    noise = numbered_noise(x.shape)
    ours = make(eta=1.0, clip_x0=clip)(crooked(process()), x, num_steps=num_steps, noise=noise)
    ancestral = DDPM(DDPM.Options(clip_x0=clip))(crooked(process()), x, num_steps=num_steps, noise=noise)
    torch.testing.assert_close(ours, ancestral, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize(
    "num_steps", [4, 10, 28, 112]
)  # 999 / (num_steps - 1) is whole: diffusers knows no other stride
def test_every_step_is_diffusers(num_steps: int, clip: bool, eta: float) -> None:
    x = random_x(2, 3, 4, 4)
    noise = numbered_noise(x.shape)
    ours = crooked(process())
    result = make(eta=eta, clip_x0=clip)(ours, x, num_steps=num_steps, noise=noise)

    stride, theirs = 999 // (num_steps - 1), crooked(process())
    peer = DDIMScheduler(beta_start=1e-4, beta_end=0.02, clip_sample=clip, prediction_type="sample")
    peer.alphas_cumprod = (
        theirs.alphas_cumprod
    )  # theirs is float32; tests/builtin/schedules compares the tables themselves
    peer.num_inference_steps = 1000 // stride  # it only serves to make the stride
    assert 1000 // peer.num_inference_steps == stride
    for done, t in enumerate(range(999, -1, -stride), start=1):
        mine, asked_t = ours.asked[done - 1]
        assert asked_t == t
        torch.testing.assert_close(mine, x, rtol=1e-6, atol=1e-6)
        estimate = theirs(x, t)
        step = peer.step(estimate.x0, t, x, eta=eta, use_clipped_model_output=clip, variance_noise=noise(done))
        x = step.prev_sample
    torch.testing.assert_close(result, x, rtol=1e-6, atol=1e-6)


def test_clipping_bounds_the_image_and_keeps_x_t_whole() -> None:
    forward = process()
    x = 3 * random_x(2, 1, 4, 4)
    got = make(clip_x0=True)(crooked(forward), x, num_steps=10, noise=no_noise)
    assert got.abs().max() <= 1
    assert make()(crooked(forward), x, num_steps=10, noise=no_noise).abs().max() > 1
    assert DDIM(DDIM.Options()).options.clip_x0 is True
    # one step from x_t with the clipped x0: eps must be what x_t = alpha x0 + sigma eps asks for
    denoiser = crooked(forward)
    make(clip_x0=True)(denoiser, x, num_steps=2, noise=no_noise)
    x_0 = denoiser.asked[1][0]
    image = crooked(forward)(x, 999).x0.clamp(-1, 1)
    eps = (x - forward.alpha[999] * image) / forward.sigma[999]
    torch.testing.assert_close(x_0, forward.alpha[0] * image + forward.sigma[0] * eps)


@pytest.mark.parametrize("num_steps", [1, 2, 9])
@pytest.mark.parametrize("eta", [0.0, 0.5])
def test_what_is_asked_for_and_what_is_told(num_steps: int, eta: float) -> None:
    asked, told, labels = [], [], torch.tensor([1, 0])
    denoiser, x = crooked(process()), random_x(2, 1, 2, 2).float()

    def noise(k: int) -> torch.Tensor:
        asked.append(k)
        return torch.zeros_like(x)

    before = x.clone()
    got = make(eta=eta)(
        denoiser, x, num_steps=num_steps, noise=noise, labels=labels, on_step=lambda done, *_: told.append(done)
    )
    assert (got.shape, got.dtype) == (x.shape, torch.float32)
    assert torch.equal(x, before)
    assert denoiser.nfe == num_steps
    assert all(given is labels for given in denoiser.labels)
    assert told == list(range(1, num_steps + 1))
    assert asked == (list(range(1, num_steps)) if eta else [])


@pytest.mark.parametrize("num_steps", [0, 1001])
def test_steps_that_there_are_not(num_steps: int) -> None:
    with pytest.raises(UsageError, match="choose from 1 to 1000"):
        make()(crooked(process()), random_x(1, 1, 2, 2), num_steps=num_steps, noise=no_noise)


@pytest.mark.parametrize("ref", ["ddim:eta=-0.1", "ddim:eta=1.1", "ddim:clip_x0=perhaps", "ddim:clip=true"])
def test_options_out_of_range(ref: str) -> None:
    with pytest.raises(PluginOptionsError):
        registry.create("samplers", ref)
