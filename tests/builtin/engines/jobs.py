"""Jobs that end in every way; workers import this as `jobs`."""

import gc
import os
import signal
import sys
import time
import weakref
from pathlib import Path


def note(arguments, report):
    """Append the worker's process number to a file."""
    report({"at": 1})
    with open(arguments["file"], "a") as stream:
        stream.write(f"{os.getpid()}\n")


def fail(arguments, report):
    raise ValueError("no \x1b such thing")


def misuse(arguments, report):
    from debiasctl.errors import UsageError

    raise UsageError("that cannot be")


def die(arguments, report):
    print("these are my last words", file=sys.stderr, flush=True)
    if arguments["code"] < 0:
        os.kill(os.getpid(), -arguments["code"])
    os._exit(arguments["code"])


def wait(arguments, report):
    """Wait for a signal, and say in a file that it came; with `deaf`, as a package that makes an error of it."""
    Path(arguments["file"]).write_text(str(os.getpid()))
    try:
        time.sleep(60)
    except KeyboardInterrupt as stop:
        Path(arguments["file"]).write_text("stopped")
        if arguments.get("deaf"):
            raise RuntimeError("as some packages say it") from stop
        raise


def swallow(arguments, report):
    """Print to stdout and read stdin, which a worker uses otherwise."""
    print('{"job": "x"}')
    os.write(1, b"garbage\n")
    assert sys.stdin.read() == ""
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


class _Cycle:
    """An object that refers to itself."""

    left: weakref.ref | None = None

    def __init__(self):
        self.own = self


def leave_cycle(arguments, report):
    gc.disable()  # so that none but the worker finds it
    _Cycle.left = weakref.ref(_Cycle())


def look_back(arguments, report):
    """Report whether the cycle lives, and how many objects a search for cycles looks at."""
    report({"cycle_lives": _Cycle.left() is not None, "searched": len(gc.get_objects())})
