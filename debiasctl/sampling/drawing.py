"""Images batch by batch, whatever the batch size: groups of one shape, halved where memory runs out."""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from debiasctl.api import Denoiser
from debiasctl.boundary import name_of
from debiasctl.compute import counter_random
from debiasctl.compute.counter_random import Stream
from debiasctl.compute.memory import available_memory, is_out_of_memory, total_memory
from debiasctl.data.pixels import to_uint8
from debiasctl.errors import ModelError, PluginError, RunError, UsageError
from debiasctl.models.network_size import size_of
from debiasctl.sampling.request import SampleRequest
from debiasctl.wording import format_bytes

_LOG = logging.getLogger(__name__)
_LARGEST = {"cpu": 64, "cuda": 512}  # more are no faster
_BYTES_PER_VALUE = 4 * 1000  # of a forward for each value of an image: U-Nets and DiTs take 400 to 700 times the image
_TIMES = {"cpu": 2, "cuda": 4}  # times the machine's memory that are refused, as the figures are rough
_SHARE = 0.5  # of the memory there is
_GROUP, _GROUP_PIXELS = 16, 2**14

OnImages = Callable[[float, int], None]
Labels = Callable[[Tensor], Tensor | None]
Decode = Callable[[Tensor], Tensor]  # latents [N, c, h, w] to images [N, C, H, W]


class Drawn(NamedTuple):
    """`images` uint8 [N, C, H, W] on the CPU, for indices `start` … `start + N - 1`; `nfe` is that of each image."""

    start: int
    images: Tensor
    nfe: int


def group_size(height: int, width: int) -> int:
    """The number of images per group; the network runs on whole groups only.

    Matrix products and convolutions of a few small images sum in another order than those of many, and an early
    step multiplies that difference by up to 1/√SNR. From these numbers on, results were found to be the same bits on
    a CPU: 16 images up to 32 × 32, 4 at 64 × 64.
    """
    return max(1, min(_GROUP, _GROUP_PIXELS // (height * width)))


def decoded(latents: Tensor, decode: Decode) -> Tensor:
    """The images [N, C, H, W] of latents [N, c, h, w], decoded group by group."""
    size, groups = group_size(*latents.shape[2:]), []
    for part in torch.split(latents, size):  # always as many at once, as other numbers would be rounded otherwise
        rest = part[-1:].expand(size - len(part), *part.shape[1:])
        groups.append(decode(torch.cat([part, rest]))[: len(part)])
    return torch.cat(groups)


def automatic_batch_size(shape: tuple[int, int, int], device: torch.device) -> int:
    """A power of two of images [C, H, W] that should fit into memory; `Drawer` halves it where it does not."""
    values = shape[0] * shape[1] * shape[2]
    fitting = int(_SHARE * available_memory(device)) // (_BYTES_PER_VALUE * values)
    wanted = max(1, min(fitting, _LARGEST.get(device.type, _LARGEST["cpu"])))
    return 1 << (wanted.bit_length() - 1)


def check_batch_size(batch_size: int, num: int, shape: tuple[int, int, int], device: torch.device) -> None:
    """Check a given number of images [C, H, W] at a time, of `num`, against the memory that the device has in all.

    Raises:
        UsageError: if they would take far more; the message gives the figures.
    """
    at_a_time, memory = min(batch_size, num), total_memory(device)
    per_image = _BYTES_PER_VALUE * shape[0] * shape[1] * shape[2]
    if at_a_time * per_image <= _TIMES[device.type] * memory:
        return
    fitting = max(1, memory // per_image)
    raise UsageError(
        f"`batch_size={batch_size}`: {at_a_time:,} images at a time take about {size_of(at_a_time * per_image)} "
        f"({format_bytes(per_image)} each), and this machine has {format_bytes(memory)}. Choose one of at most about "
        f"{fitting:,}, or leave `batch_size` out"
    )


class Drawer:
    """Draws the images of any indices; without `batch_size` one is chosen, and halved if memory runs out."""

    def __init__(
        self,
        denoiser: Denoiser,
        request: SampleRequest,
        labels: Labels,
        *,
        shape: tuple[int, int, int],
        device: torch.device,
        batch_size: int | None = None,
        decode: Decode | None = None,
    ) -> None:
        self.denoiser, self.request, self.labels, self._decode = denoiser, request, labels, decode
        self.shape, self.device = shape, device
        self.automatic = batch_size is None
        self.batch_size = batch_size or automatic_batch_size(shape, device)
        self.group = group_size(shape[1], shape[2])
        self.sampler = request.sampler.create("samplers")

    def __call__(self, ranges: Iterable[range], *, on_progress: OnImages | None = None) -> Iterator[Drawn]:
        """Draw all ranges, batch by batch; `on_progress(done, all)` counts images, unfinished ones as fractions.

        Raises:
            RunError: if an image is not finite, or not even one image at a time fits into memory.
        """
        ranges = list(ranges)
        total, done = sum(map(len, ranges)), 0
        for indices in ranges:
            start = indices.start
            while start < indices.stop:
                positions = torch.arange(start, min(start + self.batch_size, indices.stop))
                drawn = self._attempt(positions, done, total, on_progress)
                if drawn is None:
                    self._shrink()
                    continue
                yield Drawn(start, drawn, self.denoiser.nfe)
                start, done = start + len(positions), done + len(positions)

    def _attempt(self, positions: Tensor, done: int, total: int, on_progress: OnImages | None) -> Tensor | None:
        """The images of one batch, or None where memory ran out."""

        def on_step(step: int, _x: Tensor, _x0: Tensor) -> None:
            if on_progress:
                on_progress(done + len(positions) * min(1.0, step / self.request.num_steps), total)

        try:
            x = self.batch(positions, on_step=on_step)
            images = self.images_of(x) if bool(torch.isfinite(x).all()) else None
        except (RuntimeError, MemoryError, PluginError, ModelError) as error:
            if not is_out_of_memory(error):
                raise
            return None
        if images is None:
            raise RunError(
                f"sampling gave values that are not finite, by {name_of(self.sampler, 'sampler')}. Use another "
                "checkpoint, another `sampler`, or x0 clipping"
            )
        return to_uint8(images).cpu()

    def images_of(self, x: Tensor) -> Tensor:
        """The images, float [N, C, H, W], that the network's x [N, c, h, w] are: decoded, if they are latents."""
        return x if self._decode is None else decoded(x, self._decode)

    def noise(self, positions: Tensor, *, step: int) -> Tensor:
        """Standard normal [N, C, H, W] at the `positions` int64 [N]; at step 0 it is what the images begin as."""
        return counter_random.normal(
            self.request.seed, Stream.SAMPLING, step=step, positions=positions, shape=self.shape
        )

    @torch.no_grad()
    def batch(self, positions: Tensor, *, on_step: Callable[[int, Tensor, Tensor], None]) -> Tensor:
        """Float [N, C, H, W] at the `positions` int64 [N]; `on_step` is called as a sampler does, with these alone."""
        count = len(positions)
        group = min(self.group, self.batch_size) if self.automatic else self.group
        rest = -count % group
        shown = torch.cat([positions, positions[-1:].expand(rest)]).to(self.device)

        def noise(step: int) -> Tensor:
            return self.noise(shown, step=step)

        labels = self.labels(shown.cpu())
        self.denoiser.nfe = 0
        x: Tensor = self.sampler(
            self.denoiser,
            noise(0),
            num_steps=self.request.num_steps,
            noise=noise,
            labels=None if labels is None else labels.to(self.device),
            on_step=lambda done, x, x0: on_step(done, x[:count], x0[:count]),
        )
        return x[:count]

    def _shrink(self) -> None:
        """Halve the batch, or give up.

        Raises:
            RunError: if the batch size was given, or is 1.
        """
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if not self.automatic:
            raise RunError(
                f"out of memory with `batch_size={self.batch_size}`. Choose a smaller one, or leave `batch_size` out"
            )
        if self.batch_size == 1:
            raise RunError("out of memory with one image at a time. Free some memory, or choose `precision=bf16`")
        self.batch_size //= 2
        rounding = "; images may differ from those of larger batches by rounding" * (self.batch_size < self.group)
        _LOG.warning("out of memory; continuing with %d images at a time%s", self.batch_size, rounding)


def draw(
    denoiser: Denoiser,
    request: SampleRequest,
    labels: Tensor | None,
    *,
    shape: tuple[int, int, int],
    device: torch.device,
    batch_size: int | None = None,
    decode: Decode | None = None,
) -> tuple[Tensor, int]:
    """The request's images uint8 [N, C, H, W], which are not stored, and the network forwards made for each.

    `shape` is that of what the network makes; with `decode`, these are latents.
    """

    def known(indices: Tensor) -> Tensor | None:
        return None if labels is None else labels[indices]

    drawer = Drawer(denoiser, request, known, shape=shape, device=device, batch_size=batch_size, decode=decode)
    drawn = list(drawer([range(request.num)]))
    return torch.cat([part.images for part in drawn]), drawn[-1].nfe
