"""Time of `debiasctl compare` over many runs and evaluations, beyond the start-up that `debiasctl --version` takes.

python benchmarks/compare_many.py [--runs 200] [--evaluations 20] [--seeds 5] [--repeats 5] [--profile]
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from debiasctl.evaluation.record import EvaluationRecord
from debiasctl.runs.status import new_status
from debiasctl.specs.sections import RunSpec

WEIGHTINGS = ("constant", "debiased", "p2", "min-snr")
LOWER = ("fd_local", "kd_local", "spectrum_distance", "memorised_share")
HIGHER = ("precision", "recall", "density", "coverage")
ZERO = ("nearest_train_gap", "mean_shift_grey", "std_shift_grey")
GROUPS = 20  # of a jackknife, as `evaluate` stores them


def spec_json(weighting: str, lr: float, seed: int) -> dict[str, Any]:
    spec = RunSpec.model_validate(
        {
            "data": {"dataset": "digits"},
            "loss": {"weighting": weighting},
            "optimizer": {"lr": lr},
            "training": {"steps": 400, "seed": seed},
            "content": {
                "image_size": 8, "channels": 1, "classes": ["0"], "class_counts": [1500], "num_train": 1500,
                "num_heldout": 297, "content_hash": "ab",
            },
        }
    )  # fmt: skip
    return spec.model_dump(mode="json")


def figure_json(value: float, better: str, draws: random.Random) -> dict[str, Any]:
    pseudo_values = [value + draws.gauss(0, 0.1) for _ in range(GROUPS)]
    interactions = [draws.gauss(0, 0.01) for _ in range(GROUPS)]
    return {
        "value": value, "num": 1000, "corrected": value, "floor": value - 0.02, "floor_num": 297, "better": better,
        "interval": {
            "low": value - 0.1, "high": value + 0.1, "level": 0.95, "method": "jackknife",
            "jackknife": {"pseudo_values": pseudo_values, "interactions": interactions},
        },
        "interval_reason": None, "value_at_floor_num": value, "description": "a metric",
    }  # fmt: skip


def record_json(run: str, steps: int, checkpoint: int, seed: int, draws: random.Random) -> dict[str, Any]:
    names = {**dict.fromkeys(LOWER, "lower"), **dict.fromkeys(HIGHER, "higher"), **dict.fromkeys(ZERO, "closer to 0")}
    return {
        "schema_version": 3, "run": run, "checkpoint": checkpoint, "images_seen": 128 * checkpoint, "nfe": steps,
        "samples": f"{checkpoint}-{steps}", "features_file": None, "notes": [], "unavailable": {},
        "measured": {
            "dataset": "digits", "dataset_hash": "ab", "features": "local", "features_identity": "cd",
            "class_counts": "chosen", "reference": "train", "reference_num": 1500, "num": 1000, "sampler": "ddim",
            "steps": steps, "seed": seed, "weights": "ema", "class": None, "precision": "fp32",
        },
        "metrics": {name: figure_json(0.5 + draws.uniform(0, 0.1), better, draws) for name, better in names.items()},
        "reference": {
            "split": "train", "num": 1500, "floor_split": "heldout", "dataset_hash": "ab", "feature_name": "local",
            "features": "cd", "feature_dimension": 32, "feature_details": {"classes": [str(n) for n in range(10)]},
        },
    }  # fmt: skip


def fill(store: Path, *, runs: int, evaluations: int, seeds: int) -> None:
    """Runs in arms of `seeds`, each with evaluations by 4 numbers of steps at several checkpoints."""
    draws = random.Random(0)
    for index in range(runs):
        arm, seed = divmod(index, seeds)
        weighting, lr = WEIGHTINGS[arm % len(WEIGHTINGS)], round(1e-4 * (1 + arm // len(WEIGHTINGS)), 6)
        folder = store / f"run-{index:03d}"
        (folder / "evaluations").mkdir(parents=True)
        status = replace(new_status(num_steps=400, dataset="digits", weighting=weighting, seed=seed), state="finished")
        (folder / "status.json").write_text(json.dumps(asdict(status)))
        (folder / "spec.json").write_text(json.dumps(spec_json(weighting, lr, seed)))
        (folder / ".lock").touch()
        for number in range(evaluations):
            steps, checkpoint = (10, 20, 50, 100)[number % 4], 100 * (1 + number // 4)
            stored = record_json(folder.name, steps, checkpoint, seed, draws)
            key = EvaluationRecord.model_validate(stored).key
            (folder / "evaluations" / f"{key}.json").write_text(json.dumps(stored))


def median_seconds(arguments: list[str], *, home: Path, repeats: int) -> float:
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        command = [sys.executable, "-m", "debiasctl", *arguments]
        subprocess.run(command, env=os.environ | {"DEBIASCTL_HOME": str(home)}, check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--evaluations", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--home", type=Path, help="Keep the store here, and use it again where it is there.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = options.home or Path(folder)
        if not (home / "runs").is_dir():
            fill(home / "runs", runs=options.runs, evaluations=options.evaluations, seeds=options.seeds)
        base = median_seconds(["--version"], home=home, repeats=options.repeats)
        for arguments in (["compare", "run-*"], ["compare", "run-*", "--json"], ["compare", "run-*", "--all"]):
            found = median_seconds(arguments, home=home, repeats=options.repeats)
            print(f"{' '.join(arguments)}: {found - base:.2f} s beyond the {base:.2f} s of --version")


if __name__ == "__main__":
    main()
