"""Labels left out at random, and the guidance that they make possible."""

import pytest
import torch
from tiny import LOCATION, digits, make_spec, set_up_tiny

from debiasctl.builtin.samplers.ddim import DDIM
from debiasctl.compute import counter_random
from debiasctl.compute.counter_random import Stream
from debiasctl.diffusion.denoiser import NetworkDenoiser
from debiasctl.diffusion.grid_sampler import Model
from debiasctl.errors import SpecError, UsageError
from debiasctl.specs.resolve import resolve_spec
from debiasctl.training.step import train_step


def labels_seen(label_dropout: float, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The labels that the network was given in one step, and the batch's own."""
    training = set_up_tiny(make_spec(model__label_dropout=label_dropout, training__batch_size=64))
    seen = []
    training.network.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[2].clone()))
    train_step(training, step)
    own = training.batches(step).labels
    assert own is not None
    return torch.cat(seen), own


@pytest.mark.parametrize("step", [0, 5])
def test_the_share_that_is_asked_for_is_dropped_by_seed_step_and_position(step: int) -> None:
    seen, own = labels_seen(0.3, step)
    u = counter_random.uniform(0, Stream.LABEL_DROPOUT, step=step, positions=torch.arange(64))
    assert torch.equal(seen, torch.where(u < 0.3, 10, own))
    assert 0.1 < (seen == 10).double().mean() < 0.5


def test_without_it_every_label_is_shown_and_no_class_is_added() -> None:
    seen, own = labels_seen(0.0, 0)
    assert torch.equal(seen, own)
    with pytest.raises(UsageError, match=r"model\.label_dropout=0\.1"):
        draw(0.0, guidance=2.0)


def draw(label_dropout: float, **options: float) -> torch.Tensor:
    training = set_up_tiny(make_spec(model__label_dropout=label_dropout))
    with torch.no_grad():
        for parameter in training.network.parameters():
            parameter.add_(
                0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
            )
        denoiser = NetworkDenoiser(
            training.network, training.objective.parameterization, null_label=training.null_label
        )
        x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        sampler = DDIM(DDIM.Options(clip_x0=False, **options))
        labels = torch.tensor([0, 3, 5, 9])
        level = sampler.grid(training.objective.process, 4)[0]
        return Model(denoiser, sampler.options, labels=labels)(x, level).eps


def test_guidance_is_linear_from_no_class_to_the_class_and_beyond() -> None:
    without, given = draw(0.1, guidance=0.0), draw(0.1)
    assert not torch.allclose(without, given)
    for scale in (0.5, 2.0, 7.5):
        torch.testing.assert_close(draw(0.1, guidance=scale), without + scale * (given - without), rtol=1e-4, atol=1e-4)


def test_it_needs_classes() -> None:
    raw = make_spec().model_dump(mode="json")
    raw["model"] |= {"conditional": False, "label_dropout": 0.1}
    for own in ("content", "imported"):
        raw.pop(own, None)
    with pytest.raises(SpecError, match=r"label_dropout has no effect on a model without class labels"):
        resolve_spec([raw], LOCATION)
    assert digits().info.classes
