"""Solutions of the Kuramoto-Sivashinsky equation as images: a fine solver's, and a coarse one's, which are biased."""

import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator

from debiasctl.api import (
    ArraySplit,
    DataLocation,
    Dataset,
    DatasetInfo,
    LoadedDataset,
    PluginOptions,
    UsageError,
    atomic_file,
    content_key,
    hash_contents,
    made_once,
)
from debiasctl_downscaling.integrators import Array, FiniteVolume, Spectral

VERSION = 1  # of the images: increased when the same options would give others
RECOMMENDED: dict[str, Any] = {  # a small U-Net that trains in minutes on two CPU cores
    "data": {"horizontal_flip": False},
    "model": {
        "backbone": "unet:channels=16,channel_mult=[1,2,2],norm_groups=8,attention_resolutions=[]",
        "prediction": "v",
        "conditional": False,
    },
    "diffusion": {"schedule": "cosine"},
    "optimizer": {"lr": 2e-3, "warmup_steps": 50, "decay": "cosine", "weight_decay": 0.0, "clip_grad_norm": 1.0},
    "ema": {"decay": 0.99},
    "training": {"steps": 2000, "batch_size": 32, "checkpoint_every": 500, "heldout_every": 2000},
}
_OF_COARSE = ("factor", "cells")  # options of the coarse solver alone
_HELDOUT_SHARE = 4  # one held-out image for so many training images
_FINE_STEP, _COARSE_STEP = 0.25, 0.1  # at most: Kassam & Trefethen take 1/4
_SPACING = 0.5  # at most, between the fine solver's points
_TOGETHER = 256  # trajectories
_LEVELS = 2.0**12  # values are rounded to 2^-12, which two machines' last digits hardly ever cross
_START = 1.5  # standard deviation of the initial states
_PURPOSES = {("fine", False): 0, ("fine", True): 1, ("coarse", False): 2, ("coarse", True): 3}  # of random numbers


class KuramotoSivashinsky(Dataset):
    """Space-time images of the Kuramoto-Sivashinsky equation, by a fine or a coarse solver (arXiv 2305.15618, §4).

    An image is a window of one trajectory, u / scale: rows are space (periodic), columns are time. Each is of a
    trajectory of its own, from a random state with mean 0, so that images are independent. `fidelity=fine` takes
    points of a spectral solution; `fidelity=coarse` is a finite-volume solution on few cells, as means over blocks of
    `factor` x `factor` pixels of the fine images' grid. The two share no initial states.
    """

    class Options(PluginOptions):
        """The options of kuramoto-sivashinsky."""

        fidelity: Literal["fine", "coarse"] = Field(
            "fine", description="fine: the spectral solver; coarse: the biased solver, at low resolution"
        )
        image_size: int = Field(32, ge=16, le=256, multiple_of=4, description="points in space and in time, fine")
        factor: int = Field(4, ge=2, le=16, description="fidelity=coarse: its pixels are means over so many, each way")
        cells: int = Field(2, ge=1, le=16, description="fidelity=coarse: the solver's cells for each of its pixels")
        length: float = Field(22.0, ge=9, le=400, description="length of the interval; chaotic from about 20")
        interval: float = Field(0.5, gt=0, le=10, description="time between the columns of fine images")
        spin_up: float = Field(150.0, ge=0, le=2000, description="time before the window, in which transients end")
        scale: float = Field(4.0, gt=0, le=100, description="the u that becomes 1; none may be larger")
        num: int = Field(2048, ge=8, le=200_000, description="training images; a quarter as many are held out")
        seed: int = Field(0, ge=0, description="seed of the initial states")

        @model_validator(mode="after")
        def _sizes_fit(self) -> Self:
            fields = type(self).model_fields
            idle = [name for name in _OF_COARSE if getattr(self, name) != fields[name].default]
            if self.fidelity == "fine" and idle:
                raise ValueError(f"{idle[0]} has no effect with fidelity=fine. Leave it out, or give fidelity=coarse")
            if self.image_size % self.factor:
                raise ValueError(f"factor={self.factor} must divide image_size={self.image_size}")
            if self.image_size // self.factor * self.cells < 8:
                raise ValueError("the coarse solver needs 8 cells or more: lower the factor, or raise cells")
            return self

    options: Options

    def info(self, location: DataLocation) -> DatasetInfo:
        """Return the facts, which follow from the options."""
        options = self.options
        size = options.image_size // (options.factor if options.fidelity == "coarse" else 1)
        return DatasetInfo(size, 1, (), options.num, options.num // _HELDOUT_SHARE, value_type="float32")

    def recommended(self, location: DataLocation) -> Mapping[str, Any]:
        """Settings for a run of some minutes on two CPU cores at the default size."""
        return RECOMMENDED

    def load(self, location: DataLocation) -> LoadedDataset:
        """Integrate the equation, or read what was integrated before, from the cache.

        Raises:
            UsageError: if some |u| exceeds the scale, or the coarse solver is unstable with these options.
        """
        info = self.info(location)
        key = self._key()
        path = location.cache_dir / "kuramoto-sivashinsky" / f"{key}.npz"
        found = made_once(path, find=partial(_read, path, info), make=partial(self._make, path, info))
        train, heldout = (ArraySplit(torch.from_numpy(one)) for one in found)
        content_hash = hash_contents({"name": "kuramoto-sivashinsky"}, [train.array, heldout.array])
        return LoadedDataset(info, train, heldout, content_hash)

    def _key(self) -> str:
        stored = self.options.model_dump(mode="json")
        if self.options.fidelity == "fine":  # these options make no difference
            stored = {name: value for name, value in stored.items() if name not in _OF_COARSE}
        return content_key({"version": VERSION, **stored})

    def _make(self, path: Path, info: DatasetInfo) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        train, heldout = self._images(info.num_train, heldout=False), self._images(info.num_heldout, heldout=True)
        with atomic_file(path) as stream:
            np.savez(stream, train=train, heldout=heldout)
        return train, heldout

    def _images(self, num: int, *, heldout: bool) -> NDArray[np.float32]:
        """Images, float32 [num, 1, size, size]; more of them begin with the same ones."""
        options = self.options
        purpose = _PURPOSES[options.fidelity, heldout]
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([options.seed, purpose])))
        run = self.fine if options.fidelity == "fine" else self.coarse
        parts = []
        for start in range(0, num, _TOGETHER):
            u = run(rng, _TOGETHER)[: num - start]
            largest = float(np.abs(u).max())
            if not np.isfinite(largest):
                raise UsageError(
                    "kuramoto-sivashinsky: the coarse solver is unstable with these options. Raise cells, or lower the "
                    "length"
                )
            if largest > options.scale:
                raise UsageError(
                    f"kuramoto-sivashinsky: |u| reaches {largest:.3g}, and scale={options.scale:g} is the largest that "
                    f"fits into [-1, 1]. Choose scale={np.ceil(1.1 * largest):g}"
                )
            parts.append((np.round(u / options.scale * _LEVELS) / _LEVELS).astype(np.float32))
        return np.concatenate(parts)[:, None]

    def fine(self, rng: np.random.Generator, num: int) -> Array:
        """Points of the spectral solution, [num, space, time]."""
        options = self.options
        size = options.image_size
        every = int(np.ceil(options.length / _SPACING / size))  # the solver's points for each row
        substeps, step = _steps(options.interval, _FINE_STEP)
        solver = Spectral(length=options.length, points=every * size, step=step)
        v = solver.transform(_START * rng.standard_normal((num, every * size)))
        v[:, 0] = 0
        for _ in range(round(options.spin_up / step)):
            v = solver.advance(v)
        columns = []
        for _ in range(size):
            for _ in range(substeps):
                v = solver.advance(v)
            columns.append(solver.values(v)[:, ::every])
        return np.stack(columns, axis=-1)

    def coarse(self, rng: np.random.Generator, num: int) -> Array:
        """Means over blocks of the finite-volume solution, [num, space, time]."""
        options = self.options
        factor = options.factor
        size = options.image_size // factor
        cells = size * options.cells
        substeps, step = _steps(options.interval, _COARSE_STEP)
        solver = FiniteVolume(length=options.length, cells=cells, step=step)
        u = _START * rng.standard_normal((num, cells))
        u -= u.mean(axis=-1, keepdims=True)
        with np.errstate(all="ignore"):  # where it is unstable, which the caller reports
            for _ in range(round(options.spin_up / step)):
                u = solver.advance(u)
            columns = []
            for _ in range(size * factor):
                for _ in range(substeps):
                    u = solver.advance(u)
                columns.append(u.reshape(num, size, options.cells).mean(axis=-1))
        found: Array = np.stack(columns, axis=-1).reshape(num, size, size, factor).mean(axis=-1)
        return found


def _steps(interval: float, most: float) -> tuple[int, float]:
    """The number of equal steps of at most `most` in an interval, and their length."""
    number = int(np.ceil(interval / most - 1e-9))
    return number, interval / number


def _read(path: Path, info: DatasetInfo) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """The images that were made before, or None; a damaged file is made again."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            train, heldout = stored["train"], stored["heldout"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    shape = (1, info.image_size, info.image_size)
    wanted = [(info.num_train, *shape), (info.num_heldout, *shape)]
    is_whole = [train.shape, heldout.shape] == wanted and train.dtype == heldout.dtype == np.float32
    return (train, heldout) if is_whole else None
