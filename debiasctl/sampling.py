"""Drawing images from a run: image i is a function of (seed, i) alone."""

import zipfile
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from debiasctl import counter_random, registry
from debiasctl.choices import PluginChoice
from debiasctl.counter_random import Stream
from debiasctl.diffusion.denoiser import NetworkDenoiser
from debiasctl.errors import RunError, UsageError
from debiasctl.files import atomic_file, atomic_folder, content_key, write_json
from debiasctl.runs import Run
from debiasctl.specs import ContentSection, RunSpec
from debiasctl.training.checkpoints import choose_step
from debiasctl.training.data import to_uint8
from debiasctl.training.ema import length_name, parse_weights
from debiasctl.training.posthoc_ema import load_named_weights
from debiasctl.training.setup import build_network, build_parameterization
from debiasctl.validation import did_you_mean

_VERSION = 1  # of what follows from a request: raised when the same request would give other images
_GOLDEN_RATIO = 0.6180339887498949


@dataclass(frozen=True)
class SampleRequest:
    """What to draw. `step` is the checkpoint's; `label` one class for all images, or None for the data's mixture."""

    num: int
    num_steps: int
    sampler: PluginChoice
    seed: int
    step: int
    weights: str
    label: int | None = None


@dataclass(frozen=True)
class Samples:
    """Drawn images: `images` uint8 [N, C, H, W], `labels` int64 [N] or None, and what is known of them."""

    images: Tensor
    labels: Tensor | None
    description: dict[str, Any]
    folder: Path
    reused: bool


def make_request(
    run: Run,
    spec: RunSpec,
    *,
    num: int,
    num_steps: int,
    sampler: str,
    seed: int,
    checkpoint: str | None,
    weights: str,
    class_name: str | None = None,
) -> SampleRequest:
    """A request from what a user said.

    Raises:
        UsageError: the sampler or class is not known, or the steps do not fit the schedule; CheckpointError: there is
        no such checkpoint.
    """
    kind, length = parse_weights(weights)
    weights = kind if length is None else f"{kind}:{length_name(length)}"  # one spelling, one key
    resolved = registry.resolve("samplers", sampler)
    record = resolved.record
    choice = PluginChoice(
        name=record.name,
        options=resolved.options.model_dump(mode="json"),
        distribution=record.distribution,
        version=record.version,
    )
    label = None if class_name is None else class_index(class_name, spec)
    if num < 1:
        raise UsageError(f"--num {num}: draw at least one image")
    build_parameterization(spec).process.respaced(num_steps)  # refuses steps that the schedule has not
    return SampleRequest(num, num_steps, choice, seed, choose_step(run, checkpoint), weights, label)


def sample(
    run: Run,
    spec: RunSpec,
    request: SampleRequest,
    *,
    device: torch.device,
    batch_size: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> Samples:
    """Draw what is asked for, or read it where the run has drawn it before; `on_progress(done, all)` counts steps.

    Raises:
        CheckpointError: the checkpoint is damaged.
    """
    content = content_of(run, spec)
    network = build_network(
        spec, image_size=content.image_size, channels=content.channels, num_classes=len(content.classes)
    )
    checksum = load_named_weights(run, network, step=request.step, weights=request.weights)
    described = asdict(request) | {"sampler": request.sampler.model_dump(), "weights_sha256": checksum}
    folder = run.samples_dir / content_key(described | {"version": _VERSION})
    if (folder / "samples.json").exists():
        return _read(folder)
    network.to(device).eval()
    denoiser = NetworkDenoiser(network, build_parameterization(spec))
    indices = torch.arange(request.num)
    labels = labels_of(indices, content, seed=request.seed, label=request.label) if spec.model.conditional else None
    images, nfe = draw(
        denoiser, request, indices, labels, shape=(content.channels, content.image_size, content.image_size),
        device=device, batch_size=batch_size, on_progress=on_progress,
    )  # fmt: skip
    described |= {"nfe": nfe, "classes": list(content.classes) if labels is not None else [], "run": run.name}
    with atomic_folder(folder) as temporary:
        save_npz(temporary / "images.npz", images, labels)
        write_json(temporary / "samples.json", described)
    return Samples(images, labels, described, folder, reused=False)


@torch.no_grad()
def draw(
    denoiser: NetworkDenoiser,
    request: SampleRequest,
    indices: Tensor,
    labels: Tensor | None,
    *,
    shape: tuple[int, int, int],
    device: torch.device,
    batch_size: int,
    on_progress: Callable[[int, int], None] | None,
) -> tuple[Tensor, int]:
    """Images uint8 [N, C, H, W] of those `indices`, and the network forwards made for each of them."""
    sampler = request.sampler.create("samplers")
    drawn, nfe = [], 0
    for start in range(0, len(indices), batch_size):
        part = indices[start : start + batch_size]
        positions = part.to(device)

        def noise(step: int, positions: Tensor = positions) -> Tensor:
            return counter_random.normal(request.seed, Stream.SAMPLING, step=step, positions=positions, shape=shape)

        def on_step(done: int, start: int = start, size: int = len(part)) -> None:
            if on_progress:
                on_progress(start * request.num_steps + done * size, len(indices) * request.num_steps)

        denoiser.nfe = 0
        x = sampler(
            denoiser,
            noise(0),
            num_steps=request.num_steps,
            noise=noise,
            labels=None if labels is None else labels[start : start + batch_size].to(device),
            on_step=on_step,
        )
        if not bool(torch.isfinite(x).all()):
            raise RunError("sampling gave values that are not finite. Use another checkpoint, or x0 clipping")
        drawn.append(to_uint8(x).cpu())
        nfe = denoiser.nfe
    return torch.cat(drawn), nfe


def labels_of(indices: Tensor, content: ContentSection, *, seed: int, label: int | None) -> Tensor:
    """The class of each image, int64 [N]: `label`, or classes in the training data's proportions.

    The i-th image takes the class at the quantile (u + i φ) mod 1, u drawn from the seed: a sequence that keeps to
    the proportions far more closely than independent draws, in any prefix of it.
    """
    if label is not None:
        return torch.full_like(indices, label)
    offset = counter_random.uniform(seed, Stream.LABEL, step=0, positions=torch.zeros(1, dtype=torch.int64))
    quantiles = (offset + indices.to(torch.float64) * _GOLDEN_RATIO) % 1
    cumulative = torch.tensor(content.class_counts, dtype=torch.float64).cumsum(0)
    return torch.searchsorted(cumulative / cumulative[-1], quantiles, right=True).clamp(max=len(cumulative) - 1)


def class_index(text: str, spec: RunSpec) -> int:
    """The class that a name, or a number from 0, stands for.

    Raises:
        UsageError: the model knows no classes, or not this one.
    """
    classes = spec.content.classes if spec.content and spec.model.conditional else ()
    if not classes:
        raise UsageError("--class: this run's model was trained without class labels. Leave --class out")
    if text in classes:
        return classes.index(text)
    if text.isdigit() and int(text) < len(classes):
        return int(text)
    raise UsageError(
        f"unknown class '{text}'.{did_you_mean(text, classes)} "
        f"Known: {', '.join(classes[:50])}, or 0 to {len(classes) - 1}"
    )


def content_of(run: Run, spec: RunSpec) -> ContentSection:
    """What the run's spec says of its data."""
    if spec.content is None:
        raise RunError(f"run '{run.name}': its spec.json does not say what its data were. It is not a whole run")
    return spec.content


def save_npz(path: Path, images: Tensor, labels: Tensor | None) -> None:
    """`images` as uint8 [N, H, W, C], and `labels` int64 [N] where there are any, compressed."""
    arrays = {"images": images.permute(0, 2, 3, 1).numpy()}
    if labels is not None:
        arrays["labels"] = labels.numpy()
    with atomic_file(path) as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]


def _read(folder: Path) -> Samples:
    import json

    try:
        description = json.loads((folder / "samples.json").read_text())
        for field in ("num", "num_steps", "sampler", "step", "weights", "nfe", "classes"):
            description[field]
        with np.load(folder / "images.npz") as arrays:
            # a copy with the strides of drawn images, for sums over these may differ in the last bit
            images = torch.from_numpy(arrays["images"]).permute(0, 3, 1, 2).clone(memory_format=torch.contiguous_format)
            labels = torch.from_numpy(arrays["labels"]) if "labels" in arrays else None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise RunError(
            f"the samples in {folder} are damaged ({error}). Remove that folder to draw them anew"
        ) from error
    return Samples(images, labels, description, folder, reused=True)
