"""The units of an analysis: computed once, by one process or several, and kept until the analysis has ended."""

import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from debiasctl.compute import processes
from debiasctl.files import atomic_file
from debiasctl.reading.arrays import UNREADABLE, open_npz

_LOG = logging.getLogger(__name__)
Arrays = dict[str, NDArray[np.float64]]
_IDENTITY = "identity"


class Book:
    """Units in a folder, a file each. `identity` is the key of the analysis: units of another are not taken.

    A killed analysis finds the units that it had finished. Cooperating processes (torchrun) compute every n-th unit
    and then read one another's.
    """

    def __init__(
        self, folder: Path, *, identity: str, on_progress: Callable[[float, str], None] = lambda done, text: None
    ) -> None:
        self.folder, self.identity, self._on_progress = folder, identity, on_progress

    def all(
        self, units: Mapping[str, Callable[[], Arrays]], *, text: str, begin: float, end: float
    ) -> dict[str, Arrays]:
        """The results of all units, by name (letters, digits, `-` and `.`), those that are there read from their files.

        `text` says what they are; `begin` and `end` are the shares of the part's work, 0 to 1, before and after them.
        Sums that depend on the order are the same however many processes there are: each unit is one process's.
        """
        mine = [name for number, name in enumerate(units) if number % processes.size() == processes.rank()]
        for number, name in enumerate(mine):
            if processes.rank() == 0:
                self._on_progress(begin + (end - begin) * number / len(mine), text)
            if self._read(name) is None:
                self._write(name, units[name]())
        processes.wait()
        found = {name: self._read(name) for name in units}
        for name, arrays in found.items():
            if arrays is None:  # another process's disk, or a file that was removed a moment ago
                found[name] = units[name]()
        return {name: arrays for name, arrays in found.items() if arrays is not None}

    def remove(self) -> None:
        """Remove all units."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self, name: str) -> Arrays | None:
        path = self.folder / f"{name}.npz"
        try:
            with open_npz(path) as stored:
                arrays = {name: stored.read(name) for name in stored.names}
        except FileNotFoundError:
            return None
        except UNREADABLE as error:
            _LOG.warning("%s cannot be used (%s) and is computed again", path, error)
            return None
        stated = arrays.pop(_IDENTITY, None)
        return arrays if stated is not None and stated.tobytes() == self.identity.encode() else None

    def _write(self, name: str, arrays: Arrays) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(self.folder / f"{name}.npz") as stream:
            np.savez(stream, **{_IDENTITY: np.frombuffer(self.identity.encode(), dtype=np.uint8)}, **arrays)  # type: ignore[arg-type]  # numpy's stub
