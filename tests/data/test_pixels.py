import torch

from debiasctl.data.pixels import to_model_space, to_uint8


def test_model_space_keeps_all_256_levels() -> None:
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    space = to_model_space(levels)
    assert (space.min(), space.max()) == (-1, 1)
    assert torch.equal(to_uint8(space), levels)
    assert to_uint8(torch.tensor([-7.0, 7.0, 0.4 / 127.5 - 1, 0.6 / 127.5 - 1])).tolist() == [0, 255, 0, 1]
