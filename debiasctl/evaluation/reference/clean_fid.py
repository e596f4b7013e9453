"""clean-fid's published reference statistics by name: the list of them, and downloading one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, ValidationError

from debiasctl.api import PluginOptions
from debiasctl.errors import EvaluationError, ReferenceSyntaxError, UsageError
from debiasctl.evaluation.suggestions import features_by_mode
from debiasctl.files import made_once, write_bytes
from debiasctl.registry.messages import describe_errors
from debiasctl.registry.refs import parse_ref
from debiasctl.wording import did_you_mean, format_bytes, one_line, quoted

NAME = "clean-fid"
_Mode = Literal["clean", "legacy_tensorflow", "legacy_pytorch"]
CHANNELS = 3  # all are of RGB images
_SITE = "https://www.cs.cmu.edu/~clean-fid/stats"
_TIMEOUT = 30.0  # seconds without a response
_LARGEST = 2**28  # bytes: a covariance of 2,048 features takes 34 MB


@dataclass(frozen=True)
class _Set:
    """A data set with published statistics at each resolution, for each split, in all but some modes."""

    resolutions: tuple[int, ...]
    splits: tuple[str, ...]
    clean_alone: tuple[str, ...] = ()


# as clean-fid 0.1.35 lists them
_PUBLISHED = {
    "cifar10": _Set((32,), ("train", "test")),
    "ffhq": _Set((256, 1024), ("trainval", "trainval70k")),
    "lsun_church": _Set((256,), ("train", "trainfull"), clean_alone=("trainfull",)),
    "lsun_horse": _Set((256,), ("train", "trainfull"), clean_alone=("trainfull",)),
    "lsun_cat": _Set((256,), ("train", "trainfull")),
    "afhq_cat": _Set((512,), ("train",)),
    "afhq_dog": _Set((512,), ("train",)),
    "afhq_wild": _Set((512,), ("train",)),
    "brecahad": _Set((512,), ("train",)),
    "metfaces": _Set((1024,), ("train",)),
    "horse2zebra": _Set((256,), ("test",)),
    "cat2dog": _Set((256,), ("test",)),
}


class Statistics(PluginOptions):
    """One of clean-fid's statistics: the images of a data set's split, resized in a mode for Inception-v3."""

    name: str = Field(description="the data set")
    resolution: int = Field(description="pixels a side")
    split: str = Field(description="the part of the data set")
    mode: _Mode = Field("clean", description="how they were resized")

    @property
    def file_name(self) -> str:
        """The file's name at clean-fid."""
        return f"{self.name}_{self.mode}_{self.split}_{self.resolution}.npz".lower()

    @property
    def reference(self) -> str:
        """The text that `parse_statistics` takes."""
        mode = "" if self.mode == "clean" else f",mode={self.mode}"
        return f"{NAME}:name={self.name},resolution={self.resolution},split={self.split}{mode}"

    @property
    def url(self) -> str:
        """The address where clean-fid publishes the file."""
        return f"{_SITE}/{self.file_name}"

    @property
    def features(self) -> str:
        """The reference of the extractor that the statistics were made with."""
        return features_by_mode(NAME)[self.mode]


def is_named(text: str) -> bool:
    """Whether a reference names clean-fid's statistics."""
    return text.partition(":")[0] == NAME


def parse_statistics(text: str) -> Statistics:
    """Parse `clean-fid:name=...,resolution=...,split=...`.

    Raises:
        UsageError: if it cannot be parsed, clean-fid does not publish such statistics, or no features here match them.
    """
    form = f"Write {NAME}:name=cifar10,resolution=32,split=train. {_known()}"
    try:
        options = dict(parse_ref(text).options)
    except ReferenceSyntaxError as error:
        problem = str(error).partition(". ")[0]  # what follows is about plugins
        raise UsageError(f"`reference` {problem}. {form}") from error
    unknown = [key for key in options if key not in Statistics.model_fields]
    if unknown:  # said alone: one that is mistyped is missing as well
        nearest = did_you_mean(unknown[0], Statistics.model_fields)
        raise UsageError(f"`reference` {quoted(text)}: unknown option {quoted(unknown[0])}.{nearest} {form}")
    name = options.get("name")
    if isinstance(name, str) and name not in _PUBLISHED:
        nearest = did_you_mean(name, _PUBLISHED)
        raise UsageError(f"`reference` {quoted(text)}: no statistics of {quoted(name)} are published.{nearest} {form}")
    try:
        found = Statistics.model_validate(options)
    except ValidationError as error:
        raise UsageError(f"`reference` {quoted(text)}: {describe_errors(error, Statistics)}. {form}") from error
    known = _PUBLISHED[found.name]
    if found.resolution not in known.resolutions or found.split not in known.splits:
        raise UsageError(
            f"`reference` {quoted(text)}: no statistics of {found.name}'s split {quoted(found.split)} at "
            f"{found.resolution} pixels are published. {_known()}"
        )
    modes = features_by_mode(NAME)
    if found.mode not in modes:
        raise UsageError(
            f"`reference` {quoted(text)}: mode={found.mode} belongs to another network, which no features here use. "
            f"Choose mode={' or mode='.join(modes)}"
        )
    if found.split in known.clean_alone and found.mode != "clean":
        raise UsageError(
            f"`reference` {quoted(text)}: for {found.name}'s split {quoted(found.split)} only mode=clean is "
            "published. Choose it"
        )
    return found


def in_cache(cache_dir: Path) -> list[str]:
    """List the statistics whose files lie in the cache, each as the reference that names it."""
    found = [
        Statistics(name=name, resolution=resolution, split=split, mode=mode)
        for name, one in _PUBLISHED.items()
        for resolution in one.resolutions
        for split in one.splits
        for mode in get_args(_Mode)
    ]
    return [one.reference for one in found if (cache_dir / NAME / one.file_name).is_file()]


def obtain(statistics: Statistics, cache_dir: Path) -> Path:
    """Return the file of the statistics in the cache, downloading it if missing; only a complete file appears there.

    Raises:
        EvaluationError: if it cannot be downloaded; DebiasctlError: if the cache cannot be written.
    """
    path = cache_dir / NAME / statistics.file_name

    def fetch() -> Path:
        write_bytes(path, _downloaded(statistics, path))
        return path

    return made_once(path, find=lambda: path if path.is_file() else None, make=fetch)


def _downloaded(statistics: Statistics, path: Path) -> bytes:
    """Download the file and check that it is an npz with a mean and a covariance, since no checksum is published."""
    import io
    import urllib.request
    from http.client import HTTPException

    from debiasctl.reading.arrays import UNREADABLE, npz_in

    try:
        with urllib.request.urlopen(statistics.url, timeout=_TIMEOUT) as response:
            data: bytes = response.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise ValueError(f"it has more than {format_bytes(_LARGEST)}")
        with npz_in(io.BytesIO(data)) as archive:
            for key in ("mu", "sigma"):
                archive.read(key, limit=_LARGEST)
    except (HTTPException, *UNREADABLE) as error:
        raise EvaluationError(
            f"clean-fid's statistics {statistics.file_name} cannot be downloaded ({one_line(error)}).\n"
            f"Put the file from {statistics.url}\nat {path}\nor name another `reference`: a data set, a folder, .zip "
            "or .npz of images, or an .npz of statistics (mu, sigma)"
        ) from error
    return data


def _known() -> str:
    sets = [
        f"{name} {' or '.join(map(str, one.resolutions))} {' or '.join(one.splits)}" for name, one in _PUBLISHED.items()
    ]
    return f"clean-fid publishes (name, resolution, split): {'; '.join(sets)}"
