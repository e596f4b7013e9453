import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from debiasctl.evaluation.metrics.distances import (
    Moments,
    covariance_root,
    frechet_distance,
    gaussian_moments,
    kernel_self_mean,
)
from debiasctl.evaluation.uncertainty import jackknife
from debiasctl.evaluation.uncertainty.intervals import GROUPS, jackknife_interval
from debiasctl.evaluation.uncertainty.jackknife import (
    Division,
    Gaussian,
    KernelSums,
    extrapolate,
    frechet_jackknife,
    group_moments,
    group_numbers,
    mean_jackknife,
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def kernel_distance(x, y):
    """From whole matrices of kernels."""
    k = lambda a, b: (a @ b.T / a.shape[1] + 1) ** 3  # noqa: E731
    same = [float(k(s, s).sum() - k(s, s).diagonal().sum()) / len(s) / (len(s) - 1) for s in (x, y)]
    return sum(same) - 2 * float(k(x, y).mean())


def gaussian(features):
    mean, covariance = gaussian_moments(features)
    return Gaussian(mean, covariance, covariance_root(covariance))


@pytest.fixture(scope="module")
def benchmark():
    path = Path(__file__).parents[3] / "benchmarks" / "interval_coverage.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("num", [100, 599, 1024])
def test_groups_are_of_one_size_and_the_same_every_time(num):
    numbers = group_numbers(num)
    counts = torch.bincount(numbers, minlength=GROUPS)
    assert counts.sum() == num
    assert counts.max() - counts.min() <= 1
    assert torch.equal(numbers, group_numbers(num))


@pytest.mark.parametrize("labels", [torch.arange(1000) % 10, torch.arange(1000) // 100], ids=["in turns", "sorted"])
def test_no_group_is_of_few_classes(labels):
    numbers = group_numbers(1000)
    assert all(len(labels[numbers == group].unique()) > 6 for group in range(GROUPS))


def by_hand(statistic, rows):
    """Pseudo-values with every statistic computed anew from the rows that stay."""
    numbers, full = group_numbers(len(rows)), statistic(rows)
    return [GROUPS * full - (GROUPS - 1) * statistic(rows[numbers != group]) for group in range(GROUPS)]


def test_the_frechet_jackknife_from_rows():
    x, target = normal(203, 5, seed=1) * 1.3 + 40, gaussian(normal(500, 5, seed=2) + 40)
    found = frechet_jackknife(x, target)

    def distance(rows):
        return frechet_distance(*gaussian_moments(rows), target.mean, target.covariance)

    np.testing.assert_allclose(found.pseudo_values, by_hand(distance, x), rtol=1e-7)
    numbers = group_numbers(203)
    pair = (numbers != 3) & (numbers != 4)
    second = GROUPS**2 * distance(x) + (GROUPS - 2) ** 2 * distance(x[pair])
    second -= (GROUPS - 1) ** 2 * sum(distance(x[numbers != group]) for group in (3, 4))
    expected = second - found.pseudo_values[3] - found.pseudo_values[4]
    assert found.interactions[3] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("num", [30, 157])
def test_the_kernel_jackknife_from_rows(num):
    x, y = normal(num, 3, seed=1) + 0.3, normal(80, 3, seed=2)
    y_self = kernel_self_mean(y)
    sums = KernelSums(x, y, y_self=y_self)
    assert sums.distance() == pytest.approx(kernel_distance(x, y), rel=1e-10)
    found = sums.jackknife().pseudo_values
    np.testing.assert_allclose(found, by_hand(lambda rows: kernel_distance(rows, y), x), rtol=1e-8)


def test_the_kernel_distance_of_fewer_images_than_groups():
    x, y = normal(7, 3, seed=1), normal(9, 3, seed=2)
    assert KernelSums(x, y, y_self=kernel_self_mean(y)).distance() == pytest.approx(kernel_distance(x, y), rel=1e-10)


def test_the_jackknife_of_a_function_of_means():
    values = normal(130, 2).exp()

    def statistic(mean):
        return float(mean.log().sum())

    found = mean_jackknife(values, statistic).pseudo_values
    np.testing.assert_allclose(found, by_hand(lambda rows: statistic(rows.mean(dim=0)), values), rtol=1e-9)
    np.testing.assert_allclose(
        mean_jackknife(values[:, 0]).pseudo_values, by_hand(lambda rows: float(rows.mean()), values[:, 0]), rtol=1e-9
    )


CLASSES = torch.tensor([3, 0, 1, 1, 0, 2, 1, 3, 2, 1, 0, 3])[torch.arange(240) % 12]  # 60, 80, 40 and 60 images


def of_shares(rows, classes, statistic):
    """A statistic of rows that are weighted so that their classes count as in `CLASSES`."""
    counts, there = torch.bincount(CLASSES).double(), torch.bincount(classes)
    weights = (counts / there)[classes] * len(rows) / len(CLASSES)
    return statistic(rows, weights)


def test_chosen_classes_keep_their_shares_when_a_group_is_left_out():
    division = Division.of(240, CLASSES)
    for left_out in [(), (3,), (19, 0)]:
        weights = division.weights(left_out)
        stays = ~torch.isin(division.groups, torch.tensor(left_out, dtype=torch.int64))
        assert weights[~stays].sum() == 0
        assert weights.sum() == pytest.approx(stays.sum().item())
        shares = torch.bincount(CLASSES, weights=weights) / weights.sum()
        torch.testing.assert_close(shares, torch.bincount(CLASSES).double() / 240)


def test_the_jackknives_of_chosen_classes_from_rows():
    x, y = normal(240, 3, seed=1) + CLASSES[:, None], normal(80, 3, seed=2) + 2
    division, target = Division.of(240, CLASSES), gaussian(y)
    y_self = kernel_self_mean(y)

    def mean(rows, weights):
        return float((weights[:, None] * rows).sum(dim=0).exp().sum() / 1e3)

    def distance(rows, weights):
        centre = np.average(rows, axis=0, weights=weights)
        covariance = np.cov(rows.T, aweights=weights, ddof=0) * len(rows) / (len(rows) - 1)
        return frechet_distance(torch.from_numpy(centre), torch.from_numpy(covariance), target.mean, target.covariance)

    def kernel(rows, weights):
        def k(a, b):
            return (a @ b.T / 3 + 1) ** 3

        pairs = np.outer(weights, weights) * (1 - np.eye(len(rows)))
        across = np.average(k(rows, y).numpy().mean(axis=1), weights=weights)
        return (pairs * k(rows, rows).numpy()).sum() / pairs.sum() + y_self - 2 * across

    found = {
        distance: frechet_jackknife(x, target, division),
        kernel: KernelSums(x, y, y_self=y_self, division=division).jackknife(),
    }
    for statistic, of_groups in found.items():
        full = of_shares(x, CLASSES, statistic)
        expected = [
            GROUPS * full - (GROUPS - 1) * of_shares(x[stays], CLASSES[stays], statistic)
            for stays in (division.groups != group for group in range(GROUPS))
        ]
        np.testing.assert_allclose(of_groups.pseudo_values, expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [50, 1000])
def test_weighted_moments_in_blocks_are_those_of_all_rows(monkeypatch, rows, dtype):
    monkeypatch.setattr(jackknife, "_ROWS", rows)
    x, division = (normal(240, 4, seed=1) + 40).to(dtype), Division.of(240, CLASSES)
    for left_out in [(), (3,), (19, 0)]:
        weights = division.weights(left_out)
        found = jackknife._weighted_moments(x, weights)
        covariance = np.cov(x.double().T, aweights=weights, ddof=0)
        assert found.num == (~torch.isin(division.groups, torch.tensor(left_out))).sum()
        np.testing.assert_allclose(found.mean, np.average(x.double(), axis=0, weights=weights), rtol=1e-12)
        np.testing.assert_allclose(found.scatter, covariance * found.num, rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("size", [2, 3, 7, 20])
def test_the_bias_of_small_classes_is_taken_off_once(size):
    """Of the square of a mean to which a class of n images adds (n/N)² s²/n, whatever n."""
    classes = torch.cat([torch.zeros(size), torch.ones(40), torch.full((60,), 2)]).long()
    values = torch.cat([normal(size, 1, seed=3)[:, 0], torch.full((40,), 0.3), torch.full((60,), -0.7)]).double()
    found = mean_jackknife(values, lambda mean: float(mean) ** 2, division=Division.of(len(values), classes))
    bias = (size / len(values)) ** 2 * values[:size].var() / size
    assert np.mean(found.pseudo_values) == pytest.approx(float(values.mean() ** 2 - bias), rel=1e-9)


def test_chosen_classes_of_single_images_vary_together():
    division = Division.of(50, torch.cat([torch.arange(10), torch.full((40,), 10)]))
    assert (division.classes[:10] == division.classes[0]).all()
    assert division.classes[0] != division.classes[10]
    assert all(division.weights((group,)).isfinite().all() for group in range(GROUPS))


def test_a_subset_is_in_the_classes_proportions_however_the_images_lie():
    for classes in (torch.arange(400) // 100, torch.arange(400) % 4):
        chosen = Division.of(400, classes).subset(100)
        assert torch.equal(chosen, chosen.unique())
        assert torch.bincount(classes[chosen]).tolist() == [25] * 4
        assert torch.bincount(classes[Division.of(400).subset(100)]).min() > 10
    assert torch.equal(Division.of(400).subset(400), torch.arange(400))


@pytest.mark.parametrize("step", [2, 5, 10, 20])
@pytest.mark.parametrize("classes", [None, torch.arange(2000) % 8], ids=["unlabelled", "classes"])
def test_a_subset_fills_all_groups(step, classes):
    whole = Division.of(2000, classes)
    part = whole.take(whole.subset(2000 // step))
    counts = torch.bincount(part.groups, minlength=GROUPS)
    assert counts.sum() == 2000 // step
    assert counts.max() - counts.min() <= 1
    assert (part.classes is None) == (classes is None)


@pytest.mark.parametrize("num", [500, 1000])
def test_intervals_hold_the_truth_where_class_counts_were_chosen(num):
    """Ten classes far apart, 1/10 of the images each: a jackknife that varies them would miss every time."""
    generator = torch.Generator().manual_seed(0)
    centres = 3 * torch.randn(10, 8, generator=generator, dtype=torch.float64)

    def population(centres):
        mean = centres.mean(dim=0)
        covariance = torch.eye(8).double() + (centres - mean).T @ (centres - mean) / 10
        return Gaussian(mean, covariance, covariance_root(covariance))

    target, moved = population(centres), centres + 0.1 * torch.randn(10, 8, generator=generator, dtype=torch.float64)
    generated = population(moved)
    truth = frechet_distance(generated.mean, generated.covariance, target.mean, target.covariance)
    held, missed = 0, 0
    for _ in range(60):
        classes = ((torch.rand(1, generator=generator) + torch.arange(num) * 0.6180339887498949) % 1 * 10).long()
        rows = moved[classes] + torch.randn(num, 8, generator=generator, dtype=torch.float64)
        interval = jackknife_interval(frechet_jackknife(rows, target, Division.of(num, classes)))
        freely = jackknife_interval(frechet_jackknife(rows, target))
        held += interval.low <= truth <= interval.high
        missed += not freely.low <= truth <= freely.high
    assert held >= 53  # 95 % of 60, less 2.5 standard errors
    assert missed > 30


def test_extrapolation_finds_the_law():
    """Groups of equal means and scatters s: the covariance of k groups is s k/(k n - 1)."""
    groups = []
    for _ in range(GROUPS):
        moments = Moments(1)
        moments.add(torch.tensor([[-1.0], [1.0]], dtype=torch.float64))
        groups.append(moments)
    point = Gaussian(torch.zeros(1).double(), torch.zeros(1, 1).double(), torch.zeros(1, 1).double())
    found = extrapolate(groups, point)
    nums = np.array(found.nums)
    assert found.nums == [20, 24, 28, 32, 36, 40]
    slope, value = np.polyfit(1 / nums, nums / (nums - 1), 1)
    assert found.value == pytest.approx(value, rel=1e-9)
    residual = np.sqrt(np.mean((value + slope / nums - nums / (nums - 1)) ** 2))
    assert found.fit_residual == pytest.approx(residual, rel=1e-4)


def test_extrapolation_and_jackknife_are_free_of_the_bias():
    target = Gaussian(torch.zeros(8).double(), torch.eye(8).double(), torch.eye(8).double())
    plain, fitted, corrected = [], [], []
    for seed in range(25):
        rows = normal(400, 8, seed=seed) + 0.1  # 8 · 0.1² = 0.08
        fitted.append(extrapolate(group_moments(rows), target).value)
        corrected.append(jackknife_interval(frechet_jackknife(rows, target)).estimate)
        plain.append(
            frechet_distance(*gaussian_moments(normal(400, 8, seed=seed) + 0.1), target.mean, target.covariance)
        )
    assert np.mean(plain) > 0.11
    for values in (fitted, corrected):
        assert abs(np.mean(values) - 0.08) < 3 * np.std(values) / np.sqrt(25)
    assert np.std(corrected) < np.std(fitted)


def test_an_extrapolation_knows_its_error():
    """Its points share most images and lie near a line, so that the fit's residual is far smaller than the error."""
    target = Gaussian(torch.zeros(6).double(), torch.eye(6).double(), torch.eye(6).double())
    found = [extrapolate(group_moments(normal(300, 6, seed=seed) + 0.3), target) for seed in range(40)]
    deviation = np.std([one.value for one in found], ddof=1)
    assert np.mean([one.se**2 for one in found]) ** 0.5 == pytest.approx(deviation, rel=0.4)
    assert np.mean([one.fit_residual for one in found]) < 0.4 * deviation


def test_the_covariance_of_a_mean():
    rows, classes = normal(120, 3) + torch.arange(120)[:, None] % 3 * 5.0, torch.arange(120) % 3
    plain = Division.of(120).covariance_of_mean(rows)
    np.testing.assert_allclose(plain, np.cov(rows.T) / 120, rtol=1e-10)
    within = sum(np.cov(rows[classes == number].T) * 40 for number in range(3)) / 120**2
    np.testing.assert_allclose(Division.of(120, classes).covariance_of_mean(rows), within, rtol=1e-10)


def test_intervals_of_the_frechet_distance_cover(benchmark):
    one, other = (benchmark.Population(benchmark.CASES[4], 4, strength=strength) for strength in (1.0, 1.3))
    generator = torch.Generator().manual_seed(0)
    truths, draw = benchmark.frechet_pairs(one, other, num=250, generator=generator)
    found = benchmark.tally(truths, draw, replicates=80)
    for share in (found.single, found.shared, found.own):
        assert share >= 0.88  # 3 standard errors below 95 %
    assert found.plain > found.corrected
    assert found.corrected == pytest.approx(found.truth, abs=0.25 * found.half_width)  # 6 standard errors


@pytest.mark.parametrize("num", [4, 40])
def test_simulated_moments_follow_their_law(benchmark, num):
    """Of n rows: E S = (n - 1) I, and E S² entry by entry is (n - 1)(n + 1) on the diagonal and n - 1 beside it."""
    generator = torch.Generator().manual_seed(0)
    drawn = [benchmark.normal_moments(num, 6, generator) for _ in range(3000)]
    scatters, means = (torch.stack([getattr(one, name) for one in drawn]) for name in ("scatter", "mean"))
    freedom, one = num - 1, torch.eye(6).double()
    torch.testing.assert_close(scatters.mean(dim=0) / freedom, one, rtol=0, atol=5 * (2 / freedom / 3000) ** 0.5)
    squares = freedom * (1 + (freedom + 1) * one)
    torch.testing.assert_close(scatters.square().mean(dim=0) / squares, torch.ones(6, 6).double(), rtol=0, atol=0.25)
    torch.testing.assert_close(means.var(dim=0) * num, torch.ones(6).double(), rtol=0, atol=0.15)


def test_the_kernels_expectation_of_gaussians(benchmark):
    one, other = (benchmark.Population(benchmark.CASES[5], 3, strength=strength) for strength in (1.0, 0.4))
    generator = torch.Generator().manual_seed(0)
    x, y = (
        population.features(torch.randn(num, 3, generator=generator, dtype=torch.float64))
        for population, num in ((one, 400_000), (other, 5))
    )
    by_hand = ((x @ y.T / 3 + 1) ** 3).mean()
    assert benchmark.kernel_to(one, y) == pytest.approx(by_hand.item(), rel=0.01)
    many = other.features(torch.randn(400_000, 3, generator=generator, dtype=torch.float64))
    assert benchmark.kernel_mean(one, other) == pytest.approx(benchmark.kernel_to(one, many), rel=0.01)


def test_a_plain_bootstrap_does_not(benchmark):
    assert benchmark.bootstrap_coverage(benchmark.CASES[2], num=256, dimension=16, replicates=20, draws=40) < 0.7


def test_intervals_of_the_kernel_distance_cover():
    """In one dimension the kernel's expectation is 1 + 3 m1² + 3 m2² + m3² with the raw moments m."""
    y = normal(300, 1, seed=10_000)
    y_self = kernel_self_mean(y)
    shift = 0.3
    m = [shift, 1 + shift**2, 3 * shift + shift**3]
    n = [float((y**power).mean()) for power in (1, 2, 3)]
    truth = 1 + 3 * m[0] ** 2 + 3 * m[1] ** 2 + m[2] ** 2 + y_self
    truth -= 2 * (1 + 3 * m[0] * n[0] + 3 * m[1] * n[1] + m[2] * n[2])
    intervals = [
        jackknife_interval(KernelSums(normal(400, 1, seed=seed) + shift, y, y_self=y_self).jackknife())
        for seed in range(60)
    ]
    covered = np.mean([interval.low <= truth <= interval.high for interval in intervals])
    assert covered >= 0.86
    assert np.mean([interval.estimate for interval in intervals]) == pytest.approx(truth, rel=0.1)
