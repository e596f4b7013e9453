"""Time of `debiasctl runs list` over thousands of runs, beyond the start-up that `debiasctl --version` takes.

Each run has settings, metrics of 300 kB, tags, and four evaluations of 20 kB.

python benchmarks/runs_list.py [--runs 1000] [--repeats 7]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from debiasctl.runs.status import new_status
from debiasctl.specs.resolve import validate_spec

STATES = ("finished", "interrupted", "failed", "created", "training")  # "training": dead, so that locks are looked at
FILLER = [0.1234567890123456 + index for index in range(600)]
LISTS = {
    "runs list": ["runs", "list"],
    "runs list --json": ["runs", "list", "--json"],
    "runs list --all": ["runs", "list", "--all"],
    "runs list --where (a setting)": ["runs", "list", "--where", "lr<1 and weighting=debiased"],
    "runs list --where (the state)": ["runs", "list", "--where", "state=finished and seed<10"],
    "runs list --sort best --top 9": ["runs", "list", "--sort", "best", "--top", "9"],
}


def fill(store: Path, count: int) -> None:
    status = new_status(num_steps=100_000, dataset="cifar10", weighting="debiased", seed=0)
    start = datetime(2025, 1, 1, tzinfo=UTC)
    for index in range(count):
        folder = store / f"cifar10-debiased-{index}"
        (folder / "evaluations").mkdir(parents=True)
        identity = f"{index:016x}"
        created = (start + timedelta(minutes=index)).isoformat(timespec="milliseconds")
        state = STATES[index % len(STATES)]
        content = asdict(replace(status, seed=index, step=index * 7, state=state, created=created, updated=created))
        spec = validate_spec(
            {"data": {"dataset": "cifar10"}, "training": {"seed": index}, "provenance": {"run": identity}}
        )
        write(folder / "status.json", content)
        write(folder / "spec.json", spec.model_dump(mode="json"))
        write(folder / "labels.json", {"schema_version": 1, "run": identity, "tags": ["paper"], "note": "a note"})
        (folder / "metrics.jsonl").write_text(
            "".join(json.dumps(train_record(step, identity)) + "\n" for step in range(0, 10_000, 50))
        )
        for number in range(4):
            write(folder / "evaluations" / f"{number:016x}.json", evaluation(index + number, identity))
        (folder / ".lock").touch()


def write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def train_record(step: int, identity: str) -> dict[str, object]:
    shares = [{"log_snr": [one, one + 1], "share": 0.04} for one in range(-12, 13)]
    record = {"kind": "train", "step": step, "images": 128 * step, "loss": 0.1, "grad_norm": 1.0, "lr": 1e-4}
    return {**record, "loss_shares": shares, "images_per_second": 345.6, "run": identity}


def evaluation(number: int, identity: str) -> dict[str, object]:
    """As `evaluate` writes one, of the same size."""
    figure = {"value": 1 + number / 1000, "num": 5000, "corrected": None, "interval": {"pseudo_values": FILLER}}
    return {
        "schema_version": 3, "run": "a", "run_identity": identity, "checkpoint": 100, "images_seen": 12_800, "nfe": 50,
        "samples": "ab", "measured": {"dataset": "cifar10", "steps": 50, "num": 5000}, "metrics": {"fd_local": figure},
    }  # fmt: skip


def median_seconds(arguments: list[str], *, home: Path, repeats: int) -> float:
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "debiasctl", *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "DEBIASCTL_HOME": str(home)},
        )
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])  # the first one warms the file cache


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        fill(home / "runs", options.runs)
        version = median_seconds(["--version"], home=home, repeats=options.repeats)
        print(f"{options.runs} runs, medians of {options.repeats}, after one to warm up")
        print(f"debiasctl {'--version':<29} {version:6.3f} s")
        for name, arguments in LISTS.items():
            seconds = median_seconds(arguments, home=home, repeats=options.repeats)
            print(f"debiasctl {name:<29} {seconds:6.3f} s   beyond start-up {seconds - version:6.3f} s")


if __name__ == "__main__":
    main()
