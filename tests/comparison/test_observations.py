"""What a comparison takes from a stored evaluation."""

import pytest
from records import figure_json, interval_json, record

from debiasctl.comparison.observations import observed


@pytest.mark.parametrize(
    ("changes", "floor"),
    [
        ({}, 0.1),
        ({"corrected": 0.02, "interval": interval_json([0.0] * 20), "floor_corrected": 0.01}, 0.01),
        ({"corrected": 0.02, "interval": interval_json([0.0] * 20)}, None),
    ],
)
def test_a_corrected_figure_stands_beside_a_corrected_floor(changes, floor):
    """The floor's own bias is that of fewer images: a model would look better than real images."""
    found = observed(record({"fd_local": figure_json(0.05, floor=0.1, **changes)}).metrics["fd_local"])
    assert (found.value, found.corrected, found.floor) == (0.05, changes.get("corrected"), floor)
