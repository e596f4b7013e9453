"""Start-up time of `debiasctl --help` as a multiple of `python -c pass`: python benchmarks/startup.py [ROUNDS]."""

import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import typer": [sys.executable, "-c", "import typer"],
    "debiasctl --help": [sys.executable, "-m", "debiasctl", "--help"],
    "debiasctl --version": [sys.executable, "-m", "debiasctl", "--version"],
    "debiasctl plugins list": [sys.executable, "-m", "debiasctl", "plugins", "list"],
    "debiasctl runs list": [sys.executable, "-m", "debiasctl", "runs", "list"],
}


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 11
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds + 1):  # in turn, so that a busy moment hits all of them; the first round warms the disk
        for name, command in COMMANDS.items():
            begun = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            times[name].append(time.perf_counter() - begun)
    bare = times["python -c pass"][1:]
    print(f"{'command':<24} {'median ms':>10} {'times bare Python':>18}")
    for name, taken in times.items():
        ratio = statistics.median(one / other for one, other in zip(taken[1:], bare, strict=True))
        print(f"{name:<24} {1000 * statistics.median(taken[1:]):>10.0f} {ratio:>18.1f}")


if __name__ == "__main__":
    main()
