"""Weights in a training loop of one's own: those of the tables, whatever they are asked for by, and refusals."""

import copy
import pickle
import re
from types import SimpleNamespace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from torch import Tensor

import debiasctl
from debiasctl import registry
from debiasctl.api import PluginOptions, UsageError, Weighting, WeightingContext
from debiasctl.diffusion.process import process_of
from debiasctl.diffusion.weighting import bounded_snr, weight_in
from debiasctl.errors import DebiasctlError
from debiasctl.registry import guard

SNR = torch.logspace(-4, 4, 9, dtype=torch.float64)


def table_of(reference: str, unit: Any, alphas_cumprod: Tensor) -> Tensor:
    """The weights that training has on these levels, whose order need not be that of noise."""
    snr = bounded_snr(alphas_cumprod / (1 - alphas_cumprod))
    weighting = registry.create("weightings", reference).at(WeightingContext(snr.sort(descending=True).values))
    return weight_in(weighting, unit, snr=snr)


# ---------------------------------------------------------------- at noise levels


@pytest.mark.parametrize("unit", ["eps", "x0", "v", "edm", "flow"])
@pytest.mark.parametrize("reference", ["debiased", "min-snr:gamma=3", "sigmoid:measure=t", "constant-flow"])
def test_all_ways_to_name_a_level_give_its_weight(reference: str, unit: Any) -> None:
    w, expected = debiasctl.weighting(reference), weight_in(registry.create("weightings", reference), unit, snr=SNR)
    torch.testing.assert_close(w(SNR, prediction=unit), expected, rtol=1e-15, atol=0)
    torch.testing.assert_close(w(sigma=SNR.rsqrt(), prediction=unit), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(w(s=1 / (1 + SNR.sqrt()), prediction=unit), expected, rtol=1e-9, atol=0)


def test_edm_takes_its_sigma_data() -> None:
    assert debiasctl.weighting("edm")(sigma=0.7, prediction="edm") == pytest.approx(1)
    halved = debiasctl.weighting("constant-x0")(1.0, prediction="edm", sigma_data=0.25)
    assert halved == pytest.approx(1 / (1 + 16))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_tensor_comes_back_as_it_was_given(dtype: torch.dtype) -> None:
    snr = torch.tensor([[0.25], [4.0]], dtype=dtype, requires_grad=True)
    found = debiasctl.weighting("debiased")(snr)
    assert (found.dtype, found.shape, found.requires_grad) == (dtype, snr.shape, False)
    assert found.tolist() == [[2.0], [0.5]]


def test_arrays_and_numbers_come_back_as_they_were_given() -> None:
    w = debiasctl.weighting("debiased")
    found = w(np.array([0.25, 4.0], dtype=np.float32)[::-1])
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.float32
    assert found.tolist() == [0.5, 2.0]
    assert w(np.array([4])).dtype == np.float64
    assert isinstance(w(np.float32(4)), np.float32)
    assert (w(4), w(4.0)) == (0.5, 0.5)
    assert type(w(4)) is float
    assert w(torch.tensor([4])).dtype == torch.get_default_dtype()
    assert w(torch.empty(0)).shape == (0,)


def test_what_is_computed_is_computed_in_float64() -> None:
    snr = torch.tensor([1e-4, 1e-8], dtype=torch.float32)
    exact = weight_in(registry.create("weightings", "p2"), "x0", snr=snr.double())
    assert torch.equal(debiasctl.weighting("p2")(snr, prediction="x0"), exact.float())


@pytest.mark.parametrize("unit", ["x0", "v", "flow"])
def test_levels_without_signal_or_noise_have_finite_weights(unit: Any) -> None:
    ends = torch.tensor([0.0, torch.inf], dtype=torch.float64)
    for reference in ("debiased", "constant", "constant-x0", "p2"):
        w = debiasctl.weighting(reference)
        expected = weight_in(registry.create("weightings", reference), unit, snr=bounded_snr(ends))
        assert torch.equal(w(ends, prediction=unit), expected)
        assert torch.equal(w(s=torch.tensor([1.0, 0.0], dtype=torch.float64), prediction=unit), expected)
        assert torch.equal(w(sigma=torch.tensor([torch.inf, 0.0], dtype=torch.float64), prediction=unit), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "exactly one of `snr`, `sigma`, `s`; none is given"),
        ({"snr": 1.0, "s": 0.5}, "snr and s are given"),
        ({"snr": torch.tensor([1.0, -1.0])}, "`snr` is -1 at index 1; it must be 0 or above"),
        ({"sigma": np.array([[1.0, np.nan]])}, "`sigma` is nan at index 1"),
        ({"s": 1.25}, "`s` is 1.25; it must be from 0 to 1"),
        ({"snr": [1.0]}, "`snr` is a list. Give a torch tensor, a NumPy array or a number"),
        ({"snr": True}, "`snr` is a bool"),
        ({"snr": torch.tensor([True])}, "`snr` is a tensor of bool"),
        ({"snr": np.array(["a"])}, "`snr` is an array of <U1"),
        ({"snr": 1.0, "prediction": "epsilon"}, "unknown `prediction` 'epsilon'"),
        ({"snr": 1.0, "sigma_data": 0.0}, "`sigma_data=0.0` must be above 0"),
        ({"snr": 1.0, "progress": 1.5}, "`progress=1.5` must be from 0 to 1"),
        ({"snr": 0.0}, "eps-prediction has no meaning at SNR 0"),
        ({"s": 1.0, "prediction": "edm"}, "edm-prediction has no meaning at SNR 0"),
        ({"snr": 1.0, "normalize": "mean"}, "these snr alone do not say which. Use for_scheduler"),
        ({"snr": 1.0, "normalize": "sum"}, "choose none or mean"),
    ],
)
def test_what_has_no_meaning_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        debiasctl.weighting("debiased")(**arguments)


def test_a_weight_that_is_too_large_for_the_dtype_is_refused() -> None:
    with pytest.raises(UsageError, match=r"too large for float16. Give float32"):
        debiasctl.weighting("constant-x0")(torch.tensor([1e-6], dtype=torch.float16))


@pytest.mark.parametrize("reference", ["sigmoid", "product:factors=[sigmoid,p2]"])
def test_a_weighting_that_depends_on_the_schedule_asks_for_one(reference: str) -> None:
    w = debiasctl.weighting(reference)
    with pytest.raises(UsageError, match=r"depends on the schedule: use for_scheduler\(scheduler\) or for_schedule"):
        w(SNR)
    process = process_of(registry.create("schedules", "cosine"))
    found = w.for_schedule("cosine", prediction="v").table()
    assert torch.equal(found, table_of(reference, "v", process.alphas_cumprod))


def test_a_table_by_snr_needs_no_schedule(tmp_path: Any) -> None:
    (tmp_path / "w.csv").write_text("snr,weight\n1,2\n100,4\n")
    w = debiasctl.weighting(f"table:path={tmp_path}/w.csv")
    assert w(10.0) == pytest.approx(3)
    with pytest.raises(UsageError, match="covers SNR"):
        w(1000.0)
    (tmp_path / "t.csv").write_text("t,weight\n0,2\n999,4\n")
    by_t = debiasctl.weighting(f"table:path={tmp_path}/t.csv")
    with pytest.raises(UsageError, match="depends on the schedule"):
        by_t(10.0)
    assert by_t.for_schedule("linear")(999) == pytest.approx(4)


def test_a_weighting_that_changes_asks_for_the_progress() -> None:
    w = debiasctl.weighting("interpolate:p=0,p_end=1")
    with pytest.raises(UsageError, match=r"changes during training. Give `progress`"):
        w(4.0)
    assert [w(4.0, progress=progress) for progress in (0, 0.5, 1)] == [1.0, 0.5, 0.25]
    scheduled = w.for_schedule("linear", normalize="mean")
    with pytest.raises(UsageError, match="Give `progress`"):
        scheduled(0)
    for progress in (0.0, 0.5, 1.0):
        assert float(scheduled.table(progress=progress).mean()) == pytest.approx(1)
    both = debiasctl.weighting('product:factors=["interpolate:p=0,p_end=1",sigmoid]')
    with pytest.raises(UsageError, match="depends on the schedule"):
        both(1.0, progress=0.5)


def test_a_learned_weighting_is_refused_with_what_to_do() -> None:
    with pytest.raises(UsageError, match=r"is learned.*Train u too.*or name its base"):
        debiasctl.weighting("uncertainty:base=debiased")


class Negative(Weighting):
    """A formula that is wrong."""

    space = "eps"

    def __call__(self, snr: Tensor) -> Tensor:
        """Return what may not be."""
        return 1 - snr


class Scaled(Weighting):
    """A formula that is other than published until it knows the schedule."""

    space = "eps"
    scale = 1.0

    def at(self, context: WeightingContext) -> "Scaled":
        """Return it scaled by the schedule's length."""
        self.scale = float(len(context.snr))
        return self

    def __call__(self, snr: Tensor) -> Tensor:
        """Return the scale."""
        return torch.full_like(snr, self.scale)


def test_a_class_of_ones_own_is_held_to_the_same() -> None:
    with pytest.raises(DebiasctlError, match=r"weighting Negative gives -1.0 at SNR 2"):
        debiasctl.weighting(Negative(PluginOptions()))(2.0)
    with pytest.raises(UsageError, match="weighting Scaled depends on the schedule"):
        debiasctl.weighting(Scaled(PluginOptions()))(2.0)
    assert debiasctl.weighting(Scaled(PluginOptions())).for_schedule("linear:num_timesteps=50")(3) == 50
    with pytest.raises(UsageError, match="by its reference, such as 'min-snr:gamma=5'"):
        debiasctl.weighting(5)  # type: ignore[arg-type]


# ---------------------------------------------------------------- at a scheduler's timesteps

ZERO = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
SCHEDULERS = {
    "ddpm": (diffusers.DDPMScheduler, {}, "eps"),
    "ddpm-x0": (diffusers.DDPMScheduler, {"prediction_type": "sample"}, "x0"),
    "ddpm-zero": (diffusers.DDPMScheduler, {"beta_schedule": "squaredcos_cap_v2", **ZERO}, "v"),
    "ddim-sd": (diffusers.DDIMScheduler, {"beta_schedule": "scaled_linear", "beta_end": 0.012}, "eps"),
    "euler-zero": (diffusers.EulerDiscreteScheduler, ZERO, "v"),
    "pndm-short": (diffusers.PNDMScheduler, {"num_train_timesteps": 100}, "eps"),
    "dpm": (diffusers.DPMSolverMultistepScheduler, {}, "eps"),
}


@pytest.mark.parametrize("normalize", ["none", "mean"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_schedulers_timesteps_have_the_weights_of_its_table(name: str, normalize: Any) -> None:
    kind, options, unit = SCHEDULERS[name]
    scheduler = kind(**options)
    for reference in ("debiased", "min-snr", "sigmoid"):
        expected = table_of(reference, unit, scheduler.alphas_cumprod.double())
        if normalize == "mean":
            expected = expected / expected.mean()
        weigh = debiasctl.weighting(reference).for_scheduler(scheduler, normalize=normalize)
        t = torch.arange(len(expected)).flip(0)
        torch.testing.assert_close(weigh(t), expected.flip(0).float(), rtol=1e-6, atol=0)
        torch.testing.assert_close(weigh.table(), expected, rtol=1e-12, atol=0)
        assert weigh.prediction == unit


def test_timesteps_come_back_in_their_shape_without_gradient() -> None:
    weigh = debiasctl.weighting("debiased").for_scheduler(diffusers.DDPMScheduler())
    for dtype, wanted in (
        (torch.int32, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float64, torch.float64),
    ):
        found = weigh(torch.tensor([[3], [250]], dtype=dtype))
        assert (found.dtype, found.shape, found.requires_grad) == (wanted, (2, 1), False)
    assert not weigh(torch.tensor([3.0], requires_grad=True)).requires_grad
    assert isinstance(weigh(3), float)
    assert weigh(np.array([3])).dtype == np.float64


def test_the_table_is_read_at_each_call() -> None:
    scheduler = diffusers.DDPMScheduler()
    w = debiasctl.weighting("debiased")
    weigh = w.for_scheduler(scheduler, normalize="mean")
    t, before = torch.tensor([0, 999]), weigh(torch.tensor([0, 999]))

    scheduler.alphas_cumprod = scheduler.alphas_cumprod**2  # replaced
    assert torch.equal(weigh(t), w.for_scheduler(scheduler, normalize="mean")(t))
    scheduler.alphas_cumprod.mul_(0.5)  # changed in place
    assert torch.equal(weigh(t), w.for_scheduler(scheduler, normalize="mean")(t))
    scheduler.alphas_cumprod.numpy()[:] *= 0.5  # behind torch's back
    assert torch.equal(weigh(t), w.for_scheduler(scheduler, normalize="mean")(t))
    assert not torch.equal(weigh(t), before)
    scheduler.register_to_config(prediction_type="v_prediction")
    assert weigh.prediction == "v"
    scheduler.alphas_cumprod[-1] = 0  # rescaled to zero terminal SNR, where v has a weight
    assert bool(weigh(t).isfinite().all())
    scheduler.register_to_config(prediction_type="epsilon")
    with pytest.raises(UsageError, match="eps-prediction cannot be used on a schedule with zero terminal SNR"):
        weigh(t)


def test_an_object_with_a_table_alone_is_told_the_prediction() -> None:
    table = diffusers.DDPMScheduler().alphas_cumprod
    theirs = SimpleNamespace(alphas_cumprod=table.double().numpy())
    w = debiasctl.weighting("debiased")
    with pytest.raises(UsageError, match="SimpleNamespace does not say what the network predicts"):
        w.for_scheduler(theirs)
    found = w.for_scheduler(theirs, prediction="eps")(torch.arange(1000))
    torch.testing.assert_close(found, table_of("debiased", "eps", table.double()).float(), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (diffusers.EDMEulerScheduler(), "EDMEulerScheduler is no scheduler whose noise levels are known here"),
        (diffusers.ScoreSdeVeScheduler(), "ScoreSdeVeScheduler is no scheduler"),
        (diffusers.UniPCMultistepScheduler(use_flow_sigmas=True), "has rectified flow's levels only once it samples"),
        (diffusers.RePaintScheduler(), "RePaintScheduler does not say what the network predicts"),
        (object(), "object is no scheduler"),
        ("linear", r"for_schedule\('linear'\) takes a schedule's name"),
        (None, "NoneType is no scheduler"),
        (diffusers.DDPMScheduler(rescale_betas_zero_snr=True), "zero terminal SNR"),
        (diffusers.DDPMScheduler(prediction_type="velocity"), "its prediction_type 'velocity' is not known"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(scheduler: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        debiasctl.weighting("debiased").for_scheduler(scheduler)


def test_a_scheduler_is_no_schedule() -> None:
    with pytest.raises(UsageError, match="not by a DDPMScheduler; for_scheduler"):
        debiasctl.weighting("debiased").for_schedule(diffusers.DDPMScheduler())


def test_a_table_of_low_precision_is_refused() -> None:
    scheduler = diffusers.DDPMScheduler()
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.bfloat16()
    with pytest.raises(UsageError, match=r"DDPMScheduler: its noise levels are not all different.*bfloat16"):
        debiasctl.weighting("debiased").for_scheduler(scheduler)


@pytest.mark.parametrize(
    ("t", "message"),
    [(1000, "timestep 1000 is not there: they run from 0 to 999"), (-1, "timestep -1"), (float("nan"), "timestep nan"),
     (2.5, "timestep 2.5 lies between two of the table")],
)  # fmt: skip
def test_a_timestep_that_is_not_there_is_refused(t: float, message: str) -> None:
    weigh = debiasctl.weighting("debiased").for_scheduler(diffusers.DDPMScheduler())
    with pytest.raises(UsageError, match=message):
        weigh(torch.tensor([t]))


def test_a_timestep_that_bfloat16_rounded_is_explained() -> None:
    weigh = debiasctl.weighting("debiased").for_schedule("linear")
    with pytest.raises(UsageError, match=r"timestep 1000 .* bfloat16 rounds whole numbers above 256"):
        weigh(torch.tensor([999], dtype=torch.bfloat16))


def test_a_mean_may_be_over_another_distribution_of_t() -> None:
    q = registry.create("timesteps", "logit-normal")
    weigh = debiasctl.weighting("debiased").for_schedule("linear", normalize="mean", timesteps="logit-normal")
    drawn = debiasctl.timesteps(q).for_schedule("linear").probabilities()
    assert float((weigh.table() * drawn).sum()) == pytest.approx(1)
    with pytest.raises(UsageError, match="has no effect without normalize='mean'"):
        debiasctl.weighting("debiased").for_schedule("linear", timesteps="logit-normal")


def test_a_schedules_weights_are_had_between_timesteps_where_it_is_continuous() -> None:
    weigh = debiasctl.weighting("debiased").for_schedule("edm", normalize="mean")
    process = process_of(registry.create("schedules", "edm"))
    t = torch.tensor([10.25, 998.5], dtype=torch.float64)
    mean = process.snr.rsqrt().mean()
    torch.testing.assert_close(weigh(t), process.levels(t).snr.rsqrt() / mean, rtol=1e-12, atol=0)
    torch.testing.assert_close(weigh(sigma=torch.tensor(2.0, dtype=torch.float64)), 2 / mean, rtol=1e-12, atol=0)
    with pytest.raises(UsageError, match=r"they run from -0.5 to 999.5"):
        weigh(1000.0)


# ---------------------------------------------------------------- rectified flow

# the weights on u = eps - x0 in closed form, with s the share of noise
ON_FLOW = {
    "constant": lambda s: (1 - s) ** 2,
    "debiased": lambda s: s * (1 - s),
    "min-snr": lambda s: torch.minimum((1 - s) ** 2, 5 * s**2),
    "constant-x0": lambda s: s**2,
    "constant-v": lambda s: (1 - s) ** 2 + s**2,
    "constant-flow": torch.ones_like,
}


@pytest.mark.parametrize("reference", ON_FLOW)
def test_a_flow_schedulers_timesteps_have_the_closed_forms(reference: str) -> None:
    w = debiasctl.weighting(reference)
    for options in ({}, {"shift": 3.0}, {"num_train_timesteps": 50, "shift": 0.5}):
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(**options)
        s = scheduler.sigmas.double()
        weigh = w.for_scheduler(scheduler)
        torch.testing.assert_close(weigh(scheduler.timesteps), ON_FLOW[reference](s).float(), rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(weigh.table(), ON_FLOW[reference](s).flip(0), rtol=1e-6, atol=1e-9)
        between = torch.rand(8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        t = between * scheduler.config.num_train_timesteps
        torch.testing.assert_close(weigh(t), ON_FLOW[reference](between), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(w(s=between, prediction="flow"), ON_FLOW[reference](between), rtol=1e-9, atol=1e-12)


def test_a_flow_schedulers_shift_is_read_at_each_call() -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    weigh = debiasctl.weighting("debiased").for_scheduler(scheduler, normalize="mean")
    assert len(weigh.table()) == 1000
    half = torch.tensor([500.0])
    before = float(weigh(half))
    assert before == pytest.approx(0.25 / float((scheduler.sigmas * (1 - scheduler.sigmas)).mean()), rel=1e-5)
    scheduler.set_timesteps(20, mu=1.15)
    s = scheduler.sigmas[:-1].double()  # the last one, 0, has no timestep
    torch.testing.assert_close(weigh.table().flip(0), s * (1 - s) / (s * (1 - s)).mean(), rtol=1e-6, atol=1e-9)
    assert float(weigh(half)) == pytest.approx(0.25 / float((s * (1 - s)).mean()), rel=1e-6)


def test_a_flow_schedulers_own_levels_count_where_they_are_not_its_timesteps() -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    weigh = debiasctl.weighting("debiased").for_scheduler(scheduler)
    scheduler.set_timesteps(sigmas=[1.0, 0.5, 0.25], timesteps=[1000, 700, 300])
    assert weigh(torch.tensor([700.0, 300.0])).tolist() == pytest.approx([0.25, 0.1875])
    with pytest.raises(UsageError, match=r"timestep 500 is none of the scheduler's `timesteps`"):
        weigh(torch.tensor([500.0]))
    scheduler.sigmas = scheduler.sigmas[:1]
    with pytest.raises(UsageError, match="which do not fit together"):
        weigh(torch.tensor([700.0]))


def test_flow_schedulers_refuse_what_has_no_meaning() -> None:
    w, scheduler = debiasctl.weighting("debiased"), diffusers.FlowMatchEulerDiscreteScheduler()
    with pytest.raises(UsageError, match="eps-prediction cannot be used on a schedule with zero terminal SNR"):
        w.for_scheduler(scheduler, prediction="eps")
    with pytest.raises(UsageError, match="with invert_sigmas counts noise the other way round"):
        w.for_scheduler(diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True))
    for t in (1000.5, -0.5, float("nan")):
        with pytest.raises(UsageError, match="they are 1000 s, from 0 to 1000"):
            w.for_scheduler(scheduler)(torch.tensor([t]))
    on_x0 = debiasctl.weighting("constant-flow").for_scheduler(scheduler, prediction="x0")  # JiT's objective
    assert on_x0(torch.tensor([500.0])).item() == pytest.approx(4)


@pytest.mark.parametrize("options", ["", ":shift=3", ":continuous=false,shift=3"])
def test_our_flow_schedule_has_the_weights_of_diffusers_scheduler(options: str) -> None:
    w, shift = debiasctl.weighting("debiased"), 3.0 if "shift" in options else 1.0
    ours = w.for_schedule(f"flow{options}", prediction="flow")
    theirs = w.for_scheduler(diffusers.FlowMatchEulerDiscreteScheduler(shift=shift))
    torch.testing.assert_close(ours.table(), theirs.table(), rtol=1e-5, atol=1e-7)
    t = torch.arange(1000)
    torch.testing.assert_close(ours(t).double(), ours.table(), rtol=1e-6, atol=0)
    if "false" not in options:
        u = 0.25 + 0.5 / 1000  # half a timestep before t = 250
        s = shift * u / (1 + (shift - 1) * u)
        assert ours(249.5) == pytest.approx(s * (1 - s))
        with pytest.raises(UsageError, match="they run from -1 to 999"):
            ours(999.5)


# ---------------------------------------------------------------- compiled


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_code_reads_the_table_too(backend: str) -> None:
    scheduler = diffusers.DDPMScheduler()
    weigh = debiasctl.weighting("debiased").for_scheduler(scheduler)
    network = torch.nn.Linear(4, 4)

    def loss(x: Tensor, t: Tensor) -> Tensor:
        return (weigh(t) * (network(x) - x).square().mean(dim=1)).mean()

    compiled = torch.compile(loss, backend=backend, fullgraph=True)
    x, t = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), torch.arange(0, 800, 100)
    for _ in range(2):
        plain = loss(x, t)
        (expected,) = torch.autograd.grad(plain, network.weight)
        (found,) = torch.autograd.grad(compiled(x, t), network.weight)
        torch.testing.assert_close(found, expected)
        scheduler.alphas_cumprod = scheduler.alphas_cumprod**2
    with pytest.raises(UsageError, match="timestep 1000 is not there"):
        compiled(x, t + 1000)


def test_compiled_code_asks_for_weights_at_noise_levels_too() -> None:
    w = debiasctl.weighting("min-snr")
    changing = debiasctl.weighting("interpolate:p=0,p_end=1").for_schedule("linear")
    compiled = torch.compile(lambda snr: w(snr, prediction="v"), backend="eager", fullgraph=True)
    stepped = torch.compile(lambda t, done: changing(t, progress=done), backend="eager", fullgraph=True)
    snr = torch.tensor([0.1, 10.0], requires_grad=True)
    assert torch.equal(compiled(snr), w(snr, prediction="v"))
    t = torch.tensor([5, 500])
    for done in (0.0, 0.25, 0.5):
        assert torch.equal(stepped(t, done), changing(t, progress=done))


def test_copies_are_objects_of_their_own() -> None:
    scheduler = diffusers.DDPMScheduler()
    weigh = debiasctl.weighting("debiased").for_scheduler(scheduler)
    made = copy.deepcopy(weigh)
    del weigh
    compiled = torch.compile(lambda t: made(t), backend="eager", fullgraph=True)
    t = torch.tensor([7])
    assert torch.equal(compiled(t), made(t))


@pytest.mark.parametrize(
    "make",
    [
        lambda: debiasctl.weighting("min-snr:gamma=3"),
        lambda: debiasctl.weighting("product:factors=[debiased,min-snr]"),
        lambda: debiasctl.weighting("min-snr").for_scheduler(diffusers.DDPMScheduler(), normalize="mean"),
        lambda: debiasctl.weighting("debiased").for_schedule("flow:shift=3", prediction="flow"),
        lambda: debiasctl.timesteps("logit-normal:mean=0.5"),
        lambda: debiasctl.timesteps("loss-second-moment").for_schedule("edm"),
    ],
)
def test_pickles_give_the_same_in_another_process(make: Any) -> None:
    """Another process finds the plugins' classes by name, as this one does once it has forgotten those it made."""
    made = make()
    text = pickle.dumps(made)
    guard.guarded.cache_clear()
    found = pickle.loads(text)

    def answer(one: Any) -> list[Tensor]:
        if hasattr(one, "sample"):
            drawn = one.sample(5, generator=torch.Generator().manual_seed(0))
            return [drawn.t, drawn.correction]
        return [one(torch.tensor([3, 900]))]

    assert type(found) is type(made)
    assert all(torch.equal(*pair) for pair in zip(answer(made), answer(found), strict=True))
