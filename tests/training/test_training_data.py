import pytest
import torch

from debiasctl import counter_random
from debiasctl.api import ArraySplit
from debiasctl.counter_random import Stream
from debiasctl.training.data import BatchSource, to_model_space, to_uint8


def source(size: int, batch_size: int, **changes) -> BatchSource:
    images = (torch.arange(size * 12) % 256).to(torch.uint8).reshape(size, 1, 3, 4)
    settings = {"seed": 3, "horizontal_flip": False, "conditional": True, "device": torch.device("cpu")} | changes
    return BatchSource(ArraySplit(images, torch.arange(size)), batch_size=batch_size, **settings)


@pytest.mark.parametrize("batch_size", [1, 4, 10, 25])  # 4 straddles two epochs, 25 three
def test_each_epoch_sees_each_image_once_in_an_order_of_its_own(batch_size: int) -> None:
    batches = source(10, batch_size)
    drawn = torch.cat([batches.indices(step) for step in range(100 // batch_size)])
    epochs = drawn.reshape(10, 10)
    assert torch.equal(epochs.sort(dim=1).values, torch.arange(10).expand(10, 10))
    assert len({tuple(epoch.tolist()) for epoch in epochs}) == 10
    # steps may be read in any order: nothing is drawn in sequence
    last = 100 // batch_size - 1
    assert torch.equal(source(10, batch_size).indices(last), drawn[last * batch_size :])


def test_the_order_depends_on_the_seed() -> None:
    assert not torch.equal(source(50, 50).indices(0), source(50, 50, seed=4).indices(0))


@pytest.mark.parametrize("step", [0, 7])
def test_flips_are_functions_of_seed_step_and_position(step: int) -> None:
    batches, plain = source(40, 16, horizontal_flip=True), source(40, 16)
    draw = counter_random.uniform(3, Stream.FLIP, step=step, positions=torch.arange(16))
    flipped, whole = batches(step), plain(step)
    assert 2 < int((draw < 0.5).sum()) < 14
    for position in range(16):
        expected = whole.x0[position].flip(-1) if draw[position] < 0.5 else whole.x0[position]
        assert torch.equal(flipped.x0[position], expected)
    assert torch.equal(flipped.labels, whole.labels)


def test_processes_share_one_global_batch() -> None:
    whole = source(40, 16, horizontal_flip=True)(2)
    parts = [source(40, 16, horizontal_flip=True, process_index=i, num_processes=4)(2) for i in range(4)]
    for name in ("x0", "labels", "positions"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))


def test_labels_are_the_images_own_and_only_where_asked_for() -> None:
    batches = source(40, 16)
    assert torch.equal(batches(1).labels, batches.indices(1))  # labels are numbered like the images
    assert source(40, 16, conditional=False)(1).labels is None


def test_model_space_keeps_all_256_levels() -> None:
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    space = to_model_space(levels)
    assert (space.min(), space.max()) == (-1, 1)
    assert torch.equal(to_uint8(space), levels)
    assert to_uint8(torch.tensor([-7.0, 7.0, 0.4 / 127.5 - 1, 0.6 / 127.5 - 1])).tolist() == [0, 255, 0, 1]
