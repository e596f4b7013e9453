import pytest

from debiasctl.api import spread_indices


@pytest.mark.parametrize("total, count", [(10, 3), (10, 10), (10, 50), (7, 2), (0, 5), (50_001, 50_000)])
def test_spread_indices(total, count):
    indices = spread_indices(total, count)
    assert len(indices) == min(total, count)
    assert len(indices.unique()) == len(indices)
    if len(indices):
        assert indices[0] == 0
        assert indices[-1] < total
        steps = indices.diff()
        assert not len(steps) or steps.max() - steps.min() <= 1
