"""Folders that the cases work in."""

import shutil
from pathlib import Path


class Sandbox:
    """A user folder and a working folder that are made again when a case has changed them."""

    def __init__(self, home: Path, work: Path, pristine: Path) -> None:
        self.home, self.work, self._pristine = home, work, pristine

    @property
    def places(self) -> tuple[Path, ...]:
        """Where a case may write."""
        return (self.home, self.work)

    def renew(self) -> None:
        """Put the runs back as they were, and empty the working folder."""
        for folder in (self.home, self.work):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self._pristine, self.home)
        self.work.mkdir()
