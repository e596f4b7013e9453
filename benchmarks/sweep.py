"""Time of a sweep against its runs one after another: its own cost, and what two jobs at once gain.

python benchmarks/sweep.py [--steps 400] [--seeds 2] [--repeats 1]

Prints the seconds of `debiasctl train` and `evaluate` of each run, one after another, and those of the sweep with one
job at a time and with two, each with one thread a run.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ARMS = ("constant", "debiased")


def timed(home: Path, *arguments: str) -> float:
    begun = time.perf_counter()
    environment = {**os.environ, "DEBIASCTL_HOME": str(home), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "debiasctl", *arguments]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begun


def one_by_one(home: Path, training: list[str], measuring: list[str], seeds: int) -> float:
    seconds = 0.0
    for seed in range(seeds):
        for arm in ARMS:
            name = f"{arm}-{seed}"
            seconds += timed(
                home, "train", "digits", *training, "--weighting", arm, "--seed", str(seed), "--name", name
            )
            seconds += timed(home, "evaluate", name, "--seed", str(seed), *measuring)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--num", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=1)
    asked = parser.parse_args()
    training = ["--steps", str(asked.steps), "--device", "cpu"]
    measuring = ["--num", str(asked.num), "--features", "pixels"]
    rows: dict[str, list[float]] = {}
    for _ in range(asked.repeats):
        with tempfile.TemporaryDirectory() as scratch:
            alone = one_by_one(Path(scratch) / "alone", training, measuring, asked.seeds)
            rows.setdefault("one after another", []).append(alone)
            for jobs in (1, 2):
                seconds = timed(
                    Path(scratch) / f"jobs-{jobs}",
                    *(
                        "sweep",
                        "digits",
                        *training,
                        *measuring,
                        "--weighting",
                        ",".join(ARMS),
                        "--seeds",
                        str(asked.seeds),
                    ),
                    *("--threads", "1", "--jobs", str(jobs)),
                )
                rows.setdefault(f"sweep --jobs {jobs}", []).append(seconds)
    for name, seconds in rows.items():
        least, alone = min(seconds), min(rows["one after another"])
        print(f"{name:20} {least:8.1f} s   x {least / alone:.2f}")


if __name__ == "__main__":
    main()
