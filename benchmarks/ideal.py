"""The ideal denoiser of 50,000 images of CIFAR-10's size: time and memory of all of them and of a part, and coverage.

python benchmarks/ideal.py [--num 50000] [--size 32] [--queries 64] [--part 10000]
python benchmarks/ideal.py --coverage FOLDER... [--num 12000] [--size 16]

The first prints CPU seconds, images times queries a second, the peak memory of the process, and ratios; each contender
runs in a process of its own. `--coverage` draws parts of a set of real images (folders of pictures) and of a Gaussian
mixture again and again, and prints how often 95 % intervals of a part hold the mean over all images, by the effective
number of neighbours in units of √n.
"""

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from debiasctl import registry
from debiasctl.analysis.ideal import SomeImages
from debiasctl.analysis.ideal.choice import of_images
from debiasctl.analysis.ideal.some_images import BOUND
from debiasctl.api import ArraySplit, DataLocation, Level

CPU = torch.device("cpu")
EDGES = (0.25, 0.5, 1, 2, 3, 4, 6, 10, 1000)  # neighbours over √n


def level(log_snr: float) -> Level:
    return Level(math.nan, math.sqrt(1 / (1 + math.exp(-log_snr))), math.sqrt(1 / (1 + math.exp(log_snr))))


def noised(stored: Tensor, at: Level, seed: int) -> Tensor:
    x0 = stored.double() / 127.5 - 1
    generator = torch.Generator().manual_seed(seed)
    return at.alpha * x0 + at.sigma * torch.randn(x0.shape, generator=generator, dtype=torch.float64)


def mixture(num: int, size: int) -> Tensor:
    dataset = registry.create("datasets", f"gaussian-mixture:image_size={size},num={num},components=10")
    images: Tensor = dataset.load(DataLocation(None, Path())).train.array
    return images


def time_one(contender: str, *, num: int, size: int, queries: int, part: int) -> None:
    """Print one contender's figures; `direct` is a float64 softmax of everything at once, for fewer images."""
    images = torch.randint(0, 256, (num, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    at = level(-4.0)
    x_t = noised(images[:queries], at, 1)
    started = time.process_time()
    if contender == "direct":
        flat = (images.float() / 127.5 - 1).double().flatten(1)
        logits = at.alpha / at.sigma**2 * (x_t.flatten(1) @ flat.T - at.alpha / 2 * flat.square().sum(dim=1))
        torch.softmax(logits, dim=1) @ flat
    else:
        most = part * 3 * size * size if contender == "part" else num * 3 * size * size
        (ideal,) = of_images(
            ArraySplit(images), mirrored=False, conditional=False, device=CPU, seed=0, most_values=most
        )
        ideal.estimate(x_t, at, own=torch.arange(queries))
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": seconds, "peak": peak / 2**20, "before": before / 2**20}))


def time_all(arguments: argparse.Namespace) -> None:
    options = [f"--{name}={getattr(arguments, name)}" for name in ("num", "size", "queries", "part")]
    print("| contender | CPU s | ratio | images × queries/s | peak memory | before it began |")
    print("|---|---|---|---|---|---|")
    first = None
    for contender in ("all", "part", "direct"):
        command = [sys.executable, __file__, "--contender", contender, *options]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        first = first or found["seconds"]
        images = arguments.part if contender == "part" else arguments.num
        rate = images * arguments.queries / found["seconds"]
        print(
            f"| {contender} | {found['seconds']:.2f} | {found['seconds'] / first:.2f} | {rate:,.0f} | "
            f"{found['peak']:.2f} GiB | {found['before']:.2f} GiB |"
        )


def pictures(folders: list[Path], num: int, size: int) -> Tensor:
    files = sorted(path for folder in folders for path in folder.rglob("*") if path.suffix in (".jpg", ".jpeg", ".png"))
    chosen = np.random.default_rng(0).permutation(len(files))[:num]
    arrays = [
        np.asarray(Image.open(files[one]).convert("RGB").resize((size, size), Image.Resampling.BOX)) for one in chosen
    ]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()


def coverage(stored: Tensor, *, part: int, log_snrs: list[float], draws: int, queries: int) -> Tensor:
    """Rows of (neighbours/√n, share of values whose interval holds the full sum, own or new), one a query and draw."""
    values, num_new = stored[0].numel(), 2 * queries
    known, rows = stored[num_new:], []
    split = ArraySplit(known)
    (full,) = of_images(split, mirrored=False, conditional=False, device=CPU, seed=0)
    for is_own in (True, False):
        x0 = known[:queries] if is_own else stored[:queries]
        own = torch.arange(queries) if is_own else None
        tries = [(one, noised(x0, level(one), number)) for number, one in enumerate(log_snrs)]
        truths = [full(x_t, level(one)).mean for one, x_t in tries]
        for seed in range(draws):
            (ideal,) = of_images(
                split, mirrored=False, conditional=False, device=CPU, seed=seed, most_values=part * values
            )
            assert isinstance(ideal, SomeImages)
            for (one, x_t), truth in zip(tries, truths, strict=True):
                found = ideal.estimate(x_t, level(one), own=own)
                assert found.se is not None
                held = ((found.mean - truth).abs() <= 1.96 * found.se).double().flatten(1).mean(dim=1)
                rows += [
                    (float(number) / math.sqrt(part), float(share), float(is_own))
                    for number, share in zip(found.neighbours, held, strict=True)
                ]
    return torch.tensor(rows)


def cover_all(arguments: argparse.Namespace) -> None:
    sets = {
        "pictures": (pictures(arguments.coverage, arguments.num, arguments.size), [-6.0, -5.0, -4.0, -3.5, -3.0, -2.0]),
        "mixture": (mixture(arguments.num, arguments.size), [-6.0, -2.0, -1.0, 0.0, 1.0, 2.0]),
    }
    print("| images | n | " + " | ".join(f"{low}-{high}√n" for low, high in pairwise(EDGES)), end="")
    print(f" | all from {BOUND:g}√n |")
    print("|---" * (len(EDGES) + 2) + "|")
    for name, (stored, log_snrs) in sets.items():
        for part in (400, 1600, arguments.num // 3):
            found = coverage(stored, part=part, log_snrs=log_snrs, draws=arguments.draws, queries=arguments.queries)
            cells = []
            for low, high in [*pairwise(EDGES), (BOUND, math.inf)]:
                held = found[(found[:, 0] >= low) & (found[:, 0] < high), 1]
                cells.append(f"{held.mean():.1%} ({len(held)})" if len(held) else "")
            print(f"| {name} | {part} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=50_000)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--queries", type=int, default=64)
    parser.add_argument("--part", type=int, default=10_000)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--coverage", type=Path, nargs="+")
    parser.add_argument("--contender", choices=("all", "part", "direct"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        time_one(
            arguments.contender, num=arguments.num, size=arguments.size, queries=arguments.queries, part=arguments.part
        )
    elif arguments.coverage:
        cover_all(arguments)
    else:
        time_all(arguments)


if __name__ == "__main__":
    with torch.no_grad():
        main()
