"""Sampling speed against diffusers' DDIMPipeline, same NFE: python benchmarks/sample.py --help.

Each contender samples in a process of its own, and they take turns, one batch each, so that a busy moment hits both.
The networks are the paper's CIFAR-10 model without classes and a UNet2DModel of like size, with random weights.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from train_contenders import CONFIGS, Config, answer, diffusers_unet, run_spec

from debiasctl.compute.threads import wait_briefly

CONFIG = replace(CONFIGS["cifar10"], num_classes=0)
WARM_UP = 1  # rounds
Batch = Callable[[int], object]  # draws so many images


def debiasctl(config: Config, device: str, num_steps: int) -> Batch:
    from debiasctl import registry
    from debiasctl.compute.allocator import prepare_process
    from debiasctl.data.pixels import to_uint8
    from debiasctl.diffusion.denoiser import NetworkDenoiser
    from debiasctl.models.build import build_network, build_parameterization

    prepare_process()
    spec = run_spec(config, 1)
    network = build_network(spec, image_size=config.image_size, channels=3, num_classes=0).to(device).eval()
    denoiser = NetworkDenoiser(network, build_parameterization(spec))
    sampler = registry.resolve("samplers", "ddim").create()

    @torch.no_grad()
    def draw(size: int) -> object:
        x = torch.randn(size, 3, config.image_size, config.image_size, device=device)
        return to_uint8(sampler(denoiser, x, num_steps=num_steps, noise=lambda _: torch.randn_like(x))).cpu()

    return draw


def diffusers(config: Config, device: str, num_steps: int) -> Batch:
    from diffusers import DDIMPipeline, DDIMScheduler

    pipeline = DDIMPipeline(diffusers_unet(config).eval(), DDIMScheduler()).to(device)
    pipeline.set_progress_bar_config(disable=True)
    return lambda size: pipeline(batch_size=size, num_inference_steps=num_steps, output_type="np")


CONTENDERS: dict[str, Callable[[Config, str, int], Batch]] = {"debiasctl": debiasctl, "diffusers": diffusers}


def work(name: str, arguments: argparse.Namespace) -> None:
    """A contender's process: one batch for each line of input, its seconds for each batch."""
    draw = CONTENDERS[name](CONFIG, arguments.device, arguments.steps)
    for _ in sys.stdin:
        begun = time.perf_counter()
        draw(arguments.batch_size)  # gives images on the CPU, and so has waited for the device
        print(json.dumps(time.perf_counter() - begun), flush=True)


def start(name: str, arguments: argparse.Namespace) -> "subprocess.Popen[str]":
    options = ["--device", arguments.device, "--steps", str(arguments.steps), "--batch-size", str(arguments.batch_size)]
    command = [sys.executable, __file__, *options, "--contender", name]
    environment = dict(os.environ)
    if name == "debiasctl":
        wait_briefly(environment)  # as its command line does
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--steps", type=int, default=10, help="sampling steps, one forward each")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=7, help="rounds, after one to warm up")
    parser.add_argument("--contender", choices=list(CONTENDERS), help=argparse.SUPPRESS)  # for its process
    arguments = parser.parse_args()
    if arguments.contender:
        work(arguments.contender, arguments)
        return
    processes = {name: start(name, arguments) for name in CONTENDERS}
    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for number in range(WARM_UP + arguments.repeats):
        for name, process in processes.items():
            found = answer(process)
            if number >= WARM_UP:
                seconds[name].append(found)
    for process in processes.values():
        process.communicate()
    ratios = sorted(theirs / ours for ours, theirs in zip(seconds["debiasctl"], seconds["diffusers"], strict=True))
    print(f"batch {arguments.batch_size}, {arguments.steps} steps, {arguments.device}, {arguments.repeats} rounds")
    for name, times in seconds.items():
        print(f"{name:<12}{arguments.batch_size / statistics.median(times):>8.2f} images/s")
    print(f"ratio {statistics.median(ratios):.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}]")


if __name__ == "__main__":
    main()
