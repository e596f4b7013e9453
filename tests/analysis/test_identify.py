"""Identification: names what public trainers compute, and refuses to name what is none of it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import trainer_functions as trainers
from torch import Tensor

import debiasctl
from debiasctl import registry
from debiasctl.analysis.identify import Identification, Reading, identify
from debiasctl.api import Weighting
from debiasctl.diffusion.weighting import weight_in
from debiasctl.errors import DebiasctlError, UsageError

ZERO = "linear:zero_terminal_snr=true"


def only(found: Identification) -> Reading:
    """The one reading, which is exact."""
    assert [reading.found.grade for reading in found.readings] == [0], found.verdict
    return found.readings[0]


# function, prediction, further arguments -> weighting, how it is used
TRAINERS: list[tuple[Callable[..., Any], str, dict[str, Any], str, list[str]]] = [
    (trainers.min_snr_eps, "eps", {}, "min-snr", []),
    (trainers.min_snr_v, "v", {}, "min-snr", []),
    (trainers.min_snr_eps, "v", {}, "min-snr", ["in its formula for eps, applied to v as it is"]),
    (
        trainers.min_snr_v_of_snr_plus_one, "v", {}, "min-snr",
        ["in its formula for eps, with SNR + 1 in place of SNR"],
    ),
    (trainers.apply_snr_weight, "eps", {"gamma": 3}, "min-snr:gamma=3", []),
    (trainers.apply_snr_weight, "v", {"gamma": 4.98, "v_prediction": True}, "min-snr:gamma=4.98", []),
    (trainers.apply_debiased_estimation, "eps", {}, "debiased-clamped", []),
    (trainers.apply_debiased_estimation, "v", {"v_prediction": True}, "debiased-clamped:form=v", []),
    (
        trainers.scale_v_prediction_loss_like_noise_prediction, "v", {}, "constant", ["clamped at SNR 1000"],
    ),
    (trainers.onetrainer_debiased, "eps", {}, "debiased-clamped", []),
    (trainers.p2_repository, "eps", {}, "p2:gamma=0.5", []),
    (trainers.debias_repository, "eps", {}, "debiased", []),
    (lambda snr: 1 / (0.5 + snr), "eps", {}, "p2:k=0.5", []),  # twice soft-min-snr's with gamma 0.5
    (trainers.onetrainer_debiased, "v", {"v_pred": True}, "onetrainer-v", []),
    (trainers.onetrainer_p2, "v", {"v_pred": True, "gamma": 0.7}, "onetrainer-v:scheme=p2,gamma=0.7", []),
    (trainers.add_v_prediction_like_loss, "eps", {"v_pred_like_loss": 0.3}, "v-pred-like:k=0.3", []),
    (trainers.sd3_weighting, "flow", {"weighting_scheme": "cosmap"}, "cosmap", []),
    (trainers.sd3_weighting, "flow", {"weighting_scheme": "sigma_sqrt"}, "sigma-sqrt", []),
    (trainers.debiased_on_v, "v", {}, "debiased", []),
    (trainers.k_diffusion_soft_min_snr, "edm", {}, "soft-min-snr:gamma=4", []),
    (trainers.edm_lambda, "x0", {}, "edm", []),
    (trainers.progressive_distillation_truncated, "v", {}, "truncated-snr", []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("function", "prediction", "given", "weighting", "changes"),
    TRAINERS,
    ids=[f"{function.__name__}-{prediction}" for function, prediction, *_ in TRAINERS],
)
def test_what_trainers_compute_is_named(
    function: Callable[..., Any], prediction: str, given: dict[str, Any], weighting: str, changes: list[str]
) -> None:
    reading = only(identify(function, prediction, given=given))
    assert (reading.weighting, reading.changes, reading.prediction) == (weighting, changes, prediction)


def test_the_meanings_of_debiased_on_v_are_told_apart() -> None:
    """The paper's by conversion, sd-scripts', OneTrainer's, and the formula for eps."""
    found = {
        str(only(found))
        for found in (
            identify(trainers.debiased_on_v, "v"),
            identify(trainers.apply_debiased_estimation, "v", given={"v_prediction": True}),
            identify(trainers.onetrainer_debiased, "v", given={"v_pred": True}),
            identify(trainers.debias_repository, "v"),
        )
    }
    assert len(found) == 4
    assert "debiased on v" in found
    assert "debiased-clamped with max_snr 1000, form v on v" in found
    assert "onetrainer-v with max_snr 1000 on v" in found


def test_a_long_schedules_own_weights_are_exact_though_they_are_tried_on_a_part_of_it() -> None:
    schedule = "linear:num_timesteps=20000,beta_start=5e-6,beta_end=1e-3"
    weigh = debiasctl.weighting("sigmoid:bias=-2").for_schedule(schedule, prediction="v")
    found = identify(lambda timesteps: weigh(timesteps.double()), "v", schedule=schedule)
    assert only(found).weighting == "sigmoid:bias=-2"


# ---------------------------------------------------------------- options, clamps, factors


@pytest.mark.parametrize(
    ("reference", "prediction"),
    [
        ("min-snr:gamma=7.3", "v"),
        ("p2:k=0.3,gamma=1.7", "x0"),
        ("soft-min-snr:gamma=0.02", "eps"),
        ("sigmoid:measure=t,bias=-1.5", "v"),
        ("sigmoid:bias=2.5", "eps"),
        ("interpolate:p=0.3", "x0"),
        ("debiased-clamped:max_snr=37", "v"),
        ("edm:sigma_data=0.23", "v"),
    ],
)
@pytest.mark.parametrize("factor", [1.0, 0.013])
def test_options_are_found_exactly(reference: str, prediction: Any, factor: float) -> None:
    weighting = registry.create("weightings", reference)

    def weights(snr: Tensor) -> Tensor:
        process = registry.create("schedules", "linear").alphas_cumprod()
        settled = weighting.at(_context(process / (1 - process)))
        return factor * weight_in(settled, prediction, snr=snr).float()

    reading = only(identify(weights, prediction))
    assert reference in [name.partition(", times")[0] for name in (reading.weighting, *reading.equal)]
    assert reading.found.fit.scale == pytest.approx(
        factor if reference == reading.weighting else reading.found.fit.scale
    )
    assert reading.flags is not None


def _context(snr: Tensor) -> Any:
    from debiasctl.api import WeightingContext

    return WeightingContext(snr)


def test_a_clamp_an_odd_level_and_a_number_that_is_not_round() -> None:
    def weights(snr: Tensor) -> Tensor:
        least = snr.clamp(max=1000)
        weight = least.clamp(max=4.98) / (least + 1)
        return torch.where(snr > 9990, 1.03 * weight, weight)  # the least noisy level

    (reading,) = identify(weights, "v").readings
    assert str(reading) == "min-snr with gamma 4.98 on v, clamped at SNR 1000"
    assert reading.misfit == "3 % off at t = 0 (SNR 9999), within 1 % on 99.9 % of the levels"


def test_a_weight_that_is_clamped_where_there_is_much_noise() -> None:
    found = identify(lambda snr: snr.rsqrt().clamp(max=20), "eps")
    assert not found.is_named
    assert "it is debiased on eps: exact, but for rounding. Below, every weight is 20: it is clamped" in str(found)


def test_without_a_prediction_every_reading_is_given() -> None:
    found = identify(lambda snr: 1 / (snr + 1))
    named = {reading.prediction: {reading.weighting, *reading.equal} for reading in found.readings}
    assert {"constant-x0", "inverse-snr"} <= named["v"]
    assert "p2" in named["eps"]
    assert "depends on what the network predicts" in found.verdict


def test_the_two_meanings_of_sigma() -> None:
    """sigma/alpha, and rectified flow's s: one is taken, and the other noted if it is a known scheme too."""
    found = identify(trainers.sd3_weighting, given={"weighting_scheme": "cosmap"})
    assert found.readings[0].weighting == "cosmap"
    found = identify(trainers.sd3_weighting, given={"weighting_scheme": "sigma_sqrt"})
    assert (found.readings[0].weighting, found.readings[0].prediction) == ("constant", "x0")
    assert "sigma-sqrt on flow" in found.notes[-1]
    (reading,) = identify(lambda s: s * (1 - s), "flow").readings
    assert (reading.weighting, reading.flags) == (
        "debiased", "--weighting debiased --prediction flow --normalize none --schedule flow",
    )  # fmt: skip


def test_a_t_between_0_and_1() -> None:
    found = identify(lambda t: t * (1 - t), "flow")
    assert (only(found).weighting, found.taken, found.findings) == ("debiased", "t as s, the share of noise", ())


@pytest.mark.parametrize("prediction", ["flow", None])
def test_a_flow_models_t_is_1000_s(prediction: str | None) -> None:
    """Between 0 and 1 it is nearly s/1000, which is another scheme's."""
    found = identify(lambda timesteps: timesteps / 1000 * (1 - timesteps / 1000), prediction)
    assert (only(found).weighting, only(found).changes, found.taken) == ("debiased", [], "timesteps as timesteps")


def test_a_curve_in_half_precision_is_no_scheme_of_a_t_between_0_and_1() -> None:
    assert not identify(lambda timesteps: (1 + torch.sin(3 * timesteps / 1000)).bfloat16(), "flow").is_named


@pytest.mark.parametrize("schedule", [None, "flow:shift=3"])
def test_a_flow_trainer_looks_its_timesteps_up(schedule: str | None) -> None:
    found = identify(trainers.sd3_sigma_sqrt_by_lookup, "flow", schedule=schedule)
    assert (only(found).weighting, only(found).changes) == ("sigma-sqrt", [])


@pytest.mark.parametrize("function", [debiasctl.weighting("p2"), debiasctl.weighting("p2").for_schedule("linear")])
def test_of_levels_that_are_all_optional_one_is_given(function: Callable[..., Any]) -> None:
    assert only(identify(function, "eps")).weighting == "p2"


def test_a_mean_of_1_is_normalisation_and_a_batchs_is_a_finding() -> None:
    table = torch.from_numpy(1 / np.sqrt(trainers.SNR))
    found = identify(lambda t: (table / table.mean())[t], "eps")
    assert (only(found).normalized, only(found).weighting, found.findings) == ("mean", "debiased", ())
    assert only(found).flags == "--weighting debiased --prediction eps --normalize mean"
    found = identify(lambda snr: snr.rsqrt() / snr.rsqrt().mean(), "eps")
    assert only(found).changes == ["divided by the batch's mean"]
    assert "divided by their mean" in found.findings[0]


def test_a_table_of_before_the_rescaling_to_zero_terminal_snr() -> None:
    reading = only(identify(trainers.apply_debiased_estimation, "v", given={"v_prediction": True}, schedule=ZERO))
    assert (reading.weighting, reading.found.schedule) == ("debiased-clamped:form=v", "linear")
    assert reading.flags is None  # its SNRs are not those of the training
    rescaled = only(identify(trainers.min_snr_v, "v", schedule=ZERO))  # reads the scheduler, and is right
    assert (rescaled.weighting, rescaled.found.schedule) == ("min-snr", None)
    infinite = identify(
        lambda timesteps, noise_scheduler: trainers.snr_of(noise_scheduler, timesteps).rsqrt(), "eps", schedule=ZERO
    )
    assert infinite.findings == ("It is infinite at t = 999 (SNR 0), which training would not survive.",)
    assert only(infinite).flags is None  # no network can be trained to predict eps there


def test_the_schedule_of_a_functions_own_table_is_found() -> None:
    assert only(identify(trainers.debias_repository, "eps", schedule="cosine")).found.schedule == "linear"
    table = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), dim=0)  # of float32, which is some 1e-5 off
    reading = only(identify(lambda t: (table / (1 - table))[t].clamp(max=5), "x0", schedule=ZERO))
    assert (reading.weighting, reading.found.schedule) == ("min-snr", "linear")


def test_a_third_partys_options_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A weighting that nothing here knows: registered under a name, with a number and a choice."""
    from pydantic import Field

    from debiasctl.analysis.identify import candidates
    from debiasctl.api import PluginOptions

    class Odd(Weighting):
        """A weighting of someone's."""

        space = "x0"

        class Options(PluginOptions):
            """Its options."""

            knee: float = Field(2.0, gt=0, description="where it bends")
            steep: bool = Field(False, description="whether it is steep")

        options: Options

        def __call__(self, snr: Tensor) -> Tensor:
            bent = snr / (1 + (snr / self.options.knee) ** 2)
            return bent**2 if self.options.steep else bent

    known = registry.records("weightings")
    monkeypatch.setattr(candidates.registry, "records", lambda kind: [*known[:1], _named(known[0], "odd")])
    load = registry.load
    monkeypatch.setattr(candidates.registry, "load", lambda kind, name: Odd if name == "odd" else load(kind, name))
    found = only(identify(lambda snr: (snr / (1 + (snr / 11) ** 2)) ** 2, "x0"))
    assert found.weighting == "odd:steep=true,knee=11"


def _named(record: Any, name: str) -> Any:
    from dataclasses import replace

    return replace(record, name=name)


# ---------------------------------------------------------------- what is not named


TABLE = torch.rand(1000, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(
    "function",
    [
        lambda t: TABLE[t],
        lambda snr: torch.exp(torch.sin(snr.log() / 2)),
        lambda snr: 1 + 0.5 * torch.cos(snr.log()),
        lambda snr: torch.exp(-((snr.log() - 1) ** 2) / 4),
    ],
)
@pytest.mark.parametrize("prediction", [None, "v"])
def test_an_unknown_function_is_not_named(function: Callable[..., Any], prediction: str | None) -> None:
    found = identify(function, prediction)
    assert not found.is_named
    assert found.verdict.startswith("No known scheme. The nearest is ")
    assert " off at t = " in found.verdict
    assert all(reading.flags is None for reading in found.readings)


@pytest.mark.parametrize(
    ("function", "finding"),
    [
        (lambda snr: torch.rand_like(snr), "gives other weights each time"),
        (lambda snr: 0 * snr, "Every weight is 0"),
        (lambda snr: 1 - snr, "negative at 259 of 1000 levels, the first at t = 0"),
        (lambda snr: snr / 0 * 0, "NaN at 1000 of 1000 levels"),
    ],
)
def test_what_cannot_be_named_is_a_finding(function: Callable[..., Any], finding: str) -> None:
    found = identify(function, "eps")
    assert not found.is_named
    assert finding in found.findings[0]
    assert found.verdict


# ---------------------------------------------------------------- how the function behaves


def printing(snr: Tensor) -> Tensor:
    print("step", len(snr))
    return snr.rsqrt()


def changing(snr: Tensor) -> Tensor:
    return snr.clamp_(max=5)


def averaged_first(loss: Tensor, timesteps: Tensor, noise_scheduler: Any) -> Tensor:
    return loss.mean() * trainers.min_snr_eps(timesteps, noise_scheduler)  # type: ignore[no-any-return]


def averaged_last(loss: Tensor, timesteps: Tensor, noise_scheduler: Any) -> Tensor:
    return (loss * trainers.min_snr_eps(timesteps, noise_scheduler)).mean()


@pytest.mark.parametrize(
    ("function", "finding"),
    [
        (printing, "It prints while it computes, for example: step "),
        (changing, "It changes its input in place: snr."),
        (averaged_first, "applied after the losses of a batch are averaged"),
        (averaged_last, "It returns the mean over a batch of weighted losses"),
        (lambda snr: min(snr, 5.0) / snr, "It takes one number at a time"),
        (lambda snr: torch.arange(1, len(snr) + 1), "depends on the others in its batch, or on its place"),
    ],
)
def test_manners(function: Callable[..., Any], finding: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = identify(function, "eps")
    assert any(finding in one for one in found.findings), found.findings
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("shape", ["loss", "image"])
def test_a_loss_of_each_image_or_value(shape: str) -> None:
    def weighted(loss: Tensor, timesteps: Tensor, noise_scheduler: Any) -> Tensor:
        weight = trainers.min_snr_eps(timesteps, noise_scheduler)
        if shape == "image":
            loss = loss.mean(dim=[1, 2, 3])
        return loss * weight  # type: ignore[no-any-return]

    found = identify(weighted, "eps")
    assert (only(found).weighting, found.findings) == ("min-snr", ())


# ---------------------------------------------------------------- what a function takes


class Module(torch.nn.Module):
    def forward(self, snr: Tensor) -> Tensor:
        return snr.clamp(max=5)


@pytest.mark.parametrize(
    ("function", "argument"),
    [
        (Module(), None),
        (lambda x: x.clamp(max=5), "snr"),
        (lambda x: (-2 * x.log()).exp().clamp(max=5), "sigma"),
        (lambda log_snr: log_snr.exp().clamp(max=5), None),
        (lambda alphas_cumprod, timesteps: (1 / (1 / alphas_cumprod - 1))[timesteps].clamp(max=5), None),
        (lambda a, b: trainers.snr_of(b, a).clamp(max=5), "timesteps,scheduler"),
        (partial(lambda gamma, snr: snr.clamp(max=gamma), 5), None),
        (lambda snr, offset=3, *rest, **more: np.minimum(snr.numpy(), 5), None),
    ],
)
def test_arguments(function: Callable[..., Any], argument: str | None) -> None:
    assert only(identify(function, "x0", argument=argument)).weighting == "min-snr"


@pytest.mark.parametrize(
    ("function", "settings", "message"),
    [
        (lambda x: x, {}, "Say it: `argument=snr`"),
        (lambda: 1, {}, "takes no arguments"),
        (lambda x: x, {"argument": "snrr"}, "Did you mean 'snr'?"),
        (lambda x: x, {"argument": "snr,loss"}, "these are 2, and the function has 1"),
        (lambda snr, gamma: snr, {}, "`given=gamma=VALUE`"),
        (lambda snr, v_prediction: snr, {}, "follows from what the network predicts"),
        (lambda snr: snr, {"given": {"gama": 5}}, "has no parameter 'gama'"),
        (lambda snr: snr, {"prediction": "epsilon"}, "Did you mean 'eps'?"),
        (lambda snr: None, {}, "returns nothing (None): does it return its weights?"),
        (lambda snr: torch.ones(3), {}, "returns shape (3,)"),
        (lambda snr: snr > 1, {}, "returns bool values"),
        (lambda timesteps, noise_scheduler: noise_scheduler.snrs, {}, "has no 'snrs': it has "),
        (lambda timesteps, noise_scheduler: noise_scheduler.sigmas, {}, "`schedule=flow` has it"),
        (5, {}, "give a function to identify, or the path of a table; not an int"),
        ("trainer.py:weights", {}, "import 'weights' from trainer.py and give the function itself"),
    ],
)
def test_refusals(function: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DebiasctlError) as error:
        identify(function, **settings)
    assert message in str(error.value)


def test_an_error_of_the_functions_names_its_line() -> None:
    def fails(snr: Tensor) -> Tensor:
        return snr @ torch.ones(3)

    with pytest.raises(DebiasctlError, match=r"failed at line \d+ \(return snr @ torch.ones\(3\)\): RuntimeError: "):
        identify(fails)


def test_what_needs_a_gpu_is_advised() -> None:
    def fails(snr: Tensor) -> Tensor:
        raise RuntimeError("Found no NVIDIA driver on your system")

    with pytest.raises(DebiasctlError, match=r"follow its input's device, for example \.to\(snr\.device\)"):
        identify(fails)


def test_a_function_that_reads_the_prediction_type() -> None:
    def weight(timesteps: Tensor, noise_scheduler: Any) -> Tensor:
        snr = trainers.snr_of(noise_scheduler, timesteps)
        divisor = {"epsilon": snr, "v_prediction": snr + 1}[noise_scheduler.config.prediction_type]
        return snr.clamp(max=5) / divisor

    found = identify(weight, "v")
    assert (only(found).weighting, only(found).prediction, found.findings) == ("min-snr", "v", ())
    assert "reads the scheduler's prediction_type" in identify(weight).findings[0]


def test_attributes_of_an_argument_can_be_given() -> None:
    reading = only(identify(lambda args, snr: snr.clamp(max=args.gamma), "x0", given={"args.gamma": 3}))
    assert reading.weighting == "min-snr:gamma=3"
    with pytest.raises(DebiasctlError, match=r"no 'gamma' was given: `given=args\.gamma=VALUE`"):
        identify(lambda args, snr: snr.clamp(max=args.gamma), "x0", given={"args.limit": 3})
    with pytest.raises(UsageError, match="has no parameter 'arg'"):
        identify(lambda args, snr: snr, given={"arg.gamma": 3})
