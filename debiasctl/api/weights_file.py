"""Pretrained weights as files: where they lie, whether they are the right ones, and how they are fetched."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from debiasctl.errors import EvaluationError, UsageError
from debiasctl.files import atomic_file, sha256_file

State = Literal["present", "missing", "wrong", "unverified", "blocked", "unreadable"]
_TIMEOUT = 30.0  # seconds without an answer


@dataclass(frozen=True)
class WeightsFile:
    """A published file of weights. `sha256` is None where none is published: then the file has to be given."""

    network: str  # as messages call it
    folder: str  # below cache_dir/features
    name: str
    url: str
    sha256: str | None

    def cached(self, cache_dir: Path) -> Path:
        """Where the file lies, or belongs."""
        return cache_dir / "features" / self.folder / self.name

    def state(self, cache_dir: Path) -> tuple[State, str | None]:
        """How it stands with the cached file, and its SHA-256 where it is there."""
        path = self.cached(cache_dir)
        if not path.is_file():
            return ("missing" if self.blocked(cache_dir) is None else "blocked"), None
        try:
            found = sha256_file(path)
        except OSError:
            return "unreadable", None
        if self.sha256 is None:
            return "unverified", found
        return ("present" if found == self.sha256 else "wrong"), found

    def blocked(self, cache_dir: Path) -> str | None:
        """What lies in the cached file's place and is no file; None where a file or nothing does."""
        path = self.cached(cache_dir)
        if path.is_file() or not os.path.lexists(path):
            return None
        found = "a folder" if path.is_dir() else "no file" if path.exists() else "a link to nothing"
        return f"{path}: {found} lies there, where {self.name} should be. Move it away"

    def obtain(self, cache_dir: Path, given: Path | None) -> tuple[Path, str]:
        """The file and its SHA-256: the one that is `given` (or is in that folder), else the cache's.

        What is missing in the cache is downloaded to it, where it could be verified.

        Raises:
            UsageError: `given` is no file.
            EvaluationError: there is none and none can be had, or it is another file than the published one.
        """
        path = self.cached(cache_dir) if given is None else given.expanduser().absolute()
        if given is not None:
            path = path / self.name if path.is_dir() else path
            if not path.is_file():
                raise UsageError(
                    f"there is no file {path}. Give the weights of {self.network}, {self.name}, or the folder that "
                    f"holds them; they are found at {self.url}"
                )
        elif not path.is_file():
            blocked = self.blocked(cache_dir)
            if blocked is not None:
                raise EvaluationError(blocked)
            if self.sha256 is None:
                raise EvaluationError(
                    f"no checksum is published for the weights of {self.network}, so they are not downloaded and have "
                    f"to be given.\n{self._ways_on(path)}"
                )
            self.download(path)
        found = sha256_file(path)
        if self.sha256 not in (None, found):
            raise EvaluationError(
                f"{path} is not {self.name} as published: its SHA-256 is {found}, and should be {self.sha256}. It is "
                f"cut short or another file. It was left as it is; replace it by the one at {self.url}"
            )
        return path, found

    def download(self, path: Path) -> None:
        """Download to `path`; only a whole and verified file appears there.

        Raises:
            EvaluationError: it cannot be had, or is not the one expected.
        """
        import http.client  # with urllib, a tenth of a second that only a download is worth
        import urllib.request

        digest = hashlib.sha256()
        try:
            response = urllib.request.urlopen(self.url, timeout=_TIMEOUT)
        except (OSError, http.client.HTTPException) as error:
            raise self._unavailable(path, error) from error
        with response, atomic_file(path) as stream:
            for block in self._blocks(response, path):
                digest.update(block)
                stream.write(block)
            if digest.hexdigest() != self.sha256:
                raise self._unavailable(path, f"its SHA-256 is {digest.hexdigest()}, not {self.sha256}")

    def _blocks(self, response: IO[bytes], path: Path) -> Iterator[bytes]:
        from http.client import HTTPException

        while True:
            try:
                block = response.read(1 << 20)
            except (OSError, HTTPException) as error:
                raise self._unavailable(path, error) from error
            if not block:
                return
            yield block

    def _unavailable(self, path: Path, reason: object) -> EvaluationError:
        return EvaluationError(f"the weights of {self.network} cannot be downloaded ({reason}).\n{self._ways_on(path)}")

    def _ways_on(self, path: Path) -> str:
        return (
            f"Put the file {self.name} from {self.url}\nat {path}\nor name it: `feature_weights=FILE`; or measure in "
            "other features: `features=local` (data with classes), local-ssl or pixels"
        )
