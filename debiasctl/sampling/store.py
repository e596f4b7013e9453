"""Images drawn for an unfinished request: files of index ranges, independent of the batch size."""

import logging
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from debiasctl.sampling.drawing import Drawn
from debiasctl.sampling.image_files import UNREADABLE, count_images, read_array, read_blocks, save_npz

_LOG = logging.getLogger(__name__)
_PART = re.compile(r"([0-9]{9,})-([0-9]{9,})\.npz")
_SECONDS, _BYTES = 5.0, 64 * 2**20  # of work and of images that are held before they are written


@dataclass(frozen=True)
class Source:
    """A whole file whose images are those of `range(start, stop)`, each drawn by `nfe` network forwards."""

    path: Path
    start: int
    stop: int
    nfe: int


class Parts:
    """The parts in `folder`, which need not exist; `identity` is that of the run and the request that they are for."""

    def __init__(self, folder: Path, *, identity: str) -> None:
        self.folder, self.identity = folder, identity

    def sources(self) -> list[Source]:
        """The whole ones; those that are damaged, or of another run or request, are removed and logged."""
        found = []
        for path in sorted(self.folder.glob("*.npz")):
            named = _PART.fullmatch(path.name)
            if named is None:
                continue
            start, stop = int(named[1]), int(named[2])
            try:
                nfe = read_array(path, "nfe")
                if count_images(path) != stop - start or nfe is None:
                    raise ValueError("it does not hold the images that its name says")
                stated = read_array(path, "identity")
                if stated is None or bytes(stated.tolist()) != self.identity.encode():
                    raise ValueError("it is of another run or request")
            except UNREADABLE as error:
                _LOG.warning("images %d to %d cannot be used (%s) and are drawn again", start, stop - 1, error)
                path.unlink(missing_ok=True)
                continue
            found.append(Source(path, start, stop, int(nfe)))
        return found

    def count(self, among: list[range]) -> int:
        """How many of the images in `among` exist, by the files' names."""
        named = [_PART.fullmatch(path.name) for path in self.folder.glob("*.npz")]
        there = {index for match in named if match for index in range(int(match[1]), int(match[2]))}
        return sum(index in there for gap in among for index in gap)

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


class PartWriter:
    """Writes drawn images, in order, some seconds' worth at a time."""

    def __init__(self, parts: Parts) -> None:
        self._folder, self._identity = parts.folder, parts.identity
        self._held: list[Drawn] = []
        self._since = time.monotonic()

    def add(self, drawn: Drawn) -> None:
        """Take a batch; it is written when `flush` is called, or when enough has accumulated."""
        if self._held and self._stop() != drawn.start:
            self.flush()
        self._held.append(drawn)
        if time.monotonic() - self._since > _SECONDS or sum(one.images.nbytes for one in self._held) > _BYTES:
            self.flush()

    def flush(self) -> None:
        """Write everything held.

        Raises:
            DebiasctlError: if the file cannot be written.
        """
        if self._held:
            path = self._folder / f"{self._held[0].start:09d}-{self._stop():09d}.npz"
            images = torch.cat([one.images for one in self._held])
            save_npz(path, [images], None, num=len(images), nfe=self._held[-1].nfe, identity=self._identity)
            self._held.clear()
        self._since = time.monotonic()

    def _stop(self) -> int:
        return self._held[-1].start + len(self._held[-1].images)


def missing(num: int, sources: list[Source]) -> list[range]:
    """The indices below `num` that no source covers, ascending."""
    gaps, reached = [], 0
    for source in sorted(sources, key=lambda one: one.start):
        if source.start > reached:
            gaps.append(range(reached, min(source.start, num)))
        reached = max(reached, source.stop)
    if reached < num:
        gaps.append(range(reached, num))
    return [gap for gap in gaps if gap]


def share(ranges: list[range], *, rank: int, size: int) -> list[range]:
    """The even share of `ranges` that process `rank` of `size` draws; one piece where `ranges` is one."""
    total = sum(map(len, ranges))
    first, last = rank * total // size, (rank + 1) * total // size
    found, before = [], 0
    for one in ranges:
        piece = one[max(0, first - before) : max(0, last - before)]
        if piece:
            found.append(piece)
        before += len(one)
    return found


def assembled(num: int, sources: list[Source]) -> Iterator[Tensor]:
    """Images 0 … num - 1 in order, in blocks [n, C, H, W], from sources that cover them."""
    reached = 0
    while reached < num:
        source = max((one for one in sources if one.start <= reached), key=lambda one: one.stop)
        assert source.stop > reached, "the sources cover all"
        stop = min(source.stop, num)
        yield from read_blocks(source.path, start=reached - source.start, stop=stop - source.start)
        reached = stop
