import math

import pytest
import torch
from scipy import stats

from debiasctl.compute.counter_random import Stream, normal, order, philox, uniform

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "expected"),  # Random123's kat_vectors, philox4x32 10
    [
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((ONES,) * 4, (ONES,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_known_answers(counter: tuple[int, ...], key: tuple[int, int], expected: str) -> None:
    words = philox(counter, key[0] | key[1] << 32)
    assert " ".join(f"{int(word):08x}" for word in words) == expected


def draw(seed: int = 0, stream: Stream = Stream.NOISE, *, step: int = 0, positions: torch.Tensor, shape=(3, 4, 4)):
    return normal(seed, stream, step=step, positions=positions, shape=shape)


def test_uniform_is_made_of_the_words_it_should_be() -> None:
    words = philox([0, torch.arange(5), 7, int(Stream.TIMESTEP)], 3)
    got = uniform(3, Stream.TIMESTEP, step=7, positions=torch.arange(5))
    assert got.dtype == torch.float64
    for i, value in enumerate(got.tolist()):
        assert value == ((int(words[0][i]) >> 5) * 2**26 + (int(words[1][i]) >> 6)) / 2**53


def test_uniform_is_uniform_below_one() -> None:
    values = uniform(1, Stream.TIMESTEP, step=0, positions=torch.arange(100_000))
    assert values.min() >= 0
    assert values.max() < 1
    assert stats.kstest(values.numpy(), "uniform").pvalue > 0.01
    across_steps = torch.cat([uniform(1, Stream.TIMESTEP, step=k, positions=torch.arange(8)) for k in range(2000)])
    assert stats.kstest(across_steps.numpy(), "uniform").pvalue > 0.01


def test_normal_is_normal() -> None:
    values = draw(2, positions=torch.arange(400), shape=(1000,)).to(torch.float64)
    assert stats.kstest(values.flatten().numpy(), "norm").pvalue > 0.01
    count = values.numel()
    # moments 1 … 4 within 4 standard errors: Var(x^k) = E x^2k - (E x^k)^2
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(values.pow(power).mean() - moment) < 4 * math.sqrt(variance / count)
    assert values.abs().max() < 6.7  # the smallest uniform is 2^-32
    # neighbours in a row (one Box–Muller pair, and next pairs) and neighbouring rows do not correlate
    for a, b in ((values[:, :-1], values[:, 1:]), (values[:, :-2], values[:, 2:]), (values[:-1], values[1:])):
        assert abs((a * b).mean()) < 4 / math.sqrt(a.numel())
        assert abs((a.square() * b.square()).mean() - 1) < 4 * math.sqrt(8 / a.numel())


@pytest.mark.parametrize("chosen", [[0], [7, 2, 5], [4, 4], list(range(10))[::-1], [0, 1, 2, 3]])
def test_a_row_does_not_depend_on_the_others(chosen: list[int]) -> None:
    positions = torch.arange(10)
    assert torch.equal(draw(positions=positions)[chosen], draw(positions=positions[chosen]))
    whole = uniform(0, Stream.FLIP, step=3, positions=positions)
    assert torch.equal(whole[chosen], uniform(0, Stream.FLIP, step=3, positions=positions[chosen]))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 16])
def test_a_smaller_image_gets_the_beginning(size: int) -> None:
    long = draw(positions=torch.arange(3), shape=(17,))
    assert torch.equal(long[:, :size], draw(positions=torch.arange(3), shape=(size,)))
    assert draw(positions=torch.arange(3), shape=(1, size, 1)).shape == (3, 1, size, 1)


def test_everything_that_names_a_number_changes_it() -> None:
    positions = torch.arange(4)
    draws = [
        draw(seed, stream, step=step, positions=positions)
        for seed in (0, 1, 2**32, 2**63 - 1)
        for stream in Stream
        for step in (0, 1, 1000)
    ]
    rows = torch.cat(draws).flatten(1)
    assert len(torch.unique(rows, dim=0)) == len(rows)
    assert torch.equal(draws[0], draw(0, next(iter(Stream)), step=0, positions=positions))
    correlation = torch.corrcoef(rows.to(torch.float64)) - torch.eye(len(rows))
    assert correlation.abs().max() < 6 / math.sqrt(rows.shape[1])


def test_it_neither_reads_nor_moves_torchs_generator() -> None:
    torch.manual_seed(0)
    state, first = torch.get_rng_state(), draw(positions=torch.arange(2))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert torch.equal(draw(positions=torch.arange(2)), first)


@pytest.mark.parametrize("size", [1, 2, 1501])
def test_an_order_is_a_permutation(size: int) -> None:
    orders = [order(seed, epoch=epoch, size=size) for seed in (0, 1) for epoch in (0, 1)]
    for one in orders:
        assert one.dtype == torch.int64
        assert torch.equal(one.sort().values, torch.arange(size))
    if size > 2:
        assert len(torch.unique(torch.stack(orders), dim=0)) == 4
        assert all(abs(stats.spearmanr(one, torch.arange(size)).statistic) < 4 / math.sqrt(size) for one in orders)
