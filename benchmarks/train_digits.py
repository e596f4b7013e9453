"""Time and peak memory of `debiasctl train digits` with its defaults: python benchmarks/train_digits.py [DATASET]."""

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from debiasctl.runs.store import Run, read_metrics


def main() -> None:
    dataset = sys.argv[1] if len(sys.argv) > 1 else "digits"
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "DEBIASCTL_HOME": home}
        command = [sys.executable, "-m", "debiasctl", "train", dataset, "--name", "timed"]
        subprocess.run(command, check=True, env=environment)
        last = [record for record in read_metrics(Run(Path(home, "runs/timed"))) if record.kind == "train"][-1]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    seconds = last.images / last.images_per_second
    print(f"{os.cpu_count()} cores: {last.step} steps, {last.images} images in {seconds:.0f} s of training")
    print(f"{last.images_per_second:.0f} images/s, measurements and checkpoints included; peak {peak:.0f} MiB")


if __name__ == "__main__":
    main()
