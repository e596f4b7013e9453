"""UniPC against diffusers, and its options."""

import pytest
import torch
from diffusers import UniPCMultistepScheduler
from sampler_cases import crooked, no_noise, process, random_x, sampler, walk

from debiasctl.builtin.samplers.unipc import UniPC
from debiasctl.diffusion.grid import Spacing, noise_grid

PREDICTIONS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("spacing, to_clean", [("linspace", True), ("karras", True), ("trailing", False)])
@pytest.mark.parametrize("num_steps", [1, 2, 3, 10, 25])
@pytest.mark.parametrize("variant", ["bh1", "bh2"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_every_step_is_diffusers(
    order: int, variant: str, num_steps: int, spacing: Spacing, to_clean: bool, prediction: str
) -> None:
    """diffusers rounds its noise levels to float32, so they are set. To a level with noise, the last steps keep their
    order only without its lower_order_final. Its bh1 gives nan at the clean image (0 times an infinite B(h)), where the
    step is the estimate of x0 itself."""
    grid = noise_grid(process(), num_steps + (not to_clean), spacing=spacing)
    grid = grid if to_clean else grid[:-1]
    x = random_x(2, 3, 4, 4)
    mine = walk(sampler("unipc", order=order, variant=variant), crooked(process()), x, grid, no_noise)

    peer = UniPCMultistepScheduler(
        solver_order=order,
        solver_type=variant,
        prediction_type=PREDICTIONS[prediction],
        lower_order_final=to_clean,
        final_sigmas_type="zero" if to_clean else "sigma_min",
    )
    peer.set_timesteps(num_steps)
    peer.sigmas = torch.tensor([level.sigma / level.alpha for level in grid], dtype=torch.float64)
    peer.set_begin_index(0)
    theirs = crooked(process())
    for k, level in enumerate(grid[:-1], start=1):
        estimate = theirs(x, level.t)
        x = peer.step(getattr(estimate, prediction), peer.timesteps[k - 1], x).prev_sample
        if k == num_steps and to_clean and variant == "bh1":
            assert x.isnan().all()
            x = estimate.x0
        torch.testing.assert_close(mine[k - 1], x, rtol=1e-6, atol=1e-6)


def test_the_corrector_takes_no_forward_of_its_own_and_makes_a_difference() -> None:
    """The predictor of order 1 alone is DDIM."""
    x, unipc, ddim = random_x(2, 1, 4, 4), crooked(process()), crooked(process())
    got = sampler("unipc", order=1, spacing="uniform")(unipc, x, num_steps=6, noise=no_noise)
    alone = sampler("ddim")(ddim, x, num_steps=6, noise=no_noise)
    assert unipc.nfe == ddim.nfe == 6
    assert (got - alone).abs().max() > 0.01
    torch.testing.assert_close(unipc.asked[1][0], ddim.asked[1][0])  # nothing to correct with yet


@pytest.mark.parametrize("options", [{"order": 0}, {"order": 4}, {"variant": "bh3"}, {"stochastic": True}])
def test_options_that_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        UniPC.Options(**options)
