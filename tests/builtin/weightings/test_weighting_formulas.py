"""Every scheme against its paper's formula, its limits, and the other schemes that it is a case of."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from weighting_cases import NAMES, SPACES, make, process, settled

from debiasctl.api import Prediction, Space, WeightingContext
from debiasctl.diffusion.weighting import falling_slope, weight_in
from debiasctl.errors import DebiasctlError

SNR = torch.logspace(-6, 6, 241, dtype=torch.float64)

FORMULAS: dict[str, dict[Prediction, Callable[[Tensor], Tensor]]] = {
    "constant": {"eps": torch.ones_like, "x0": lambda snr: snr, "v": lambda snr: snr / (snr + 1)},
    "constant-x0": {"eps": lambda snr: 1 / snr, "x0": torch.ones_like, "v": lambda snr: 1 / (snr + 1)},
    "constant-v": {"eps": lambda snr: (snr + 1) / snr, "x0": lambda snr: snr + 1, "v": torch.ones_like},
    "constant-flow": {
        "eps": lambda snr: (1 + snr**-0.5) ** 2,
        "x0": lambda snr: (1 + snr**0.5) ** 2,
        "flow": torch.ones_like,
    },
    "debiased": {"eps": lambda snr: snr**-0.5, "x0": lambda snr: snr**0.5, "v": lambda snr: snr**0.5 / (snr + 1)},
    "p2": {"eps": lambda snr: 1 / (1 + snr), "x0": lambda snr: snr / (1 + snr), "v": lambda snr: snr / (1 + snr) ** 2},
    "p2:k=2,gamma=0.5": {"eps": lambda snr: (2 + snr) ** -0.5},
    "min-snr": {
        "eps": lambda snr: snr.clamp(max=5) / snr,
        "x0": lambda snr: snr.clamp(max=5),
        "v": lambda snr: snr.clamp(max=5) / (snr + 1),
    },
    "min-snr:gamma=1": {"v": lambda snr: snr.clamp(max=1) / (snr + 1)},
    "truncated-snr": {
        "eps": lambda snr: (1 / snr).clamp(min=1),
        "x0": lambda snr: snr.clamp(min=1),
        "v": lambda snr: snr.clamp(min=1) / (snr + 1),
    },
    "soft-min-snr": {"eps": lambda snr: 5 / (snr + 5), "x0": lambda snr: 5 * snr / (snr + 5)},
    "soft-min-snr:gamma=4": {"x0": lambda snr: 1 / (1 / snr + 0.5**2)},  # 1/(sigma² + sigma_data²)
    # 2206.00364, Table 1, in sigma² = 1/SNR
    "edm": {"x0": lambda snr: (1 / snr + 0.5**2) / (0.5**2 / snr), "edm": torch.ones_like},
    "edm:sigma_data=1.5": {"x0": lambda snr: (1 / snr + 1.5**2) / (1.5**2 / snr)},
    "debiased-clamped": {"eps": lambda snr: snr.clamp(max=1000) ** -0.5},
    "debiased-clamped:form=v": {"v": lambda snr: 1 / (snr.clamp(max=1000) + 1)},
    "debiased-clamped:form=v,max_snr=2": {"v": lambda snr: 1 / (snr.clamp(max=2) + 1)},
    "onetrainer-v": {"v": lambda snr: 1 / (snr.clamp(max=1000) + 1).sqrt()},
    "onetrainer-v:max_snr=2": {"v": lambda snr: 1 / (snr.clamp(max=2) + 1).sqrt()},
    "onetrainer-v:scheme=p2,gamma=0.5": {"v": lambda snr: (1 + (snr + 1)) ** -0.5},
    "v-pred-like:k=0.3": {"eps": lambda snr: 1 + 0.3 / (snr.clamp(max=1000) / (snr.clamp(max=1000) + 1))},
    "interpolate:p=0.3": {"eps": lambda snr: snr**-0.3},
    "sigmoid:measure=t": {"eps": lambda snr: 1 / (1 + snr * math.exp(-2))},
}


@pytest.mark.parametrize(("ref", "unit"), [(ref, unit) for ref in FORMULAS for unit in FORMULAS[ref]])
def test_every_scheme_is_its_published_formula(ref: str, unit: Prediction) -> None:
    torch.testing.assert_close(weight_in(make(ref), unit, snr=SNR), FORMULAS[ref][unit](SNR), rtol=1e-12, atol=0)


FLOW: dict[str, Callable[[Tensor], Tensor]] = {  # with s the share of noise, s = 1/(1 + √SNR)
    "constant": lambda s: (1 - s) ** 2,
    "debiased": lambda s: s * (1 - s),
    "constant-x0": lambda s: s**2,
    "constant-v": lambda s: (1 - s) ** 2 + s**2,
    "min-snr": lambda s: torch.minimum((1 - s) ** 2, 5 * s**2),
    "p2": lambda s: s**2 * (1 - s) ** 2 / ((1 - s) ** 2 + s**2),
    "constant-flow": torch.ones_like,
    "constant-flow:min_s=0.05": lambda s: s**2 / s.clamp(min=0.05) ** 2,
    "sigma": lambda s: s,
    "sigma-sqrt": lambda s: s**-2.0,
    "cosmap": lambda s: 2 / (math.pi * (1 - 2 * s + 2 * s**2)),
}


@pytest.mark.parametrize("ref", FLOW)
def test_schemes_in_the_unit_of_rectified_flow(ref: str) -> None:
    s = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    torch.testing.assert_close(weight_in(make(ref), "flow", snr=((1 - s) / s) ** 2), FLOW[ref](s), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["sigma-sqrt", "cosmap"])
def test_the_weights_of_u_are_diffusers(name: str) -> None:
    from diffusers.training_utils import compute_loss_weighting_for_sd3

    s = torch.linspace(0.001, 1, 1000, dtype=torch.float64)
    theirs = compute_loss_weighting_for_sd3(name.replace("-", "_"), s).double()
    close = {"rtol": 1e-6 if name == "sigma-sqrt" else 1e-12, "atol": 0.0}  # they round the former to float32
    torch.testing.assert_close(weight_in(make(name), "flow", snr=((1 - s) / s) ** 2), theirs, **close)
    assert (
        float(make(name)(torch.tensor([1e-20], dtype=torch.float64))) == {"sigma-sqrt": 1, "cosmap": 2 / math.pi}[name]
    )


def test_jits_objective_is_constant_flow_with_its_clamp() -> None:
    """Its code has x0-prediction and the loss of (x0 - z)/max(1 - t, 0.05), where t is the share of the image."""
    t = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    snr = (t / (1 - t)) ** 2
    expected = (1 - t).clamp(min=0.05) ** -2
    torch.testing.assert_close(weight_in(make("constant-flow:min_s=0.05"), "x0", snr=snr), expected, rtol=1e-11, atol=0)


def test_sd_scripts_v_prediction_scaled_like_noise_prediction_is_constant_to_a_thousandth() -> None:
    """min(SNR, 1000)/(min(SNR, 1000) + 1) on v, its scale_v_pred_loss_like_noise_pred: no scheme of its own."""
    clamped = SNR.clamp(max=1000)
    ratio = clamped / (clamped + 1) / weight_in(make("constant"), "v", snr=SNR)
    torch.testing.assert_close(ratio[SNR <= 1000], torch.ones_like(ratio[SNR <= 1000]), rtol=1e-12, atol=0)
    assert 0.999 < float(ratio.min()) < 0.9991


# own space; the weight as SNR goes to 0 and to infinity: (c, a) for c SNR^a
LIMITS: dict[str, tuple[Space, tuple[float, float], tuple[float, float]]] = {
    "constant": ("eps", (1, 0), (1, 0)),
    "constant-x0": ("x0", (1, 0), (1, 0)),
    "constant-v": ("v", (1, 0), (1, 0)),
    "constant-flow": ("flow", (1, 0), (1, 0)),
    "constant-flow:min_s=0.1": ("flow", (1, 0), (100, -1)),
    "cosmap": ("flow", (2 / math.pi, 0), (2 / math.pi, 0)),
    "debiased": ("eps", (1, -0.5), (1, -0.5)),
    "debiased-clamped": ("eps", (1, -0.5), (1000**-0.5, 0)),
    "debiased-clamped:form=v": ("v", (1, 0), (1 / 1001, 0)),
    "edm": ("x0", (4, 0), (1, 1)),
    "interpolate": ("eps", (1, -0.5), (1, -0.5)),
    "interpolate:p=0.25": ("eps", (1, -0.25), (1, -0.25)),
    "inverse-snr": ("eps", (1, -1), (1, -1)),
    "min-snr": ("x0", (1, 1), (5, 0)),
    "onetrainer-v": ("v", (1, 0), (1001**-0.5, 0)),
    "onetrainer-v:scheme=p2,gamma=2": ("v", (0.25, 0), (1, -2)),
    "p2": ("eps", (1, 0), (1, -1)),
    "p2:k=4,gamma=0.5": ("eps", (0.5, 0), (1, -0.5)),
    "product:factors=[p2,p2,edm]": ("eps", (4, -1), (1, -2)),
    "product:factors=[p2,edm],space=x0": ("x0", (4, 1), (1, 1)),
    "sigma": ("flow", (1, 0), (1, -0.5)),
    "sigma-sqrt": ("flow", (1, 0), (1, 1)),
    "sigmoid:measure=t": ("eps", (1, 0), (math.exp(2), -1)),
    "soft-min-snr": ("x0", (1, 1), (5, 0)),
    "truncated-snr": ("x0", (1, 0), (1, 1)),
    "uncertainty": ("x0", (4, 0), (1, 1)),
    "v-pred-like": ("eps", (0.5, -1), (1.5005, 0)),
}


@pytest.mark.parametrize("ref", LIMITS)
def test_limits_at_all_noise_and_no_noise(ref: str) -> None:
    space, *limits = LIMITS[ref]
    weighting, ends = make(ref), torch.tensor([1e-12, 1e12], dtype=torch.float64)
    assert weighting.space == space
    expected = [factor * end**power for (factor, power), end in zip(limits, ends.tolist(), strict=True)]
    rtol = 1e-5 if space == "flow" else 1e-9  # in powers of √SNR, limits are reached more slowly
    torch.testing.assert_close(weighting(ends), torch.tensor(expected, dtype=torch.float64), rtol=rtol, atol=0)


def test_no_scheme_is_without_limits() -> None:
    assert set(NAMES) - LIMITS.keys() == {"sigmoid"}  # its limits are the schedule's: below


SAME: list[tuple[str, str, float]] = [
    ("soft-min-snr:gamma=3", "p2:k=3,gamma=1", 3.0),
    ("soft-min-snr:gamma=1", "p2", 1.0),
    ("constant-x0", "inverse-snr", 1.0),
    ("edm:sigma_data=1", "constant-v", 1.0),
    ("p2:gamma=0", "constant", 1.0),
    ("interpolate", "debiased", 1.0),
    ("interpolate:p=0", "constant", 1.0),
    ("interpolate:p=1", "inverse-snr", 1.0),
    (f"sigmoid:measure=t,bias={math.log(3)}", "soft-min-snr:gamma=3", 1.0),
    ("debiased-clamped:max_snr=1e7", "debiased", 1.0),
    ("debiased-clamped:form=v,max_snr=1e7", "inverse-snr", 1.0),
    ("v-pred-like:k=0", "constant", 1.0),
    ("onetrainer-v:scheme=p2,gamma=0", "constant-v", 1.0),
    ("product:factors=[debiased,debiased]", "inverse-snr", 1.0),
    ("product:factors=[debiased]", "debiased", 1.0),
    ("product:factors=[min-snr,constant]", "min-snr", 1.0),
    ("product:factors=[constant-x0,min-snr],space=x0", "min-snr", 1.0),
    ("product:factors=[edm,constant-v],space=v", "edm", 1.0),
    ("uncertainty", "edm", 1.0),
    ("uncertainty:base=debiased", "debiased", 1.0),
]


@pytest.mark.parametrize(("ref", "other", "ratio"), SAME)
def test_schemes_that_are_one(ref: str, other: str, ratio: float) -> None:
    for space in SPACES:
        torch.testing.assert_close(
            weight_in(make(ref), space, snr=SNR), ratio * weight_in(make(other), space, snr=SNR), rtol=1e-12, atol=0
        )


@pytest.mark.parametrize(
    ("ref", "other"),
    [
        ("debiased", "debiased-clamped:form=v"),  # sd-scripts' v form is no debiased, nor its eps form
        ("debiased-clamped", "debiased-clamped:form=v"),
        ("onetrainer-v", "debiased"),  # nor OneTrainer's: three meanings of one name
        ("onetrainer-v", "debiased-clamped:form=v"),
        ("onetrainer-v:scheme=p2", "p2"),
        ("constant", "constant-v"),
        ("product:factors=[debiased,debiased],space=v", "product:factors=[debiased,debiased]"),
        ("min-snr", "soft-min-snr"),
    ],
)
def test_schemes_that_are_two(ref: str, other: str) -> None:
    ratio = weight_in(make(ref), "v", snr=SNR) / weight_in(make(other), "v", snr=SNR)
    assert ratio.max() > 1.5 * ratio.min()


@pytest.mark.parametrize("sigma_data", [0.5, 1.5])
def test_edm_weighs_every_output_of_its_network_alike(sigma_data: float) -> None:
    weight = weight_in(make(f"edm:sigma_data={sigma_data}"), "edm", snr=SNR, sigma_data=sigma_data)
    torch.testing.assert_close(weight, torch.ones_like(SNR), rtol=1e-12, atol=0)


def test_the_sigmoid_of_the_elbo_on_the_cosine_schedule() -> None:
    """Against the derivative, by autograd, of the closed form of the schedule's log SNR."""
    num_timesteps, s, bias = 1000, 0.008, 0.5
    time = (torch.arange(num_timesteps, dtype=torch.float64) + 1) / num_timesteps
    time.requires_grad_()
    start = math.cos(s / (1 + s) * math.pi / 2) ** 2
    alphas_cumprod = torch.cos((time + s) / (1 + s) * math.pi / 2) ** 2 / start
    log_snr = (alphas_cumprod / (1 - alphas_cumprod)).log()
    (slope,) = torch.autograd.grad(log_snr.sum(), time)
    expected = -slope / (1 + (log_snr.detach() - bias).exp())
    snr = process("cosine").snr
    weight = settled(f"sigmoid:bias={bias}", "cosine")(snr)
    torch.testing.assert_close(weight[100:900], expected[100:900], rtol=1e-4, atol=0)
    between = settled(f"sigmoid:bias={bias}", "cosine")((snr[100:900] * snr[101:901]).sqrt())
    torch.testing.assert_close(between, (expected[100:900] * expected[101:901]).sqrt(), rtol=2e-4, atol=0)


def test_the_sigmoid_of_the_elbo_is_one_objective_on_every_schedule() -> None:
    """The mean over t of its weight times an error that depends on λ alone is ∫ sigmoid(bias - λ) error(λ) dλ."""

    def error(log_snr: Tensor) -> Tensor:
        return torch.exp(-(log_snr**2) / 2)

    log_snr = torch.linspace(-20, 20, 40_001, dtype=torch.float64)
    integral = torch.trapezoid(torch.sigmoid(2 - log_snr) * error(log_snr), log_snr)
    for schedule in ("linear", "cosine", "sigmoid", "cosine:num_timesteps=500", "linear:zero_terminal_snr=true"):
        snr = process(schedule).snr
        mean = (settled("sigmoid", schedule)(snr) * error(snr.log())).mean()
        torch.testing.assert_close(mean, integral, rtol=1e-4, atol=0)
        by_t = (settled("sigmoid:measure=t", schedule)(snr) * error(snr.log())).mean()
        assert not math.isclose(by_t, integral, rel_tol=0.1)


@pytest.mark.parametrize("schedule", ["linear", "cosine:zero_terminal_snr=true"])
def test_beyond_the_schedule_the_sigmoid_keeps_the_ends_slopes(schedule: str) -> None:
    table, ends = process(schedule), torch.tensor([1e-20, 1e12], dtype=torch.float64)
    slope = falling_slope(table.log_snr) * table.num_timesteps
    expected = torch.stack([slope[-1], slope[0] * math.exp(2) / 1e12])
    torch.testing.assert_close(settled("sigmoid", schedule)(ends), expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("ref", ["sigmoid", "product:factors=[sigmoid,debiased]", "uncertainty:base=sigmoid"])
def test_without_a_schedule_the_elbo_has_no_measure(ref: str) -> None:
    with pytest.raises(DebiasctlError, match="depends on the schedule"):
        make(ref)(SNR)


def test_a_settled_product_is_the_product_of_the_settled() -> None:
    snr = process("cosine").snr
    product = settled("product:factors=[sigmoid,min-snr,'interpolate:p=0,p_end=1'],space=x0", "cosine", progress=0.5)
    factors = [settled(ref, "cosine") for ref in ("sigmoid", "min-snr", "debiased")]
    expected = torch.stack([weight_in(factor, "x0", snr=snr) for factor in factors]).prod(dim=0)
    torch.testing.assert_close(product(snr), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("ref", "progress", "power"),
    [
        ("interpolate:p=0.2,p_end=1", 0.0, 0.2),
        ("interpolate:p=0.2,p_end=1", 0.5, 0.6),
        ("interpolate:p=0.2,p_end=1", 1.0, 1.0),
        ("interpolate:p=1,p_end=0,until=0.4", 0.1, 0.75),
        ("interpolate:p=1,p_end=0,until=0.4", 0.4, 0.0),
        ("interpolate:p=1,p_end=0,until=0.4", 0.9, 0.0),
        ("interpolate:p=0.3", 0.7, 0.3),
        ("uncertainty:base='interpolate:p=0.2,p_end=1'", 0.5, 0.6),
    ],
)
def test_the_power_moves_with_training(ref: str, progress: float, power: float) -> None:
    torch.testing.assert_close(settled(ref, progress=progress)(SNR), SNR**-power, rtol=1e-12, atol=0)
    torch.testing.assert_close(make(ref)(SNR), settled(ref, progress=0)(SNR), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("ref", "varies"),
    [
        ("interpolate", False),
        ("interpolate:p=0.3,p_end=0.3", False),
        ("interpolate:p=0,p_end=1", True),
        ("interpolate:p=0.5,p_end=0", True),
        ("product:factors=[sigmoid,edm]", False),
        ("product:factors=[edm,'interpolate:p_end=1']", True),
        ("uncertainty", False),
        ("uncertainty:base='product:factors=[\"interpolate:p_end=1\"]'", True),
    ],
)
def test_what_changes_in_training_says_so(ref: str, varies: bool) -> None:
    assert make(ref).varies is varies
    changed = [make(ref).at(WeightingContext(process("linear").snr, progress))(SNR) for progress in (0.2, 0.9)]
    assert torch.equal(*changed) is not varies
