"""Some images of a split are of all its classes, whatever their order; of the usual orders they are evenly spread."""

import pytest
import torch
from tiny import digits

from debiasctl import registry
from debiasctl.api import ArraySplit, DataLocation, spread_indices
from debiasctl.data.spread import spread_over


def split_of(labels: torch.Tensor | None, num: int = 0) -> ArraySplit:
    return ArraySplit(torch.zeros(num if labels is None else len(labels), 1, 1, 1), labels)


def counts(labels: torch.Tensor, count: int) -> list[int]:
    indices = spread_over(split_of(labels), count)
    assert len(indices.unique()) == len(indices) == min(count, len(labels))
    assert torch.equal(indices, indices.sort().values)
    return torch.bincount(labels[indices], minlength=int(labels.max()) + 1).tolist()


@pytest.mark.parametrize(
    "labels, count, expected",
    [
        (torch.arange(512) % 2, 256, [128, 128]),
        (torch.arange(512) % 2, 4, [2, 2]),
        (torch.arange(2000) % 10, 400, [40] * 10),
        (torch.arange(2000) % 10, 10, [1] * 10),
        (torch.arange(12) // 3 % 2, 4, [2, 2]),
        (torch.tensor([0, 0, 1, 2] * 256), 512, [256, 128, 128]),
        (
            torch.cat([torch.arange(1000) % 2, torch.zeros(3, dtype=torch.int64)]),
            250,
            [126, 124],
        ),  # not quite to the end
    ],
)
def test_classes_that_alternate_have_their_shares(labels: torch.Tensor, count: int, expected: list[int]) -> None:
    assert counts(labels, count) == pytest.approx(expected, abs=1)


@pytest.mark.parametrize("count", [1, 3, 4, 37, 100, 256, 295, 1000])
def test_built_in_sets_and_usual_orders_are_spread_as_ever(count: int) -> None:
    """The held-out numbers of training are what they were."""
    generator = torch.Generator().manual_seed(0)
    mixture = registry.create("datasets", "gaussian-mixture:num=4000").load(DataLocation(None, None))
    shuffled = torch.randint(0, 10, (5000,), generator=generator)
    rare = (torch.rand(5000, generator=generator) ** 6 * 40).long()
    splits = [
        digits().heldout, digits().train, mixture.heldout, mixture.train, split_of(None, 2000), split_of(shuffled),
        split_of(shuffled.sort().values), split_of(rare), split_of(torch.zeros(500, dtype=torch.int64)), split_of(None),
    ]  # fmt: skip
    for split in splits:
        assert torch.equal(spread_over(split, count), spread_indices(len(split), count))
