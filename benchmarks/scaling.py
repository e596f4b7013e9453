"""Two processes of one thread against one process of two, the same global batch: python benchmarks/scaling.py --help.

Both trainings are alive at once and take turns, one step each, so that a busy moment hits both; the processes speak
gloo, as torchrun sets it up. The ratio is that of images/s, median over the rounds; 1 is perfect.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from contextlib import closing

from train_contenders import CONFIGS, Config, Stopwatch, answer, debiasctl

from debiasctl.compute.threads import wait_briefly

WARM_UP = 2  # steps


def work(config: Config, batch_size: int) -> None:
    """One process: a step whenever the first of them is sent a line; the first one answers with the seconds."""
    import torch
    import torch.distributed as dist

    step = debiasctl(config, "cpu", batch_size, Stopwatch("cpu"))
    is_main, number = int(os.environ["RANK"]) == 0, 0
    alone = int(os.environ["WORLD_SIZE"]) == 1
    while True:
        go = torch.tensor(1 if is_main and sys.stdin.readline() else 0)
        if not alone:
            dist.broadcast(go, src=0)
        if not go:
            break
        begun = time.perf_counter()
        step(number)
        if not alone:
            dist.barrier()
        number += 1
        if is_main:
            print(json.dumps(time.perf_counter() - begun), flush=True)


def start(processes: int, threads: int, options: list[str]) -> list["subprocess.Popen[str]"]:
    """The processes of one training; the first takes lines and gives them."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    wait_briefly(common)
    return [
        subprocess.Popen(
            [sys.executable, __file__, "--worker", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(processes)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", choices=list(CONFIGS), default="cifar10")
    parser.add_argument("--batch-size", type=int, help="images a step, over all processes (default: the paper's)")
    parser.add_argument("--repeats", type=int, default=7, help="rounds, after two to warm up")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    config = CONFIGS[arguments.config]
    batch_size = arguments.batch_size or config.batch_size
    if arguments.worker:
        work(config, batch_size)
        return
    options = ["--config", arguments.config, "--batch-size", str(batch_size)]
    trainings = {"1 process, 2 threads": start(1, 2, options), "2 processes, 1 thread": start(2, 1, options)}
    seconds: dict[str, list[float]] = {name: [] for name in trainings}
    for _ in range(WARM_UP + arguments.repeats):
        for name, processes in trainings.items():
            seconds[name].append(answer(processes[0]))
    for processes in trainings.values():
        for process in processes:
            process.communicate()
    one, two = (taken[WARM_UP:] for taken in seconds.values())
    ratios = sorted(alone / shared for alone, shared in zip(one, two, strict=True))
    print(f"{arguments.config}: batch {batch_size}, {arguments.repeats} rounds, {os.cpu_count()} cores")
    for name, taken in zip(trainings, (one, two), strict=True):
        print(f"{name:<24}{batch_size / statistics.median(taken):>8.2f} images/s")
    print(f"ratio {statistics.median(ratios):.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}]")


if __name__ == "__main__":
    main()
