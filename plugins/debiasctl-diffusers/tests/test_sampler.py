"""Every scheduler of the installed diffusers draws what its own loop draws, or is refused with a reason."""

from typing import Any

import diffusers
import pytest
import torch
from debiasctl_diffusers.schedulers import KINDS, REFUSED, installed
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn
from worlds import diffusers_sampler, distance, loop_images, normal, sampler

from debiasctl.api import Estimate, UsageError
from debiasctl.diffusion import (
    DiffusionProcess,
    Parameterization,
    alphas_cumprod_from_betas,
    process_of,
)

LINEAR = DiffusionProcess(alphas_cumprod_from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)))
_TYPES = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
_NO_X0 = (
    "PNDMScheduler", "EulerAncestralDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler",
)  # fmt: skip


class Network(nn.Module):
    """A network whose output is smooth in its input and its noise level."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mix = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor, noise_level: Tensor, labels: Tensor | None = None) -> Tensor:
        shift = torch.zeros(len(x)) if labels is None else labels.to(x.dtype)
        return torch.tanh(self.mix(x) + (noise_level.to(x.dtype) / 1000 + shift)[:, None, None, None])


class NetworkDenoiser:
    """A network with its process as a sampler sees it."""

    null_label = None

    def __init__(self, prediction: Any, process: DiffusionProcess = LINEAR, null_label: int | None = None) -> None:
        self.parameterization, self.process = Parameterization(prediction, process), process
        self.alphas_cumprod, self.num_timesteps = process.alphas_cumprod, process.num_timesteps
        self.network, self.nfe, self.null_label = Network().eval(), 0, null_label

    def __call__(self, x_t: Tensor, t: float, labels: Tensor | None = None) -> Estimate:
        self.nfe += 1
        levels = self.process.levels(torch.full((len(x_t),), t, dtype=torch.float64))
        return self.parameterization.estimate(self.parameterization.run(self.network, x_t, levels, labels), x_t, levels)


def schedule(name: str, **options: Any) -> DiffusionProcess:
    from importlib.metadata import entry_points

    (found,) = entry_points(group="debiasctl.schedules", name=name)
    cls = found.load()
    return process_of(cls(cls.Options(**options)))


def drawn(denoiser: NetworkDenoiser, num_steps: int, labels: Tensor | None = None, **options: Any) -> Tensor:
    made = diffusers_sampler(**options)
    with torch.no_grad():
        return made(denoiser, normal(0), num_steps=num_steps, noise=normal, labels=labels)


def relative(found: Tensor, wanted: Tensor) -> float:
    return distance(found, wanted) / max(1.0, float(wanted.abs().max()))


def test_each_scheduler_of_diffusers_is_known() -> None:
    """One that a newer diffusers adds has to be listed as one that draws images, or as refused with the reason."""
    assert sorted(installed().keys() - KINDS.keys() - REFUSED.keys()) == []
    assert KINDS.keys() <= installed().keys()
    assert not KINDS.keys() & REFUSED.keys()


@pytest.mark.parametrize("prediction", list(_TYPES))
@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind == "table"])
def test_equal_noise_gives_the_images_of_diffusers_own_loop(name: str, prediction: str) -> None:
    cls = getattr(diffusers, name)
    own = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
    if name == "CogVideoXDDIMScheduler":
        own["snr_shift_scale"] = 1.0  # the run's levels as they are
    if prediction == "x0" and name in _NO_X0:
        with pytest.raises((ValueError, NotImplementedError)):
            loop_images(cls(**own, prediction_type="sample"), NetworkDenoiser("x0").network, 10)
        assert drawn(NetworkDenoiser("x0"), 10, scheduler=name).isfinite().all()  # by way of v
        return
    denoiser = NetworkDenoiser(prediction)
    wanted = loop_images(cls(**own, prediction_type=_TYPES[prediction]), denoiser.network, 10)
    assert relative(drawn(denoiser, 10, scheduler=name), wanted) < 2e-6
    assert denoiser.nfe == {"Heun": 19, "KDPM2": 19, "PNDM": 19}.get(next(
        (one for one in ("Heun", "KDPM2", "PNDM") if name.startswith(one)), ""), 10)  # fmt: skip


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind == "flow"])
def test_flow_schedulers_draw_the_images_of_diffusers_own_loop(name: str) -> None:
    for shift in (1.0, 3.0):
        denoiser = NetworkDenoiser("flow", schedule("flow", shift=shift))
        scheduler = getattr(diffusers, name)
        shifted = {} if name == "LTXEulerAncestralRFScheduler" else {"shift": shift}
        wanted = loop_images(scheduler(**shifted), denoiser.network, 10)
        assert distance(drawn(denoiser, 10, scheduler=name), wanted) < 1e-5


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind == "edm"])
def test_edm_schedulers_draw_the_images_of_diffusers_own_loop(name: str) -> None:
    denoiser = NetworkDenoiser("edm", schedule("edm"))
    wanted = loop_images(getattr(diffusers, name)(), denoiser.network, 10)
    assert distance(drawn(denoiser, 10, scheduler=name), wanted) < 1e-5
    assert drawn(NetworkDenoiser("eps"), 10, scheduler=name).isfinite().all()  # and from any other process


@pytest.mark.parametrize(
    ("scheduler", "config"),
    [
        ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True, "solver_order": 3}),
        ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "timestep_spacing": "leading"}),
        ("UniPCMultistepScheduler", {"timestep_spacing": "trailing", "solver_order": 3}),
        ("UniPCMultistepScheduler", {"final_sigmas_type": "sigma_min"}),
        ("EulerDiscreteScheduler", {"use_exponential_sigmas": True}),
        ("DDIMScheduler", {"timestep_spacing": "linspace", "thresholding": True}),
    ],
)
def test_its_configuration_is_honoured(scheduler: str, config: dict[str, Any]) -> None:
    denoiser = NetworkDenoiser("eps")
    found = drawn(denoiser, 10, scheduler=scheduler, config=config)
    wanted = loop_images(getattr(diffusers, scheduler)(beta_start=1e-4, beta_end=0.02, **config), denoiser.network, 10)
    assert relative(found, wanted) < 2e-6
    assert relative(drawn(denoiser, 10, scheduler=scheduler), wanted) > 1e-5


def test_timesteps_that_rounding_makes_equal() -> None:
    """diffusers' own loop would then begin with the second, and end beyond the last."""
    denoiser = NetworkDenoiser("v", schedule("cosine"))
    found = drawn(denoiser, 8, scheduler="dpm-solver", config={"use_karras_sigmas": True})
    assert found.isfinite().all()
    assert denoiser.nfe == 8


def test_numbers_of_a_step_are_honoured() -> None:
    denoiser = NetworkDenoiser("v")
    own = DDIMScheduler(prediction_type="v_prediction", clip_sample=False)
    wanted = loop_images(own, denoiser.network, 10, eta=0.7)
    assert distance(drawn(denoiser, 10, scheduler="ddim", step={"eta": 0.7}, clip_x0=False), wanted) < 5e-6
    with pytest.raises(UsageError, match="no number 'etta'"):
        drawn(denoiser, 10, scheduler="ddim", step={"etta": 0.7})


def test_flow_sigmas_of_other_solvers() -> None:
    """These round timesteps to whole numbers for the network, which is called here at their noise levels themselves."""
    denoiser = NetworkDenoiser("flow", schedule("flow", shift=1.0))
    own = diffusers.UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    found = drawn(denoiser, 10, scheduler="unipc", config={"use_flow_sigmas": True})
    assert distance(found, loop_images(own, denoiser.network, 10)) < 1e-3


def test_zero_terminal_snr() -> None:
    process = schedule("linear", zero_terminal_snr=True)
    denoiser = NetworkDenoiser("v", process)
    own = DDIMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing")
    found = drawn(denoiser, 10, scheduler="ddim", config={"timestep_spacing": "trailing"})
    assert distance(found, loop_images(own, denoiser.network, 10)) < 5e-6
    with pytest.raises(UsageError, match="zero terminal SNR"):
        diffusers_sampler(scheduler="HeunDiscreteScheduler").grid(process, 10)


def test_a_learned_variance_is_given_to_ddpm() -> None:
    class WithVariance(NetworkDenoiser):
        def __call__(self, x_t: Tensor, t: float, labels: Tensor | None = None) -> Estimate:
            found = super().__call__(x_t, t, labels)
            return Estimate(found.x0, found.eps, found.v, torch.full_like(x_t, 0.3), found.prediction)

    denoiser = WithVariance("eps")
    own = diffusers.DDPMScheduler(variance_type="learned_range")
    wanted = loop_images(
        own, lambda x, t: torch.cat([denoiser.network(x, t), torch.full_like(x, -0.4)], dim=1), 10
    )  # fmt: skip
    found = drawn(denoiser, 10, scheduler="ddpm", config={"variance_type": "learned_range"})
    assert distance(found, wanted) < 5e-6
    with pytest.raises(UsageError, match="model trained with"):
        drawn(NetworkDenoiser("eps"), 10, scheduler="ddpm", config={"variance_type": "learned_range"})


def test_guidance_is_that_of_diffusers_pipelines() -> None:
    denoiser, labels = NetworkDenoiser("eps", null_label=2), torch.tensor([0, 1, 0, 1])

    def guided(x: Tensor, t: Tensor) -> Tensor:
        none = denoiser.network(x, t, torch.full_like(labels, 2))
        return none + 2.5 * (denoiser.network(x, t, labels) - none)

    found = drawn(denoiser, 10, labels, scheduler="ddim", guidance=2.5)
    assert distance(found, loop_images(DDIMScheduler(), guided, 10)) < 5e-6


def test_it_is_the_sampler_that_debiasctl_has() -> None:
    """The same solvers of both, from equal noise."""
    denoiser = NetworkDenoiser("v")
    for own, options, theirs in (
        ("ddim", {"spacing": "leading"}, {"scheduler": "ddim"}),
        ("ddpm", {"spacing": "leading"}, {"scheduler": "ddpm"}),
        ("euler", {"spacing": "leading"}, {"scheduler": "dpm-solver", "config": {"solver_order": 1}}),
    ):
        made = sampler(own, **options, clip_x0=False)
        with torch.no_grad():
            wanted = made(denoiser, normal(0), num_steps=10, noise=normal)
        if "config" in theirs:
            theirs = {**theirs, "config": {**theirs["config"], "timestep_spacing": "leading"}}
        found = drawn(denoiser, 10, **theirs, clip_x0=False)
        assert own == "euler" or distance(found, wanted) < 2e-5


@pytest.mark.parametrize("prediction", list(_TYPES))
def test_what_differs_from_diffusers_ddim_is_its_table_in_float32(prediction: str) -> None:
    denoiser = NetworkDenoiser(prediction)
    denoiser.network.double()
    x = normal(0).double()
    with torch.no_grad():
        found = sampler("ddim", spacing="leading", clip_x0=False)(denoiser, x, num_steps=50, noise=normal)
        own = DDIMScheduler(prediction_type=_TYPES[prediction], clip_sample=False)
        distances = []
        for table in (own.alphas_cumprod, LINEAR.alphas_cumprod):
            own.alphas_cumprod, own.final_alpha_cumprod = table, torch.ones((), dtype=table.dtype)
            own.set_timesteps(50)
            y = x
            for t in own.timesteps:
                y = own.step(denoiser.network(y, t.expand(len(y)).double()), t, y).prev_sample
            distances.append(relative(found, y))
    assert 1e-9 < distances[0] < 1e-5
    assert distances[1] < 1e-13


def test_a_table_of_betas() -> None:
    betas = [0.01, 0.05, 0.1]
    process = schedule("diffusers-betas", betas=betas)
    torch.testing.assert_close(process.betas, torch.tensor(betas, dtype=torch.float64))
    for wrong, message in (
        ({"betas": betas, "num_timesteps": 4}, "betas has 3 values"),
        ({"betas": [0.1, 1.0]}, "less"),
    ):
        with pytest.raises(ValueError, match=message):
            schedule("diffusers-betas", **wrong)


def test_steps_are_reported_once_each() -> None:
    for name, calls in (("heun", 19), ("ddim", 10), ("pndm", 19)):
        denoiser = NetworkDenoiser("v")
        seen: list[tuple[int, Tensor]] = []
        with torch.no_grad():
            images = diffusers_sampler(scheduler=name)(
                denoiser,
                normal(0),
                num_steps=10,
                noise=normal,
                on_step=lambda done, x, _, seen=seen: seen.append((done, x)),
            )
        assert [done for done, _ in seen] == list(range(1, 11))
        assert denoiser.nfe == calls
        assert distance(seen[-1][1], images) < 1e-6
        assert all(float(x.std()) < 3 for _, x in seen)  # with alpha² + sigma² = 1


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_others_are_refused_with_the_reason(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} cannot draw a run's images: .{{20}}"):
        diffusers_sampler(scheduler=name).grid(LINEAR, 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheduler": "DPMSolverMultistpScheduler"}, "Did you mean DPMSolverMultistepScheduler"),
        ({"scheduler": "dpm-solvr"}, "Did you mean DPMSolver"),
        ({"scheduler": "eulr"}, "Did you mean EulerDiscreteScheduler"),
        ({"config": {"beta_start": 0.1}}, "beta_start follows from the run"),
        ({"config": {"solver_ordr": 2}}, "Did you mean solver_order"),
        ({"scheduler": "ddim", "config": {"clip_sample": False}}, "clip_x0=false"),
        ({"config": {"algorithm_type": "none"}}, "refuses its configuration"),
        ({"config": {"use_karras_sigmas": True, "use_exponential_sigmas": True}}, "Only one of"),
        ({"scheduler": "ddim", "config": {"steps_offset": 100}}, "visits timestep"),
        ({"scheduler": "lcm", "num_steps": 60}, "refuses its configuration, or 60 steps"),
        ({"scheduler": "flow-match-euler"}, "starts from noise alone"),
        ({"scheduler": "ddpm", "config": {"variance_type": "learned"}}, "not what networks here learn"),
        ({"num_steps": 1001}, "choose from 1 to 1000"),
        ({"num_steps": 0}, "choose 1 or more"),
        ({"scheduler": "edm-euler", "config": {"sigma_max": 1000.0}}, "the run's run from"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_drawn(options: dict[str, Any], message: str) -> None:
    num_steps = options.pop("num_steps", 10)
    with pytest.raises(UsageError, match=message):
        diffusers_sampler(**options).grid(LINEAR, num_steps)


def test_levels_that_rounding_makes_equal_are_refused() -> None:
    process = schedule("cosine", num_timesteps=200)
    with pytest.raises(UsageError, match="one noise level twice in 200 steps"):
        diffusers_sampler(scheduler="dpm-solver").grid(process, 200)
    diffusers_sampler(scheduler="dpm-solver", config={"timestep_spacing": "trailing"}).grid(process, 200)
    with pytest.raises(UsageError, match="no finite levels for 2 steps"):
        diffusers_sampler(scheduler="KDPM2AncestralDiscrete").grid(process, 2)


def test_spacing_is_the_schedulers() -> None:
    with pytest.raises(ValueError, match="timestep_spacing"):
        diffusers_sampler(spacing="karras")


@pytest.mark.parametrize(
    ("short", "name"),
    [
        ("ddim", "DDIMScheduler"), ("dpm-solver-multistep", "DPMSolverMultistepScheduler"),
        ("euler", "EulerDiscreteScheduler"), ("Euler-Ancestral", "EulerAncestralDiscreteScheduler"),
        ("euler-a", "EulerAncestralDiscreteScheduler"), ("unipc", "UniPCMultistepScheduler"),
        ("heun", "HeunDiscreteScheduler"), ("flow-match-euler", "FlowMatchEulerDiscreteScheduler"),
        ("kdpm2", "KDPM2DiscreteScheduler"), ("lms", "LMSDiscreteScheduler"), ("deis", "DEISMultistepScheduler"),
    ],
)  # fmt: skip
def test_short_names(short: str, name: str) -> None:
    from debiasctl_diffusers.schedulers import scheduler_class

    assert scheduler_class(short).__name__ == name


def test_the_shift_is_the_runs() -> None:
    from debiasctl_diffusers.setup import set_up

    found = set_up("flow-match-euler", schedule("flow", shift=2.5), 10, config={}, step={})
    assert isinstance(found.scheduler, FlowMatchEulerDiscreteScheduler)
    assert found.scheduler.config.shift == pytest.approx(2.5)
