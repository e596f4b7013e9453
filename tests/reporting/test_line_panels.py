"""Panels of lines and of matrices."""

import pytest

from debiasctl.reporting.line_panels import Matrix, draw_matrices


@pytest.mark.parametrize("number", [1, 4, 5])
def test_matrices_that_do_not_fill_their_rows_are_drawn(number: int) -> None:
    matrix = Matrix("an arm", ["a", "b"], [[1.0, None], [None, 1.0]], [[True, False], [False, True]])
    figure = draw_matrices([matrix] * number, label="cosine", width="page")
    assert len(figure.axes) == number + 1  # the scale
