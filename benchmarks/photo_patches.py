"""The paper's effect on `photo-patches`: trains, evaluates and tabulates constant against debiased.

python benchmarks/photo_patches.py [--seeds 0,1,2] [--steps 5,10,20,50,100] [--num 1000] [--picture FILE.png]

Runs are kept in the user's store (DEBIASCTL_HOME) under `photo-WEIGHTING-SEED`; what is there already is used again.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

WEIGHTINGS = ("constant", "debiased")
METRICS = ("mean_shift_squared", "colour_fd", "fd_local")


def debiasctl(*arguments: str) -> str:
    command = [sys.executable, "-m", "debiasctl", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def figures(weighting: str, seed: int, *, steps: str, num: int) -> dict[tuple[int, str], dict[str, float]]:
    name = f"photo-{weighting}-{seed}"
    if name not in {run["name"] for run in json.loads(debiasctl("runs", "list", "--json"))["runs"]}:
        debiasctl("train", "photo-patches", "--weighting", weighting, "--seed", str(seed), "--name", name)
    records = json.loads(debiasctl("evaluate", name, "--steps", steps, "--num", str(num), "--json"))["evaluations"]
    return {
        (record["measured"]["steps"], metric): record["metrics"][metric] for record in records for metric in METRICS
    }


def print_table(found: dict[tuple[str, int], dict[tuple[int, str], dict[str, float]]], seeds: list[int]) -> None:
    print("| metric | steps | " + " | ".join(f"{w}, mean (seeds)" for w in WEIGHTINGS) + " | lower with debiased |")
    print("|---|---|---|---|---|")
    for key in sorted(found[WEIGHTINGS[0], seeds[0]], key=lambda key: (METRICS.index(key[1]), key[0])):
        steps, metric = key
        values = {w: [found[w, seed][key]["value"] for seed in seeds] for w in WEIGHTINGS}
        cells = [
            f"{statistics.mean(values[w]):.4f} ({', '.join(f'{value:.4f}' for value in values[w])})" for w in WEIGHTINGS
        ]
        lower = sum(one > other for one, other in zip(*values.values(), strict=True))
        print(f"| `{metric}` | {steps} | {' | '.join(cells)} | {lower} of {len(seeds)} |")
    for metric in METRICS:
        figure = next(figure for key, figure in found[WEIGHTINGS[0], seeds[0]].items() if key[1] == metric)
        print(f"\nfloor of `{metric}` (real held-out crops, N {figure['floor_num']}): {figure['floor']:.4f}")


def save_picture(path: Path, *, seed: int, steps: int) -> None:
    """Both runs' images from one noise: the upper half constant, the lower half debiased."""
    import numpy as np
    import torch

    from debiasctl.reporting.pictures import save_grid

    images = []
    with tempfile.TemporaryDirectory() as folder:
        for weighting in WEIGHTINGS:
            out = Path(folder, f"{weighting}.npz")
            name = f"photo-{weighting}-{seed}"
            debiasctl("sample", name, "--num", "48", "--steps", str(steps), "--seed", "7", "--out", str(out))
            with np.load(out) as arrays:
                images.append(torch.from_numpy(arrays["images"]).permute(0, 3, 1, 2))
    gap = torch.full((16, *images[0].shape[1:]), 255, dtype=torch.uint8)
    save_grid(path, torch.cat([images[0], gap, images[1]]), columns=16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", default="5,10,20,50,100")
    parser.add_argument("--num", type=int, default=1000)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    found = {
        (weighting, seed): figures(weighting, seed, steps=options.steps, num=options.num)
        for seed in seeds
        for weighting in WEIGHTINGS
    }
    print_table(found, seeds)
    if options.picture:
        save_picture(options.picture, seed=seeds[0], steps=50)


if __name__ == "__main__":
    main()
