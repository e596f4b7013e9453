"""The one property that every case is held to, and what watches over it: time, memory, writes and code that runs."""

import os
import re
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from tiny import Outcome, debiasctl

from debiasctl.errors import DebiasctlError

CPU_SECONDS, WALL_SECONDS = 30, 300  # the machine may be crowded: the promise is about the program's own time
MEMORY = 2 * 2**30  # bytes above what the process held before the case
LONGEST_MESSAGE = 4_000  # characters: a message never repeats a hostile value whole
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {"os.mkdir": 1, "os.rename": 2, "os.remove": 1, "os.rmdir": 1, "os.symlink": 2, "os.link": 2,
            "os.truncate": 1, "os.chmod": 1, "os.chown": 1, "shutil.rmtree": 1, "shutil.move": 2}  # fmt: skip
_CODE = ("pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen")


class Broken(AssertionError):
    """The property does not hold."""


class _TooLong(BaseException):
    """A limit of time was passed; no `except Exception` of the program hides it."""


@dataclass
class _Watch:
    """What the audit hook looks at while a case runs; a hook cannot be removed, so it is switched."""

    allowed: tuple[str, ...] = ()
    on: bool = False
    seen: list[str] = field(default_factory=list)


_watch = _Watch()


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watch.on:
        return
    if event == "open":
        path, mode, flags = arguments
        writes = bool(flags & _WRITING) if isinstance(flags, int) else bool(set(mode or "") & set("wax+"))
        paths = [path] if writes else []
    elif event in _CHANGES:
        paths = list(arguments[: _CHANGES[event]])
        if event in ("os.symlink", "os.link"):
            paths = paths[1:]
    elif event in _CODE:
        _watch.seen.append(f"{event} {arguments!r}"[:300])
        return
    else:
        return
    for path in paths:
        if isinstance(path, str | bytes | os.PathLike):
            place = os.path.realpath(os.fsdecode(path))
            if not any(place == root or place.startswith(root + os.sep) for root in _watch.allowed):
                _watch.seen.append(f"{event} {place}"[:300])


sys.addaudithook(_audit)


def _peak() -> int:
    """The greatest resident size of this process since `_forget_peak`, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _forget_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux, or not allowed: the peak is then of the whole process
        return


def _too_long(number: int, frame: FrameType | None) -> None:
    limit = f"{CPU_SECONDS} s of computing" if number == signal.SIGPROF else f"{WALL_SECONDS} s"
    raise _TooLong(f"it took more than {limit}")


@contextmanager
def watched(*allowed: Path) -> Iterator[None]:
    """Hold a block to the limits of time and memory, to writing below `allowed` alone, and to running no code of data.

    Raises:
        Broken: if it does not keep to them.
    """
    _forget_peak()
    before = _peak()
    _watch.allowed = (*(os.path.realpath(root) for root in allowed), "/dev/null", "/proc/self")
    _watch.seen = []
    kept = {number: signal.signal(number, _too_long) for number in (signal.SIGPROF, signal.SIGALRM)}
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    signal.setitimer(signal.ITIMER_REAL, WALL_SECONDS)
    _watch.on = True
    try:
        yield
    except _TooLong as error:
        raise Broken(str(error)) from error
    finally:
        _watch.on = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in kept.items():
            signal.signal(number, handler)
    if _watch.seen:
        raise Broken(f"it wrote outside its places, or ran code: {_watch.seen[:5]}")
    if _peak() - before > MEMORY:
        raise Broken(f"it took {(_peak() - before) / 2**30:.1f} GiB")


def check(outcome: Outcome) -> Outcome:
    """Check how a command ended: done, or one message.

    Raises:
        Broken: if it ended otherwise.
    """
    said = outcome.err
    if outcome.code not in (0, 1, 2):
        raise Broken(f"exit code {outcome.code}: {said[-2000:]}")
    for sign in ("Traceback (most recent call last)", "looks like a bug", "Exception ignored"):
        if sign in said or sign in outcome.out:
            raise Broken(f"{sign!r} in what it said: {said[-3000:]}")
    if (found := _CONTROL.search(said.replace("\r", ""))) is not None:  # a pipe is given names as they are
        raise Broken(f"the control character {found[0]!r} reached the terminal: {said[:1000]!r}")
    if outcome.code == 0:
        return outcome
    messages = said.count("╭─ Error") if "╭─ Error" in said else len(re.findall(r"(?m)^error: ", said))
    if messages != 1:
        raise Broken(f"{messages} messages with exit code {outcome.code}: {said[-3000:]!r}")
    message = said.partition("╭─ Error")[2] or re.split(r"(?m)^error: ", said)[1]
    if not message.strip():
        raise Broken("the message is empty")
    if len(message) > LONGEST_MESSAGE:
        raise Broken(f"the message has {len(message)} characters: {message[:1000]!r}")
    return outcome


def command(*arguments: str | Path, allowed: tuple[Path, ...]) -> Outcome:
    """What a command line does in this process, held to the property.

    Raises:
        Broken: if it breaks it.
    """
    with watched(*allowed):
        outcome = debiasctl(*arguments)
    return check(outcome)


def call(function: Callable[[], Any], *, allowed: tuple[Path, ...] = ()) -> tuple[Any, str]:
    """What a function returns, or the message of its DebiasctlError, held to the property.

    Raises:
        Broken: if it raises anything else, or breaks the property otherwise.
    """
    with watched(*allowed):
        try:
            return function(), ""
        except DebiasctlError as error:
            message = str(error)
        except Exception as error:
            raise Broken(f"{type(error).__name__}: {error}"[:3000]) from error
    if not message.strip() or len(message) > LONGEST_MESSAGE:
        raise Broken(f"the message has {len(message)} characters: {message[:1000]!r}")
    return None, message


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of every file below a folder, by its path."""
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            stat = os.lstat(os.path.join(place, name))
            found[os.path.join(place, name)] = (stat.st_size, stat.st_mtime_ns)
    return found
