"""Time of `debiasctl runs list` over thousands of runs, beyond the start-up that `debiasctl --version` takes.

python benchmarks/runs_list.py [--runs 5000] [--repeats 7]
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

STATES = ("finished", "interrupted", "failed", "created", "training")  # "training": dead, so that locks are looked at


def fill(store: Path, count: int) -> None:
    status = new_status(num_steps=100_000, dataset="cifar10", weighting="debiased", seed=0)
    start = datetime(2025, 1, 1, tzinfo=UTC)
    for index in range(count):
        folder = store / f"cifar10-debiased-{index}"
        folder.mkdir(parents=True)
        created = (start + timedelta(minutes=index)).isoformat(timespec="milliseconds")
        state = STATES[index % len(STATES)]
        content = asdict(replace(status, seed=index, step=index * 7, state=state, created=created, updated=created))
        (folder / "status.json").write_text(json.dumps(content, indent=2) + "\n")
        (folder / "spec.json").write_text("{}")
        (folder / ".lock").touch()


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
    parser.add_argument("--runs", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        fill(home / "runs", options.runs)
        version = median_seconds(["--version"], home=home, repeats=options.repeats)
        text = median_seconds(["runs", "list"], home=home, repeats=options.repeats)
        as_json = median_seconds(["runs", "list", "--json"], home=home, repeats=options.repeats)
    print(f"{options.runs} runs, medians of {options.repeats}, after one to warm up")
    print(f"debiasctl --version         {version:6.3f} s")
    for name, seconds in (("runs list", text), ("runs list --json", as_json)):
        beyond = seconds - version
        print(
            f"debiasctl {name:<17} {seconds:6.3f} s   beyond start-up {beyond:6.3f} s   ratio {seconds / version:.1f}"
        )


if __name__ == "__main__":
    main()
