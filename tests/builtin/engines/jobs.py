"""Jobs that end in every way; workers import this as `jobs`."""

import os
import signal
import sys
import time
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
