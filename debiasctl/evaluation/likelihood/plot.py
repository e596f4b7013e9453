"""Plots of the variational bound's terms, as PNG or SVG."""

from pathlib import Path

from debiasctl.evaluation.record import LikelihoodRecord
from debiasctl.reporting.style import WIDTHS, Width, finish_panel, plot_style, save_figure


def plot_terms(path: Path, record: LikelihoodRecord, *, width: Width = "page") -> None:
    """Plot each timestep's contribution to a bound against t, with two standard errors, and the cumulative sum."""
    from matplotlib.figure import Figure

    assert record.prior is not None, "the record of a bound has its parts"
    middles, edges, heights, errors, sums = [], [0.5], [], [], [0.0]
    for term in record.terms:
        length = term.high - term.low + 1
        middles.append((term.low + term.high) / 2 + 1)  # counted from 1 for the logarithmic axis
        edges.append(term.high + 1.5)
        heights.append(term.bits / length)
        errors.append(2 * term.se / length)
        sums.append(sums[-1] + term.bits)
    with plot_style():
        figure = Figure(figsize=(WIDTHS[width], 4.6), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True)
        above.stairs(heights, edges, color="#0072B2")
        above.errorbar(middles, heights, yerr=errors, fmt="none", color="#0072B2", linewidth=0.8)
        above.set(yscale="log", ylabel="bits/dim of one timestep (±2 SE)")
        below.plot(edges, sums, color="#0072B2")
        total = sums[-1] + record.prior.bits
        below.axhline(
            total, color="#D55E00", linewidth=1, label=f"with the prior's {record.prior.bits:.2g}: {total:.4g}"
        )
        below.legend(frameon=False, loc="lower right")
        below.set(xscale="log", ylabel="bits/dim up to t", xlabel="t + 1    (1: clean image → noise)")
        for panel in (above, below):
            finish_panel(panel)
        figure.suptitle(f"Variational bound of run '{record.run}', checkpoint {record.checkpoint}")
        save_figure(path, figure)
