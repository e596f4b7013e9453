"""`debiasctl` and `python -m debiasctl`: signals and streams are seen to before anything else is imported."""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # the module `signal` itself takes its time
import gc
import os

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn


def main() -> NoReturn:
    """Run the command line; see `debiasctl.cli.app.main`."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            signal.signal(number, _leave)
    os.environ.pop("MPLBACKEND", None)  # a notebook's, perhaps unknown here: plots are files, and no window is opened
    from debiasctl.cli import interruption
    from debiasctl.cli.streams import open_streams

    open_streams()
    interruption.begin()
    try:
        from debiasctl.cli.app import main as run

        run()
    finally:
        gc.freeze()  # the process ends: what is left need not be searched for circles of references
        interruption.end()


def _leave(number: int, frame: FrameType | None) -> None:
    """End the process with one line; `interruption` does it from its beginning on."""
    if os.environ.get("RANK", "0") == "0":
        try:  # noqa: SIM105 - contextlib takes its time too
            os.write(2, b"interrupted\n" if number == signal.SIGINT else b"stopped by SIGTERM\n")
        except OSError:
            pass  # stderr is closed, or its disk full
    os._exit(128 + number)


if __name__ == "__main__":
    main()
