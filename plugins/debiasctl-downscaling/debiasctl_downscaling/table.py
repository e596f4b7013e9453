"""The comparison of ways to downscale, as a table of metrics with intervals."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from debiasctl_downscaling.metrics import Figure

TITLES = {
    "constraint_rmse": "constraint RMSE",
    "covariance_rmse": "covariance RMSE",
    "melr": "MELR",
    "melr_weighted": "MELR, weighted",
    "kld": "KLD",
    "wasserstein1": "Wasserstein-1",
    "sinkhorn_divergence": "Sinkhorn divergence",
}


def markdown(rows: Mapping[str, Mapping[str, Figure]]) -> str:
    """A table with a row for each way, and a column for each metric; smaller is better in all of them."""
    columns = [name for name in TITLES if any(name in row for row in rows.values())]
    lines = ["| | " + " | ".join(TITLES[name] for name in columns) + " |", "|---|" + "---|" * len(columns)]
    for way, row in rows.items():
        cells = [_cell(row[name]) if name in row else "" for name in columns]
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def listed(figures: Mapping[str, Figure]) -> str:
    """The figures of one set of images, a line each."""
    width = max(map(len, TITLES.values()))
    return "\n".join(f"{TITLES[name]:{width}}  {_cell(figures[name])}" for name in TITLES if name in figures)


def as_json(rows: Mapping[str, Mapping[str, Figure]]) -> dict[str, Any]:
    """The figures as JSON holds them."""
    return {way: {name: asdict(figure) for name, figure in row.items()} for way, row in rows.items()}


def _cell(figure: Figure) -> str:
    return f"{_text(figure.value)} ({_text(figure.low)} to {_text(figure.high)})"


def _text(value: float) -> str:
    return f"{value:.2g}" if 0 < value < 0.1 else f"{value:.3g}" if value else "0"
