"""Write docs/golden/weights.json, reference weights for other projects' tests: python docs/golden/make.py [--check]

With --check nothing is written, and the exit status is 1 where the file is not what the code gives.
"""

import argparse
import json
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from debiasctl import registry
from debiasctl.analysis.weight_curves import schedule_process
from debiasctl.api import Prediction, Weighting, WeightingContext
from debiasctl.diffusion.parameterization import check_prediction
from debiasctl.diffusion.process import DiffusionProcess
from debiasctl.diffusion.weighting import SNR_MIN, bounded_snr, weight_in
from debiasctl.errors import DebiasctlError, UsageError

FILE = Path(__file__).with_name("weights.json")
PAGE = FILE.parents[1] / "concepts" / "weightings.md"
AGAIN = "run: python docs/golden/make.py"

FORMAT = 1  # raised when a key of the file is renamed, removed or given another meaning
TOLERANCE = 1e-12  # relative: the last digits of exp, log and powers are the machine's
SIGMA_DATA = 0.5
SNRS = tuple(10.0**power for power in range(-8, 9))
UNITS: tuple[Prediction, ...] = get_args(Prediction)
POINTS = 11  # timesteps of a schedule, evenly spaced from the first to the last
# schedules with options, beside every built-in one as it is
VARIANTS = {"flow": ("flow:shift=3",), "linear": ("linear:zero_terminal_snr=true",)}
LEFT_OUT = {
    "product": "its factors are its user's",
    "table": "its weights are its user's",
    "uncertainty": "its weights are learned; at the start of training they are its base's",
}
PER_X0 = {  # w_x0 / w_unit: how one loss is written in every unit
    "eps": "SNR",
    "x0": "1",
    "v": "SNR + 1",
    "edm": "SNR + 1/sigma_data^2",
    "flow": "(1 + sqrt(SNR))^2",
}


def described() -> dict[str, dict[str, Any]]:
    """Each scheme in the table of the page on weightings: its unit, formulas, what their letters mean, and source."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("| name | written on"))
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in _table(lines[first:])]
    heads, found = table[0], {}
    for row in table[2:]:
        cells = dict(zip(heads, row, strict=True))
        formulas = {head[3:]: cells[head].strip("`") for head in heads if re.fullmatch("on (eps|x0|v|flow)", head)}
        found[cells["name"].strip("`")] = {
            "written_on": cells["written on"],
            "formula": {unit: text for unit, text in formulas.items() if text != "–"},
            "letters": cells["options"].replace("`", ""),
            "source": cells["source"].replace("`", ""),
        }
    return found


def _table(lines: list[str]) -> Iterator[str]:
    for line in lines:
        if not line.startswith("|"):
            return
        yield line


def built_in(kind: str) -> list[str]:
    """The names of the built-in plugins of a kind."""
    return sorted({record.name for record in registry.records(kind) if record.distribution == "debiasctl"})


def schemes() -> dict[str, dict[str, Any]]:
    """Every built-in weighting that has weights of its own, with the defaults of its options, and the page's variants.

    Raises:
        KeyError: if the page does not describe a built-in weighting.
    """
    page = described()
    names = [*built_in("weightings"), *(name for name in page if ":" in name)]
    return {name: {**page[name], "options": _options(name)} for name in sorted(names) if name not in LEFT_OUT}


def _options(name: str) -> dict[str, Any]:
    weighting: Weighting = registry.create("weightings", name)
    found: dict[str, Any] = weighting.options.model_dump(mode="json")
    return found


def schedules() -> list[str]:
    """Every built-in schedule, and its variants."""
    names = built_in("schedules")
    return sorted([*names, *(reference for name in names for reference in VARIANTS.get(name, ()))])


def at_snr(snr: Tensor) -> dict[str, dict[str, list[float]]]:
    """Weights in each unit of the schemes that are functions of SNR alone."""
    found = {}
    for name in schemes():
        weighting: Weighting = registry.create("weightings", name)
        try:
            weights = {unit: weight_in(weighting, unit, snr=snr, sigma_data=SIGMA_DATA) for unit in UNITS}
        except DebiasctlError:  # of a scheme that depends on the schedule
            continue
        found[name] = {unit: weight.tolist() for unit, weight in weights.items()}
    return found


def on_schedule(reference: str) -> dict[str, Any]:
    """Weights at some timesteps, and their means over all of them, in each unit that can be predicted there."""
    process = schedule_process(reference)
    last = process.num_timesteps - 1
    chosen = sorted({round(last * part / (POINTS - 1)) for part in range(POINTS)})
    snr, units = bounded_snr(process.snr), [unit for unit in UNITS if _possible(unit, process)]
    weights, means = {}, {}
    for name in schemes():
        weighting: Weighting = registry.create("weightings", name).at(WeightingContext(snr))
        tables = {unit: weight_in(weighting, unit, snr=snr, sigma_data=SIGMA_DATA) for unit in units}
        weights[name] = {unit: table[chosen].tolist() for unit, table in tables.items()}
        means[name] = {unit: math.fsum(table.tolist()) / len(table) for unit, table in tables.items()}
    return {
        "num_timesteps": process.num_timesteps,
        "t": chosen,
        "snr": snr[chosen].tolist(),
        "weights": weights,
        "mean": means,
    }


def _possible(unit: Prediction, process: DiffusionProcess) -> bool:
    try:
        check_prediction(unit, process)
    except UsageError:
        return False
    return True


def made() -> dict[str, Any]:
    """The file's content."""
    snr = torch.tensor(SNRS, dtype=torch.float64)
    known = at_snr(snr)
    about = schemes()
    return {
        "format": FORMAT,
        "about": "Loss weights of diffusion models, not normalised, in float64; see docs/reference/golden.md.",
        "sigma_data": SIGMA_DATA,
        "snr_min": SNR_MIN,
        "w_x0_per_unit": {unit: PER_X0[unit] for unit in UNITS},
        "schemes": {name: {**about[name], "function_of_snr": name in known} for name in about},
        "left_out": LEFT_OUT,
        "at_snr": {"snr": list(SNRS), "weights": known},
        "schedules": {reference: on_schedule(reference) for reference in schedules()},
    }


def difference(one: Any, other: Any, where: str = "") -> str | None:
    """Where two contents differ by more than rounding, in words; None if nowhere."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = [key for key in {**one, **other} if key not in one or key not in other]
        if keys:
            return f"{where}: {', '.join(map(str, keys))} in one of them alone"
        pairs = [(f"{where}.{key}".lstrip("."), one[key], other[key]) for key in one]
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = [(f"{where}[{number}]", *pair) for number, pair in enumerate(zip(one, other, strict=True))]
    elif isinstance(one, float | int) and isinstance(other, float | int):
        return None if math.isclose(one, other, rel_tol=TOLERANCE) else f"{where}: {one!r} and {other!r}"
    else:
        return None if one == other else f"{where}: {one!r} and {other!r}"
    return next((text for name, first, second in pairs if (text := difference(first, second, name))), None)


def written(content: dict[str, Any]) -> str:
    """The file's text: JSON with each list of numbers on one line, every number with all its digits."""
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    return re.sub(r"\[\s[^\[\]{}]*\]", lambda found: f"[{' '.join(found[0][1:-1].split())}]", text) + "\n"


def main() -> int:
    """Write the file, or check it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if the file is out of date")
    content = made()
    if not parser.parse_args().check:
        FILE.write_text(written(content), encoding="utf-8")
        return 0
    found = difference(json.loads(FILE.read_text(encoding="utf-8")), content)
    if found is not None:
        print(f"{FILE.name} is out of date ({found}); {AGAIN}", file=sys.stderr)
    return int(found is not None)


if __name__ == "__main__":
    sys.exit(main())
