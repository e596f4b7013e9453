"""Compute the numbers in docs/concepts/weightings.md: python docs/build.py [--check] [--measure]

They stand between `<!-- computed: NAME -->` and `<!-- end -->`. With --check nothing is written, and the exit status is
1 where a block is out of date. The block `gradient-variance` is measured, in some minutes, and only with --measure.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from debiasctl import registry
from debiasctl.analysis.weight_curves import schedule_process, weight_curves
from debiasctl.api import Prediction, Weighting
from debiasctl.diffusion.objective import VANISHING, Objective
from debiasctl.diffusion.parameterization import Parameterization
from debiasctl.diffusion.process import DiffusionProcess
from debiasctl.diffusion.weighting import weight_in

PAGE = Path(__file__).with_name("concepts") / "weightings.md"
BENCHMARK = PAGE.parents[2] / "benchmarks" / "gradient_variance.py"
MEASURED = "gradient-variance"
BLOCK = re.compile(r"(<!-- computed: (?P<name>[\w-]+) -->\n)(?P<body>.*?)(<!-- end -->)", re.DOTALL)

SCHEDULES = ("linear", "cosine")
SNRS = (1e-4, 1e-2, 1.0, 1e2, 1e4)
EDGES = (1e2, 1.0, 1e-2)  # of the ranges of SNR that shares are given for
STATIC = (  # weightings that are functions of SNR alone
    "constant",
    "debiased",
    "inverse-snr",
    "constant-x0",
    "constant-v",
    "constant-flow",
    "truncated-snr",
    "p2",
    "p2:gamma=0.5",
    "min-snr",
    "soft-min-snr",
    "edm",
    "sigmoid:measure=t",
    "debiased-clamped",
    "debiased-clamped:form=v",
    "onetrainer-v",
    "onetrainer-v:scheme=p2",
    "v-pred-like",
    "sigma",
    "sigma-sqrt",
    "cosmap",
    "interpolate:p=0.25",
)
WEIGHTINGS = (*STATIC, "sigmoid")
DISTRIBUTIONS = (
    "uniform",
    "lognormal",
    "lognormal:mean=-0.4,std=1",
    "laplace",
    "logit-normal",
    "logit-normal:variable=s",
    "mode",
    "cosmap",
    "cosmap:variable=s",
    "beta",
    "speed",
    "importance",
)


def number(value: float, digits: int = 3) -> str:
    """So many digits: 0.0123, 17.8, 1310, 2.5e4."""
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    if -3 <= int(exponent) < 4:
        return f"{float(f'{value:.{digits}g}'):g}"
    return f"{float(mantissa):g}e{int(exponent)}"


def percent(value: float) -> str:
    """0 %, 0.4 %, 17 %."""
    if 0 < value < 1e-3:
        return "<0.1 %"
    return f"{100 * value:.1f} %" if 0 < value < 0.0995 else f"{100 * value:.0f} %"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def by_reference(heads: Sequence[str], references: Sequence[str], cells: Callable[[str], list[str]]) -> str:
    """A table with a row for each reference; those with equal cells share one."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for reference in references:
        rows.setdefault(tuple(cells(reference)), []).append(f"`{reference}`")
    return table(heads, [[", ".join(names), *values] for values, names in rows.items()])


def process_facts() -> str:
    """What the paper's argument rests on, for each schedule."""
    facts: dict[str, Callable[[Tensor], str]] = {
        "SNR at t = 0": lambda snr: number(float(snr[0]), 4),
        "SNR at t = 999": lambda snr: number(float(snr[-1]), 4),
        "first t with SNR < 1": lambda snr: str(int((snr < 1).nonzero()[0])),
        "1/√SNR, least … greatest": lambda snr: " … ".join(number(float(snr.rsqrt()[t]), 4) for t in (0, -1)),
        "1/√SNR, mean over t": lambda snr: number(float(snr.rsqrt().mean()), 4),
        "1/SNR, least … greatest": lambda snr: " … ".join(number(float(1 / snr[t]), 4) for t in (0, -1)),
        "1/SNR, mean over t": lambda snr: number(float((1 / snr).mean()), 4),
        "share of t = 999 in the sum of 1/√SNR": lambda snr: percent(float(snr.rsqrt()[-1] / snr.rsqrt().sum())),
    }
    tables = [schedule_process(name).snr for name in SCHEDULES]
    return table(["T = 1000", *SCHEDULES], [[name, *[fact(snr) for snr in tables]] for name, fact in facts.items()])


def weights_at_snr() -> str:
    """The published weights in each unit."""
    snr = torch.tensor(SNRS, dtype=torch.float64)
    parts = []
    for unit in ("eps", "x0", "v", "flow"):

        def cells(reference: str, unit: Prediction = unit) -> list[str]:
            weighting: Weighting = registry.create("weightings", reference)
            return [number(float(weight)) for weight in weight_in(weighting, unit, snr=snr)]

        heads = [f"weight on {unit}", *[f"SNR {number(value)}" for value in SNRS]]
        parts.append(by_reference(heads, STATIC, cells))
    return "\n\n".join(parts)


def in_ranges(values: Tensor, snr: Tensor) -> list[str]:
    """Shares of the sum of `values` [T] in the ranges of SNR, from the highest."""
    bounds = [float("inf"), *EDGES, 0.0]
    inside = [(snr < high) & (snr >= low) for high, low in pairwise(bounds)]
    return [percent(float(values[chosen].sum() / values.sum())) for chosen in inside]


def shares() -> str:
    """Where each scheme puts its weight."""
    ranges = [f"SNR > {EDGES[0]:g}", f"{EDGES[1]:g} … {EDGES[0]:g}", f"{EDGES[2]:g} … {EDGES[1]:g}", f"< {EDGES[2]:g}"]
    parts = []
    for schedule in SCHEDULES:
        curves = weight_curves(WEIGHTINGS, schedule=schedule, prediction="eps", normalize="none")
        units: tuple[Prediction, ...] = ("eps", "v")

        def cells(reference: str, curves=curves, units=units) -> list[str]:
            return [share for unit in units for share in in_ranges(curves.weights[reference][unit], curves.snr)]

        heads = [f"{schedule}", *[f"{unit}: {text}" for unit in units for text in ranges]]
        timesteps = ["timesteps themselves", *in_ranges(torch.ones_like(curves.snr), curves.snr) * len(units)]
        lines = by_reference(heads, WEIGHTINGS, cells).splitlines()
        parts.append("\n".join([*lines[:2], f"| {' | '.join(timesteps)} |", *lines[2:]]))
    return "\n\n".join(parts)


def objective(
    weighting: str, *, process: DiffusionProcess, prediction: Prediction = "eps", timesteps: str = "uniform"
) -> Objective:
    """What a training with these would minimise."""
    return Objective(
        Parameterization(prediction, process),
        registry.create("weightings", weighting),
        registry.create("timesteps", timesteps),
    )


def timestep_quantiles() -> str:
    """Where each distribution draws t."""
    schedules = (*SCHEDULES, "edm")
    processes = [schedule_process(name) for name in schedules]

    def cells(reference: str) -> list[str]:
        found = []
        for process in processes:
            q = objective("debiased", process=process, timesteps=reference).tables().probability
            wanted = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
            found.append(", ".join(str(int(t)) for t in torch.searchsorted(q.cumsum(0), wanted)))
        return found

    return by_reference(["t: 10 %, 50 %, 90 %", *schedules], DISTRIBUTIONS, cells)


def mean_weights() -> str:
    """What `normalize=mean` divides by."""
    processes = {name: schedule_process(name) for name in SCHEDULES}

    def cells(reference: str) -> list[str]:
        found = []
        for schedule in processes:
            curves = weight_curves([reference], schedule=schedule, prediction="eps", normalize="none")
            found += [number(float(curves.weights[reference][unit].mean())) for unit in ("eps", "v")]
        return found

    heads = ["mean of the published weight", *[f"{name}: on {unit}" for name in SCHEDULES for unit in ("eps", "v")]]
    return by_reference(heads, WEIGHTINGS, cells)


def zero_terminal() -> str:
    """The weight where sampling starts, at zero terminal SNR."""
    rescaled, plain = schedule_process("linear:zero_terminal_snr=true"), schedule_process("linear")

    def cells(reference: str) -> list[str]:
        found = [objective(reference, process=rescaled, prediction=unit) for unit in ("v", "x0")]
        warned = "yes" if any(one.warning() for one in found) else "no"
        found.append(objective(reference, process=plain, prediction="v"))
        weights = [float(one.tables().effective[-1]) for one in found]
        last = ["0" if weight < VANISHING else number(weight) for weight in weights]  # SNR 0 is computed as 1e-20
        return [*last[:2], warned, last[2]]

    heads = ["effective weight at t = 999, mean 1", "on v", "on x0", "warning", "on v, without the rescaling"]
    return by_reference(heads, WEIGHTINGS, cells)


def measured() -> str:
    """The benchmark's table; takes minutes."""
    command = [sys.executable, str(BENCHMARK)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


COMPUTED: dict[str, Callable[[], str]] = {
    "process": process_facts,
    "at-snr": weights_at_snr,
    "shares": shares,
    "timesteps": timestep_quantiles,
    "mean-weights": mean_weights,
    "zero-terminal": zero_terminal,
}


def built(page: str, bodies: Mapping[str, str]) -> str:
    """The page with these blocks in it; its others stay as they are."""

    def replaced(found: re.Match[str]) -> str:
        name = found["name"]
        body = f"\n{bodies[name]}\n\n" if name in bodies else found["body"]
        return f"{found[1]}{body}{found[4]}"

    return BLOCK.sub(replaced, page)


def main() -> int:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a number is out of date")
    parser.add_argument("--measure", action="store_true", help="measure the variance of gradients again, too")
    options = parser.parse_args()
    functions = {**COMPUTED, **({MEASURED: measured} if options.measure else {})}
    bodies = {name: function() for name, function in functions.items()}
    page = PAGE.read_text(encoding="utf-8")
    new = built(page, bodies)
    if options.check:
        if new != page:
            print(f"{PAGE} is out of date. Run: python docs/build.py", file=sys.stderr)
        return int(new != page)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
