import numpy as np
import pytest
import torch
from scipy.stats import chi2

from debiasctl.api import ArraySplit
from debiasctl.evaluation.uncertainty.class_counts import CHOSEN, DRAWN, ONE, UNKNOWN, as_drawn, chosen_counts


def labels(*counts):
    """So many images of each class, in an order that means nothing."""
    found = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return found[torch.randperm(len(found), generator=torch.Generator().manual_seed(0))]


@pytest.mark.parametrize("counts", [[50, 50], [51, 50], [5] * 7, [6, 6, 5], [40], [2] + [1] * 8])
def test_equal_counts_are_chosen(counts):
    assert chosen_counts(labels(*counts))
    assert chosen_counts(3 * labels(*counts) + 5)  # whatever the numbers of the classes


@pytest.mark.parametrize("num_classes, num", [(3, 3000), (10, 1000), (50, 5000)])
def test_the_bound_is_the_quantile_of_chi_square(num_classes, num):
    """Half of the classes `gap` above and half below their share: the statistic is (K or K - 1) gap² K / N."""
    bound = chi2.ppf(0.01, num_classes - 1)
    share, pairs = num // num_classes, num_classes // 2
    verdicts = {}
    for gap in range(1, 60):
        counts = [share] * (num_classes % 2) + [share - gap, share + gap] * pairs
        verdicts[chosen_counts(labels(*counts))] = gap
        assert chosen_counts(labels(*counts)) == (2 * pairs * gap**2 / share < bound)
    assert set(verdicts) == {True, False}


def test_labels_that_are_all_different_say_nothing():
    assert not chosen_counts(labels(*[1] * 9))


def test_classes_without_an_image_count():
    counts = [12, 10, 11, 10, 12, 9, 11, 10]
    assert chosen_counts(labels(*counts))
    assert not chosen_counts(labels(*counts[:4], 0, 0, *counts[4:]))


@pytest.mark.parametrize("num, num_classes", [(1000, 10), (3000, 1000), (600, 1000)])
def test_random_classes_rarely_pass(num, num_classes):
    generator = torch.Generator().manual_seed(0)
    drawn = [chosen_counts(torch.randint(num_classes, (num,), generator=generator)) for _ in range(400)]
    assert np.mean(drawn) < 0.04  # 1 %, somewhat more where classes have few images, and three standard errors


@pytest.mark.parametrize("num", [500, 1000, 10_000])
def test_a_runs_even_classes_pass(num):
    """The golden ratio's sequence, as `sample` spreads classes."""
    for offset in np.linspace(0, 1, 20):
        quantiles = torch.from_numpy((offset + np.arange(num) * 0.6180339887498949) % 1)
        assert chosen_counts((quantiles * 10).long())


def test_only_chosen_counts_are_kept():
    array = torch.arange(100, dtype=torch.uint8)[:, None, None, None]
    numbers = torch.tensor([5, 2])
    for targets, note in [(None, UNKNOWN), (labels(50, 50), CHOSEN), (labels(60, 40), DRAWN)]:
        split, found = as_drawn(ArraySplit(array, targets))
        assert found == note
        assert len(split) == 100
        assert split.images(numbers).flatten().tolist() == [5, 2]
        kept = split.labels(numbers)
        assert (kept is None) == (note != CHOSEN)
        assert kept is None or torch.equal(kept, targets[numbers])


def test_one_class_alone_has_no_counts_to_choose():
    images = torch.zeros(40, 1, 2, 2, dtype=torch.uint8)
    split, note = as_drawn(ArraySplit(images, torch.full((40,), 3)))
    assert note == ONE
    assert split.labels(torch.arange(40)) is None
