"""Arrays of latents on disk: encoded once, resumed where that was interrupted, and verified at every read."""

import hashlib
import logging
import math
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from debiasctl.api import Pace
from debiasctl.errors import DataError
from debiasctl.files import atomic_folder, made_once, sha256_file, write_json, writing
from debiasctl.reading.documents import read_json
from debiasctl.reading.regular import read_text
from debiasctl.wording import one_line

_LOG = logging.getLogger(__name__)
_LATENTS, _MANIFEST, _PROGRESS = "latents.f32", "manifest.json", "progress.txt"
_BLOCK = 256  # latents that are written and noted at a time
IN_MEMORY = 2 * 2**30  # bytes of an array from which it is mapped, not read

Array = np.ndarray[Any, np.dtype[np.float32]]
Encode = Callable[[range], Array]


def cached_latents(folder: Path, *, num: int, shape: tuple[int, int, int], encode: Encode, maker: str) -> Array:
    """The latents float32 [num, *shape] kept in `folder`, encoded block by block if they are not there.

    Large ones are a read-only map of the file; `maker` names the autoencoder in messages. One process encodes while
    others wait. What an interrupted one had encoded is used again, if its checksums hold; damaged files are made again,
    with a warning.

    Raises:
        DebiasctlError: if the disk is full or cannot be written; and the errors of `encode`.
    """
    damage: list[str] = []

    def find() -> Array | None:
        if not folder.exists():
            return None
        try:
            return _read(folder, (num, *shape))
        except (OSError, ValueError, KeyError, TypeError) as error:
            damage.append(one_line(error))
            return None

    def make() -> Array:
        if damage:
            _LOG.warning("the latents in %s are damaged (%s); encoding the images again", folder, damage[-1])
        partial = folder.with_name(f".{folder.name}.partial")
        _LOG.info("encoding %d images (%s), once", num, folder.name)
        with writing(folder):
            _encode(partial, (num, *shape), encode, maker)
            with atomic_folder(folder, replace=True) as whole:
                os.replace(partial / _LATENTS, whole / _LATENTS)
                write_json(whole / _MANIFEST, {"sha256": sha256_file(whole / _LATENTS)})
            shutil.rmtree(partial, ignore_errors=True)
        return _read(folder, (num, *shape))

    return made_once(folder, find=find, make=make)


def _read(folder: Path, shape: tuple[int, ...]) -> Array:
    """The array, once its checksum is right; raises ValueError if it is not, or it has another shape."""
    path = folder / _LATENTS
    if read_json(folder / _MANIFEST)["sha256"] != sha256_file(path):
        raise ValueError(f"{_LATENTS} does not match its checksum")
    array = _mapped(path, shape)
    return array if array.nbytes > IN_MEMORY else np.array(array)


def _mapped(path: Path, shape: tuple[int, ...]) -> "np.memmap[Any, np.dtype[np.float32]]":
    """The file's numbers, which are read when they are used; raises ValueError if they are not as many."""
    if path.stat().st_size != 4 * math.prod(shape):
        raise ValueError(f"{path.name} does not hold {' x '.join(map(str, shape))} numbers")
    return np.memmap(path, dtype=np.float32, mode="r", shape=shape)


def _encode(partial: Path, shape: tuple[int, ...], encode: Encode, maker: str) -> None:
    """Write all latents into the folder `partial`, from the first block that is not whole there."""
    sums = _whole_blocks(partial, shape)
    num, path = shape[0], partial / _LATENTS
    if not sums:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    else:
        (partial / _PROGRESS).write_text("".join(f"{one}\n" for one in sums), encoding="ascii")
        _LOG.info("%d of %d images are encoded already", min(num, len(sums) * _BLOCK), num)
    pace = Pace()
    # written, not mapped: on a full disk the system refuses a write, and kills a process that fills a mapped page
    with open(path, "r+b" if sums else "wb") as stored:
        stored.truncate(4 * math.prod(shape))
        stored.seek(4 * math.prod(shape[1:]) * _BLOCK * len(sums))
        for start in range(len(sums) * _BLOCK, num, _BLOCK):
            rows = range(start, min(start + _BLOCK, num))
            block = np.ascontiguousarray(encode(rows), dtype=np.float32)
            if not np.isfinite(block).all():
                bad = start + int(np.flatnonzero(~np.isfinite(block).reshape(len(block), -1).all(axis=1))[0])
                raise DataError(
                    f"{maker} makes NaN or infinity of image {bad}, so that nothing can be trained on its latents. "
                    "Choose another autoencoder: `data.autoencoder`"
                )
            stored.write(block.tobytes())
            stored.flush()
            with open(partial / _PROGRESS, "a", encoding="ascii") as noted:  # after the block itself is in its file
                noted.write(f"{_sum(block)}\n")
            if pace.due():
                _LOG.info("encoded %d of %d images", rows.stop, num)


def _whole_blocks(partial: Path, shape: tuple[int, ...]) -> list[str]:
    """The checksums of the blocks from the first on that an interrupted encoding left whole."""
    with suppress(OSError, ValueError):
        stated = read_text(partial / _PROGRESS).split("\n")[:-1]
        array = _mapped(partial / _LATENTS, shape)
        blocks = (array[start : start + _BLOCK] for start in range(0, shape[0], _BLOCK))
        found = []
        for said, block in zip(stated, blocks, strict=False):
            if said != _sum(block):
                break
            found.append(said)
        return found
    return []


def _sum(block: Array) -> str:
    return hashlib.sha256(block.tobytes()).hexdigest()
