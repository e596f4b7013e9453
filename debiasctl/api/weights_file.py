"""Files of pretrained weights: finding, verifying and downloading them."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from debiasctl.errors import EvaluationError, MissingWeightsError, UsageError
from debiasctl.files import atomic_file, sha256_file
from debiasctl.reading.user_text import user_path

State = Literal["present", "missing", "wrong", "unverified", "blocked", "unreadable"]
_TIMEOUT = 30.0  # seconds without a response


@dataclass(frozen=True)
class WeightsFile:
    """A published file of weights. If no SHA-256 is published, `sha256` is None and the user has to give the file."""

    network: str  # its name in messages
    folder: str  # below cache_dir/features
    name: str
    url: str
    sha256: str | None
    otherwise: str | None = None  # what to use where the file is not available, for messages

    def cached(self, cache_dir: Path) -> Path:
        """The path of the cached file, which need not exist."""
        return cache_dir / "features" / self.folder / self.name

    def state(self, cache_dir: Path) -> tuple[State, str | None]:
        """The state of the cached file, and its SHA-256 if it exists."""
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
        """A message if something other than a file lies at the cached file's path, else None."""
        path = self.cached(cache_dir)
        if path.is_file() or not os.path.lexists(path):
            return None
        found = "a folder" if path.is_dir() else "no file" if path.exists() else "a link to nothing"
        return f"{path}: {found} lies there, where {self.name} should be. Move it away"

    def obtain(self, cache_dir: Path, given: Path | None) -> tuple[Path, str]:
        """Return the file and its SHA-256: the `given` one (or the one in that folder), else the cached one.

        A file missing from the cache is downloaded if its SHA-256 is published.

        Raises:
            UsageError: if `given` does not exist.
            EvaluationError: if the file is missing and cannot be downloaded, or differs from the published one.
        """
        path = self.cached(cache_dir) if given is None else user_path(given, argument="`feature_weights`").absolute()
        if given is not None:
            path = path / self.name if path.is_dir() else path
            if not path.is_file():
                raise UsageError(
                    f"there is no file {path}. Give the weights of {self.network}, {self.name}, or the folder that "
                    f"holds them; they are available at {self.url}"
                )
        elif not path.is_file():
            blocked = self.blocked(cache_dir)
            if blocked is not None:
                raise EvaluationError(blocked)
            if self.sha256 is None:
                raise MissingWeightsError(
                    f"no checksum is published for the weights of {self.network}, so they are not downloaded and have "
                    f"to be given.\n{self._ways_on(path)}"
                )
            self.download(path)
        found = sha256_file(path)
        if self.sha256 not in (None, found):
            raise EvaluationError(self.mismatch(path, found))
        return path, found

    def mismatch(self, path: Path, found: str) -> str:
        """The message about a file at `path` whose SHA-256 is not the published one."""
        return (
            f"{path} is not {self.name} as published: its SHA-256 is {found}, and should be {self.sha256}. It is "
            f"truncated or another file. It was not changed; replace it with the one at {self.url}"
        )

    def download(self, path: Path) -> None:
        """Download to `path`, where only a complete and verified file appears.

        Raises:
            EvaluationError: if the download fails or its checksum differs.
        """
        import http.client  # imported here with urllib, as it takes a tenth of a second
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
        return MissingWeightsError(
            f"the weights of {self.network} cannot be downloaded ({reason}).\n{self._ways_on(path)}"
        )

    def _ways_on(self, path: Path) -> str:
        other = "" if self.otherwise is None else f"; or use other features: {self.otherwise}"
        return f"Put the file {self.name} from {self.url}\nat {path}\nor name it: `feature_weights=FILE`{other}"
