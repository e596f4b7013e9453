"""Gradients by noise level: against each image's own, taken in a loop by the code that trains."""

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from tiny import digits, make_spec, randomize, set_up_tiny
from torch import Tensor

from debiasctl.analysis.parts.reasons.gradients import Fold, Images, Measured, group_gradients
from debiasctl.analysis.parts.reasons.levels import LevelBin, bins_of
from debiasctl.compute import counter_random
from debiasctl.compute.counter_random import Stream
from debiasctl.data.pixels import to_model_space
from debiasctl.diffusion.modules import run_learned
from debiasctl.diffusion.objective import Draw
from debiasctl.models.objective import build_objective
from debiasctl.training import step as training_step
from debiasctl.training.optimizers import Optimizers
from debiasctl.training.training import Training

NUM, SEED = 3, 5
SETTINGS: dict[str, dict[str, Any]] = {
    "eps": {},
    "x0": {"model__prediction": "x0", "diffusion__schedule": "cosine"},
    "v at zero terminal SNR": {"model__prediction": "v", "diffusion__schedule": "linear:zero_terminal_snr=true"},
    "edm": {"model__prediction": "edm", "diffusion__schedule": "edm", "loss__timesteps": "lognormal"},
    "flow": {"model__prediction": "flow", "diffusion__schedule": "flow:continuous=true"},
    "learned variance": {"model__learned_variance": True},
    "huber": {"loss__metric": "huber"},
    "learned weighting": {"loss__weighting": "uncertainty"},
    "corrected draws": {"loss__timesteps": "importance", "loss__normalize": "none"},
}


def training_of(**settings: Any) -> Training:
    training = set_up_tiny(make_spec(compute__precision="fp64", **settings))
    randomize(training.network)
    if training.learned is not None:
        randomize(training.learned.module)
    return training


def images_of(num: int = NUM) -> Images:
    indices = torch.arange(num)
    split = digits().train
    return Images(to_model_space(split.images(indices)).double(), split.labels(indices), indices)


def measured(training: Training, *others: str, bins: list[LevelBin] | None = None, **changes: Any) -> Measured:
    objective = training.objective
    made = [build_objective(with_weighting(training, name), warn=False) for name in others]
    bins = bins or bins_of(objective, progress=0.0)
    settings: dict[str, Any] = {"batch": 2} | changes
    return Measured(training.network, [objective, *made], bins, 0.0, SEED, **settings)


def with_weighting(training: Training, name: str):
    loss = make_spec(loss__weighting=name).loss
    return training.spec.model_copy(
        update={"loss": training.spec.loss.model_copy(update={"weighting": loss.weighting})}
    )


def without_learned(training: Training) -> Optimizers:
    optimizers = copy.copy(training.optimizers)
    optimizers.learned = None
    return optimizers


def brute_force(training: Training, bins: list[LevelBin], images: Images) -> tuple[Tensor, Tensor]:
    """Each bin's gradient [B, P] and loss [B]: the mean over images of the gradients of `train_step`'s own losses."""
    gradients, losses = [], []
    objective = training.objective
    for number, one in enumerate(bins):
        total, loss_sum = torch.zeros(sum(one.numel() for one in training.network.parameters())).double(), 0.0
        for row in range(len(images.x0)):
            position = images.positions[row : row + 1]
            u = counter_random.uniform(SEED, Stream.GRADIENT, step=8 * number, positions=position)
            shape = images.x0.shape[1:]
            eps = counter_random.normal(SEED, Stream.GRADIENT, step=8 * number + 1, positions=position, shape=shape)
            levels, t = one.draw(objective, u, progress=0.0)
            weight = objective.weight_at(levels.snr) if objective.process.continuous else objective.tables().weight[t]
            draw = Draw(levels, t, weight, torch.ones_like(weight))
            labels = None if images.labels is None else images.labels[row : row + 1]
            training.network.zero_grad()
            loss = training_step._losses(training, images.x0[row : row + 1], eps.double(), draw, labels).sum()
            loss.backward()
            if training.learned is not None:  # its own term moves no weight of the network
                loss = loss - run_learned(training.learned.module, levels.snr.log()).sum()
            total += torch.cat(
                [torch.zeros(p.numel()).double() if p.grad is None else p.grad.flatten() for p in
                 training.network.parameters()]
            )  # fmt: skip
            loss_sum += float(loss.detach())
        gradients.append(one.share * total / len(images.x0))
        losses.append(one.share * loss_sum / len(images.x0))
    return torch.stack(gradients), torch.tensor(losses, dtype=torch.float64)


@pytest.mark.parametrize("name", SETTINGS)
def test_gradients_are_those_of_single_images_in_a_loop(name: str) -> None:
    training = training_of(**SETTINGS[name])
    bins = bins_of(training.objective, progress=0.0)[::2]
    found = group_gradients(measured(training, bins=bins), images_of(), Fold(10**9, 10**9))
    gradients, losses = brute_force(training, bins, images_of())
    assert found["gradients"].dtype == np.float64
    assert np.allclose(found["gradients"][0], gradients.numpy(), rtol=1e-9, atol=1e-12 * float(gradients.abs().max()))
    assert np.allclose(found["losses"][0], losses.numpy(), rtol=1e-9)


@pytest.mark.parametrize("settings", [{}, {"loss__weighting": "uncertainty"}, {"model__prediction": "v"}])
def test_another_weighting_has_the_gradients_of_its_own_objective(settings: dict[str, Any]) -> None:
    training = training_of(**settings)
    bins = bins_of(training.objective, progress=0.0)[1::3]
    found = group_gradients(measured(training, "min-snr", "debiased", bins=bins), images_of(), Fold(1, 10**9))
    others = measured(training, "min-snr", "debiased", bins=bins).objectives[1:]
    for number, objective in enumerate(others, start=1):
        training = dataclasses.replace(training, objective=objective, optimizers=without_learned(training))
        gradients, losses = brute_force(training, bins, images_of())
        assert np.allclose(found["gradients"][number], gradients.numpy(), rtol=1e-9, atol=1e-14)
        assert np.allclose(found["losses"][number], losses.numpy(), rtol=1e-9)


def test_bins_share_the_objectives_t_and_draw_from_it() -> None:
    for name in ("eps", "v at zero terminal SNR", "edm", "flow", "corrected draws"):
        objective = build_objective(make_spec(**SETTINGS[name]), warn=False)
        bins = bins_of(objective, progress=0.0)
        assert sum(one.share for one in bins) == pytest.approx(1, abs=1e-12)
        assert torch.cat([one.timesteps for one in bins]).unique().numel() <= objective.process.num_timesteps
        u = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
        for one in bins:
            levels, t = one.draw(objective, u, progress=0.0)
            weight = one.weight(objective, levels, t, progress=0.0)
            table = objective.tables()
            expected = float((table.base * table.weight)[one.timesteps].sum() / one.share)
            assert float(weight.mean()) == pytest.approx(expected, rel=0.05)


def test_mirroring_label_dropout_and_dropout_are_the_objectives() -> None:
    training = training_of(model__label_dropout=0.5)
    bins = bins_of(training.objective, progress=0.0)[4:5]
    images, fold = images_of(), Fold(1, 10**9)

    def gradients(given: Images = images, **changes: Any) -> np.ndarray:
        return group_gradients(measured(training, bins=bins, **changes), given, fold)["gradients"]

    plain = gradients()
    mirrored = Images(images.x0.flip(-1), images.labels, images.positions)
    mixed = gradients(flips=True)
    assert not np.allclose(mixed, plain)
    both = [gradients(given, flips=True) for given in (images, mirrored)]  # where one is mirrored, the other is not
    assert np.allclose(both[0] + both[1], plain + gradients(mirrored), rtol=1e-9)
    null = len(digits().info.classes)
    assert images.labels is not None
    dropped = Images(images.x0, torch.full_like(images.labels, null), images.positions)
    assert np.allclose(gradients(label_dropout=1.0, null_label=null), gradients(dropped))


def test_a_folded_vector_keeps_products_and_a_short_one_is_itself() -> None:
    generator = torch.Generator().manual_seed(0)
    one, noise = (torch.randn(20_000, generator=generator, dtype=torch.float64) for _ in range(2))
    other = 0.5 * one + noise
    fold = Fold(20_000, 4096)
    size = float(one.norm() * other.norm())
    assert float(fold(one) @ fold(other)) == pytest.approx(float(one @ other), abs=4 * size / 4096**0.5)
    assert torch.allclose(fold(2 * one + other), 2 * fold(one) + fold(other))
    assert torch.equal(Fold(100, 4096)(one[:100]), one[:100])
