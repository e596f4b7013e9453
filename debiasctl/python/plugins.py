"""Data sets and samplers by name in Python: `debiasctl.dataset` and `debiasctl.sampler`."""

from dataclasses import replace
from pathlib import Path

from debiasctl import registry
from debiasctl.api import LoadedDataset, Sampler
from debiasctl.data.load import load_dataset
from debiasctl.errors import UsageError
from debiasctl.python.machine import location
from debiasctl.python.values import check_path
from debiasctl.reading.user_text import user_path
from debiasctl.wording import kind_of


def dataset(reference: str, *, data_dir: str | Path | None = None) -> LoadedDataset:
    """Load a data set by its reference, as on the command line: `"digits"`, `"gaussian-mixture:image_size=8"`.

    Without `data_dir`, its files are where `DEBIASCTL_DATA` says, if they are not made or downloaded.

    Raises:
        UsageError: if there is no such data set, or its options are not valid; DataError: if it cannot be read.
    """
    if not isinstance(reference, str):
        raise UsageError(f"a data set is given by its reference, such as 'digits', not by {kind_of(reference)}")
    place = location()
    if data_dir is not None:
        check_path(data_dir, name="data_dir")
        place = replace(place, data_dir=user_path(Path(data_dir), argument="`data_dir`"))
    return load_dataset(reference, place)


def sampler(reference: str) -> Sampler:
    """Return a sampler by its reference, as on the command line: `"ddim"`, `"ddpm:clip_x0=false"`.

    It is called with a denoiser, such as `debiasctl.run(NAME).denoiser()`; see `debiasctl.api.Sampler`.

    Raises:
        UsageError: if there is no such sampler, or its options are not valid.
    """
    if not isinstance(reference, str):
        raise UsageError(f"a sampler is given by its reference, such as 'ddim', not by {kind_of(reference)}")
    made: Sampler = registry.create("samplers", reference)
    return made
