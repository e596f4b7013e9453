"""Training speed against a straightforward implementation and diffusers: python benchmarks/train.py --help.

Each contender trains in a process of its own, and they take turns, one step each, so that a busy moment hits all of
them. Ratios are medians over the rounds. What each does is told in `train_contenders.py`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from train_contenders import CONFIGS, CONTENDERS, PARTS, Config, Stopwatch, answer, bf16_instructions, network_on_meta

from debiasctl.compute.threads import wait_briefly
from debiasctl.training.meters import peak_memory

WARM_UP = 2  # steps; a compiled network compiles in them


def work(config: Config, name: str, device: str, batch_size: int) -> None:
    """A contender's process: one step for each line of input, one line of times for each step."""
    watch = Stopwatch(device)
    step: Callable[[int], None] = CONTENDERS[name](config, device, batch_size, watch)
    for number, _ in enumerate(sys.stdin):
        watch.parts.clear()
        watch.synchronize()
        begun = time.perf_counter()
        step(number)
        watch.synchronize()
        print(
            json.dumps({"step": time.perf_counter() - begun, **watch.parts, "peak": peak_memory(torch.device(device))}),
            flush=True,
        )


def start(name: str, arguments: argparse.Namespace) -> "subprocess.Popen[str]":
    inherited = os.environ.get("PYTHONPATH", "")
    options = ["--config", arguments.config, "--device", arguments.device, "--batch-size", str(arguments.batch_size)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [arguments.guided_diffusion, inherited]))}
    if name in ("debiasctl", "bf16"):
        wait_briefly(environment)  # as its command line does
    return subprocess.Popen(
        [sys.executable, __file__, *options, "--contender", name],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def measure(names: list[str], arguments: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Each contender's times of every round."""
    processes = {name: start(name, arguments) for name in names}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for number in range(WARM_UP + arguments.repeats):
        for name, process in processes.items():
            times = answer(process)
            if number >= WARM_UP:
                found[name].append(times)
    for process in processes.values():
        process.communicate()
    return found


def matmul_rate(device: str) -> float:
    """Floating-point operations a second of a large matrix product: of bfloat16 on a GPU, of float32 on a CPU."""
    size, dtype = (8192, torch.bfloat16) if device == "cuda" else (2048, torch.float32)
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    watch, rates = Stopwatch(device), []
    for _ in range(6):
        watch.parts.clear()
        watch.timed("product", torch.mm)(a, b)
        rates.append(2 * size**3 / watch.parts["product"])
    return statistics.median(rates[1:])


def flops_per_image(config: Config) -> int:
    """Of a forward and a backward pass, the latter counted as two of the former, by direct convolutions."""
    from torch.utils.flop_counter import FlopCounterMode

    network = network_on_meta(config)
    labels = torch.zeros(1, dtype=torch.int64, device="meta") if config.num_classes else None
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(
            torch.empty(1, 3, config.image_size, config.image_size, device="meta"),
            torch.empty(1, device="meta"),
            labels,
        )
    return 3 * int(counter.get_total_flops())


def show(found: dict[str, list[dict[str, float]]], arguments: argparse.Namespace) -> None:
    rate, flops = matmul_rate(arguments.device), arguments.batch_size * flops_per_image(CONFIGS[arguments.config])
    print(
        f"\n{arguments.config}: batch {arguments.batch_size}, {arguments.device}, {torch.get_num_threads()} threads, "
        f"{arguments.repeats} rounds; matrix products {rate / 1e9:.0f} GFLOP/s"
    )
    if "bf16" in found and arguments.device == "cpu":
        print(f"instructions of this CPU for bfloat16: {bf16_instructions() or 'none known, so that it is emulated'}")
    print(f"{'':<17}{'images/s':>9}{'times':>7} {'[least, most]':<14}", end="")
    print("".join(f"{part:>10}" for part in PARTS), f"{'rest':>9}{'rest %':>8}{'GFLOP/s':>9}{'of mm':>7}{'MiB':>7}")
    base = [times["step"] for times in next(iter(found.values()))]
    for name, rounds in found.items():
        seconds = [times["step"] for times in rounds]
        ratios = sorted(one / other for one, other in zip(base, seconds, strict=True))
        parts = [statistics.median(times.get(part, 0.0) for times in rounds) for part in PARTS]
        shares = [1 - sum(times.get(part, 0.0) for part in PARTS) / times["step"] for times in rounds]
        typical, rest = statistics.median(seconds), statistics.median(shares)
        print(
            f"{name:<17}{arguments.batch_size / typical:>9.2f}{statistics.median(ratios):>7.2f} "
            f"{f'[{ratios[0]:.2f}, {ratios[-1]:.2f}]':<14}",
            *(f"{1000 * part:>7.0f} ms" for part in parts),
            f"{1000 * rest * typical:>6.0f} ms{100 * rest:>7.1f}%{flops / typical / 1e9:>9.0f}"
            f"{100 * flops / typical / rate:>6.0f}%{max(times['peak'] for times in rounds) / 2**20:>7.0f}",
            sep="",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--config", choices=list(CONFIGS), default="cifar10")
    parser.add_argument("--batch-size", type=int, help="images a step (default: the paper's)")
    parser.add_argument("--repeats", type=int, default=7, help="rounds, after two to warm up")
    parser.add_argument("--guided-diffusion", metavar="FOLDER", help="a checkout of it, to be measured as well")
    parser.add_argument(
        "--only", metavar="NAME,...", help="these contenders alone, the first of which is the ratios' 1"
    )
    parser.add_argument("--contender", choices=list(CONTENDERS), help=argparse.SUPPRESS)  # for its process
    arguments = parser.parse_args()
    config = CONFIGS[arguments.config]
    arguments.batch_size = arguments.batch_size or config.batch_size
    if arguments.contender:
        work(config, arguments.contender, arguments.device, arguments.batch_size)
        return
    if arguments.only:
        names = arguments.only.split(",")
        if unknown := set(names) - set(CONTENDERS):
            parser.error(f"--only: unknown {', '.join(sorted(unknown))}. Known: {', '.join(CONTENDERS)}")
        show(measure(names, arguments), arguments)
        return
    asked_for = {
        "bf16": arguments.device == "cpu",  # on a GPU it is what debiasctl takes
        "without-winograd": arguments.device == "cpu" and bool(config.widths),
        "diffusers": bool(config.widths),
        "guided-diffusion": bool(arguments.guided_diffusion),
    }
    if arguments.guided_diffusion and not config.widths:
        parser.error(f"guided-diffusion has no such network as --config {arguments.config}; it has cifar10 and 256")
    names = [name for name in CONTENDERS if asked_for.get(name, True)]
    show(measure(names, arguments), arguments)


if __name__ == "__main__":
    main()
