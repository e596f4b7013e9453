"""Corrections for the number of comparisons: Holm over arms for the primary metric, which is a gate for the rest."""

from collections.abc import Sequence


def holm(values: Sequence[float | None]) -> list[float | None]:
    """p values corrected by Holm's method (1979); None counts in the family, as a comparison that shows nothing."""
    order = sorted((index for index, value in enumerate(values) if value is not None), key=lambda i: values[i] or 0.0)
    corrected: list[float | None] = [None] * len(values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - rank) * (values[index] or 0.0)))
        corrected[index] = largest
    return corrected


def gated(primary: Sequence[float | None], rest: Sequence[Sequence[float | None]]) -> list[list[float | None]]:
    """Corrected p values of the rest, one row a metric and one column an arm, given the primary's corrected ones.

    Holm over the whole rest; none is below its arm's primary, so that nothing passes unless the primary metric does.
    """
    flat = iter(holm([value for row in rest for value in row]))
    table = [[next(flat) for _ in row] for row in rest]
    return [
        [
            None if own is None else max(own, 1.0 if gate is None else gate)
            for own, gate in zip(row, primary, strict=True)
        ]
        for row in table
    ]
