"""From a request to images in the run's folder: drawn once, part by part, by one process or several."""

import logging
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from debiasctl.api import Denoiser
from debiasctl.compute import processes
from debiasctl.compute.signals import number_of, stoppable
from debiasctl.diffusion.guided import Guided
from debiasctl.errors import ForeignPartError, Interrupted, RunError, UsageError
from debiasctl.files import atomic_folder, file_lock, sha256_file, write_json
from debiasctl.registry.messages import damage
from debiasctl.runs.removal import tidy
from debiasctl.runs.store import Run
from debiasctl.sampling.description import FILE, Description, GuideOrigin, Origin
from debiasctl.sampling.drawing import Drawer, OnImages, check_batch_size
from debiasctl.sampling.guidance import is_unconditional
from debiasctl.sampling.image_files import UNREADABLE, StoredImages, count_images, read_array, read_blocks, save_npz
from debiasctl.sampling.networks import Networks
from debiasctl.sampling.request import SampleRequest, labels_of
from debiasctl.sampling.store import Parts, PartWriter, Source, assembled, missing, share
from debiasctl.specs.sections import RunSpec

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Samples:
    """Drawn images, in `folder`, and their description; `reused` if none had to be drawn for this request."""

    folder: Path
    description: Description
    reused: bool

    @cached_property
    def images(self) -> Tensor:
        """All of them, uint8 [N, C, H, W]; `blocks` gives them one after another."""
        return torch.cat(list(self.blocks()))

    @cached_property
    def labels(self) -> Tensor | None:
        """int64 [N], or None where the model knows no classes."""
        return read_array(self.folder / "images.npz", "labels")

    def blocks(self) -> Iterator[Tensor]:
        """uint8 [n, C, H, W] each, in order."""
        return read_blocks(self.folder / "images.npz")

    def split(self) -> StoredImages:
        """The images as a split that holds one block in memory at a time."""
        return StoredImages(self.folder / "images.npz", self.description.num, self.labels)


def sample(
    run: Run,
    spec: RunSpec,
    request: SampleRequest,
    *,
    device: torch.device,
    batch_size: int | None = None,
    on_progress: OnImages | None = None,
    networks: Networks | None = None,
) -> Samples:
    """Draw the requested images that the run has not drawn before; every process of a group calls this.

    `batch_size` None is found automatically. `on_progress(done, all)` counts images, those begun in part. Several
    processes draw even shares; the first one's progress stands for all.

    Raises:
        CheckpointError: if the checkpoint is damaged; RunError: if images drawn before are damaged, and see `Drawer`;
        Interrupted: on SIGINT or SIGTERM; what was drawn is kept.
    """
    networks = networks or Networks()
    drawer, origin = prepare(run, spec, request, device=device, batch_size=batch_size, networks=networks)
    series, folder = origin.series_key, run.samples_dir / origin.key
    is_first = processes.rank() == 0
    if processes.agreed((folder / FILE).exists()):
        if is_first:
            _check(run, folder)
        return _opened(run, folder, reused=True)
    if is_first:
        tidy(run)
    parts = Parts(run.samples_dir / f".{series}.partial", identity=f"{run.identity()}/{series}")
    waiting = "another process is drawing these images; waiting for it"
    with file_lock(run.samples_dir / f".{series}.lock", waiting=waiting) if is_first else nullcontext():
        if processes.agreed((folder / FILE).exists()):  # another process has drawn them in the meantime
            return _opened(run, folder, reused=True)
        finished = _finished(run, series, request.num) if is_first else []
        gaps = processes.agreed(missing(request.num, finished + parts.sources()) if is_first else [])
        if gaps:
            _draw_parts(drawer, gaps, parts, num=request.num, on_progress=on_progress, networks=networks)
        if is_first:
            sources = finished + parts.sources()
            _check_all_there(request.num, sources)
            classes = list(run.content(spec).classes) if spec.model.conditional else []
            described = Description(
                **vars(origin),
                classes=classes,
                run=run.name,
                run_identity=run.identity(),
                series=series,
                nfe=sources[0].nfe,
            )
            _collect(folder, described, sources, drawer.labels(torch.arange(request.num)))
            parts.remove()
        processes.wait()
    return _opened(run, folder, reused=not gaps)


def prepare(
    run: Run,
    spec: RunSpec,
    request: SampleRequest,
    *,
    device: torch.device,
    batch_size: int | None = None,
    networks: Networks | None = None,
) -> tuple[Drawer, Origin]:
    """The drawer of the request's images, and all that they depend on; `networks` keeps what is loaded for this run.

    Raises:
        CheckpointError: if the checkpoint is damaged; RunError: if torch.compile was asked for and does not work here;
        UsageError: if fp16 was asked for on a CPU, or `check_batch_size` raises it.
    """
    if request.precision == "fp16" and device.type == "cpu":
        raise UsageError("`precision=fp16` needs a CUDA GPU. On a CPU choose fp32 or bf16")
    content = run.content(spec)
    shape = content.trained_shape
    if batch_size is not None:
        check_batch_size(batch_size, request.num, shape, device)
    networks = networks or Networks()
    denoiser: Denoiser
    denoiser, checksum = networks.get(run, spec, request, device=device)
    guide = None
    if request.guide is not None:
        weak, weak_sum = networks.guide(request.guide, request, device=device)
        denoiser = Guided(denoiser, weak, unconditional=is_unconditional(request.guide, spec))
        guide = GuideOrigin.of(request.guide, weights_sha256=weak_sum)

    def labels(indices: Tensor) -> Tensor | None:
        if not spec.model.conditional:
            return None
        return labels_of(indices, content, seed=request.seed, label=request.label)

    space = networks.space(run, spec, device=device)
    decode = None if space is None else space.decode
    drawer = Drawer(denoiser, request, labels, shape=shape, device=device, batch_size=batch_size, decode=decode)
    return drawer, Origin.of(request, weights_sha256=checksum, guide=guide)


def _draw_parts(
    drawer: Drawer, gaps: list[range], parts: Parts, *, num: int, on_progress: OnImages | None, networks: Networks
) -> None:
    """Draw this process's share of the gaps into parts; the first process's progress stands for all of them."""
    left = sum(map(len, gaps))
    mine = share(gaps, rank=processes.rank(), size=processes.size())
    if processes.rank() == 0:
        if left < num:
            _LOG.info("%d of %d images are there already", num - left, num)
        if drawer.batch_size < sum(map(len, mine)):
            networks.note_batch_size(drawer.batch_size)

    def show(done: float, total: int) -> None:
        if on_progress and processes.rank() == 0:
            on_progress(num - left + done * left / total, num)

    writer = PartWriter(parts)
    try:
        with stoppable():
            try:
                show(0, 1)
                for drawn in drawer(mine, on_progress=show):
                    writer.add(drawn)
            finally:
                writer.flush()
        processes.wait()
    except KeyboardInterrupt as stop:
        done = num - left + parts.count(gaps)
        raise Interrupted(
            f"interrupted: drawn {done} of {num}; repeat the command to resume",
            signal_number=number_of(stop),
        ) from stop


def _check_all_there(num: int, sources: list[Source]) -> None:
    """Raise RunError if drawn images cannot be read back."""
    if missing(num, sources):
        raise RunError("some of the images that were drawn cannot be read back. Repeat the command to draw them again")


def _collect(folder: Path, described: Description, sources: list[Source], labels: Tensor | None) -> None:
    """Put a request's images together in `folder`, which appears whole."""
    with atomic_folder(folder) as temporary:
        save_npz(temporary / "images.npz", assembled(described.num, sources), labels, num=described.num)
        checksum = sha256_file(temporary / "images.npz")
        write_json(temporary / FILE, described.model_copy(update={"images_sha256": checksum}).to_json())


def _finished(run: Run, series: str, num: int) -> list[Source]:
    """The images, at most `num`, of the longest finished request that differs in their number alone."""
    found = []
    for file in run.samples_dir.glob(f"[!.]*/{FILE}"):
        try:
            described = _described(run, file.parent)
        except (OSError, ValueError, ForeignPartError):
            continue  # a damaged or foreign request is reported when it is asked for
        if described.origin.series_key == series:
            found.append((described.num, described.nfe, file.parent / "images.npz"))
    for there, nfe, path in sorted(found, key=lambda one: one[0], reverse=True):
        try:
            if count_images(path) != there:
                raise ValueError("it holds another number of images")
            _check_sum(path, Description.read(path.parent))
        except UNREADABLE as error:
            _LOG.warning("%s is damaged (%s), and not used for this request", path, error)
            continue
        return [Source(path, 0, min(there, num), nfe)]
    return []


def _check(run: Run, folder: Path) -> None:
    """Raise RunError where a finished request's images are damaged, or another run's or request's."""
    try:
        described = _opened(run, folder, reused=True).description
        if count_images(folder / "images.npz") != described.num:
            raise ValueError("it holds another number of images")
        _check_sum(folder / "images.npz", described)
    except UNREADABLE as error:
        raise _damaged(folder, error) from error


def _check_sum(path: Path, described: Description) -> None:
    """Raise ValueError if a file of images is not the one that was stored with its description."""
    if described.images_sha256 is not None and sha256_file(path) != described.images_sha256:
        raise ValueError(f"{path.name} is not the file that {FILE} describes")


def _opened(run: Run, folder: Path, *, reused: bool) -> Samples:
    """The images in a folder; raises RunError if what is said of them is damaged, or of another run or request."""
    try:
        return Samples(folder, _described(run, folder), reused)
    except (OSError, ValueError) as error:
        raise _damaged(folder, error) from error


def _described(run: Run, folder: Path) -> Description:
    """The description in a folder of samples, once it is known to be this run's and of the request that names it.

    Raises:
        OSError, ValueError: if it is damaged; ForeignPartError: if it is of another run or request.
    """
    described = Description.read(folder)
    way_on = "Move that folder away, and repeat the command to draw this run's own"
    run.check_identity(described.run_identity, what=f"the set of samples in {folder}", way_on=way_on)
    if described.origin.key != folder.name:
        raise ForeignPartError(
            f"the set of samples in {folder} was drawn for another request (checkpoint {described.step}, "
            f"{described.weights} weights, {described.sampler.ref}, {described.num_steps} steps, seed "
            f"{described.seed}, {described.num} images). {way_on}"
        )
    if described.run_identity is not None and described.images_sha256 is None:
        raise ValueError("its images' checksum is missing")
    return described


def _damaged(folder: Path, error: Exception) -> RunError:
    return RunError(f"the samples in {folder} are damaged ({damage(error)}). Remove that folder to draw them again")
