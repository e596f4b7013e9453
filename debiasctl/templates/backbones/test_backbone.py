"""The backbone keeps the contract of its kind, and sees as far as it states."""

from typing import Any

import torch
from debiasctl.api import ImageShape
from debiasctl.testing import check_backbone

from my_package.backbone import MyBackbone

SHAPE = ImageShape(image_size=32, in_channels=3, out_channels=3)


def built(depth: int) -> Any:
    backbone = MyBackbone(MyBackbone.Options(width=8, depth=depth))
    return backbone.build(SHAPE, num_classes=4).double()


def test_it_keeps_its_contract() -> None:
    check_backbone(MyBackbone, {"width": 8, "depth": 2})


def test_it_is_zero_before_training() -> None:
    x, levels, labels = torch.randn(2, 3, 32, 32).double(), torch.tensor([0.0, 999.0]).double(), torch.tensor([0, 3])
    assert torch.equal(built(2)(x, levels, labels), torch.zeros(2, 3, 32, 32).double())


def test_it_sees_as_far_as_it_states() -> None:
    """Padding aside, the convolutions see depth + 2 pixels to each side; the norms, which see all, are left out."""
    network = built(3)
    network.norms = torch.nn.ModuleList(torch.nn.Identity() for _ in range(3))
    torch.nn.init.normal_(network.last.weight)
    x = torch.randn(1, 3, 32, 32).double().requires_grad_()
    network(x, torch.zeros(1).double(), torch.zeros(1).long())[0, 0, 16, 16].backward()
    assert x.grad is not None
    rows = x.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    assert rows.tolist() == list(range(16 - 5, 16 + 5 + 1))
