import torch
from tiny import digits

from debiasctl.data.heldout_set import HeldoutSet


def heldout_set(num_images: int, *, conditional: bool) -> HeldoutSet:
    return HeldoutSet.of(
        digits().heldout,
        num_images=num_images,
        conditional=conditional,
        device=torch.device("cpu"),
        dtype=torch.float32,
    )


def test_images_are_spread_over_the_split() -> None:
    whole, few = heldout_set(10_000, conditional=True), heldout_set(37, conditional=False)
    assert len(whole.x0) == len(digits().heldout) == 296
    assert torch.equal(few.x0, whole.x0[torch.arange(37) * 296 // 37])
    assert few.labels is None
