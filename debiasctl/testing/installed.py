"""Checks of installed plugins, each in a process of its own: one that hangs, or ends its process, harms no other."""

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

from debiasctl import registry
from debiasctl.boundary import summary
from debiasctl.errors import DebiasctlError, PluginConflictError, PluginOptionsError
from debiasctl.registry import PluginRecord
from debiasctl.registry.entry_points import load_object
from debiasctl.registry.refs import PluginRef
from debiasctl.registry.versions import advice, applying, compatible, misfit
from debiasctl.testing.results import Result
from debiasctl.wording import one_line

FITS = "Its distribution works with this version of debiasctl"
ONE_NAME = "No other distribution claims its name"
SILENT = "It prints nothing when it is imported"
LIVES = "Its code ends in time, and leaves its process running"
_SAME_MODULES = {"PYTHONSAFEPATH": "1"}  # the server finds what this process does, and not what lies in its folder
_SHOWN = 300  # characters that are shown of what a plugin prints


@dataclass(frozen=True)
class Checked:
    """An installed plugin, and what came of checking it."""

    record: PluginRecord
    results: tuple[Result, ...]

    def count(self, state: str) -> int:
        """The number of laws with this result."""
        return sum(result.state == state for result in self.results)


def check_installed(record: PluginRecord, options: Mapping[str, Any], *, seconds: float, **more: Any) -> Checked:
    """Check one installed plugin; an import or a law that takes longer than `seconds` is taken to hang.

    `more` is what the laws of its kind are told.

    Raises:
        PluginOptionsError: if the plugin refuses `options`.
    """
    before = [*_of_the_distribution(record), *_of_the_name(record)]
    if any(result.state == "failed" for result in before):
        return Checked(record, tuple(before))
    return Checked(record, (*before, *_elsewhere(record, options, more, seconds)))


def _of_the_distribution(record: PluginRecord) -> Iterator[Result]:
    if record.distribution == "debiasctl":
        return
    needed = misfit(record.requires)
    if needed is not None:
        yield Result(FITS, "failed", advice(record.distribution, record.version, needed))
    elif not applying(record.requires):
        wanted = f'dependencies = ["{compatible()}"]'
        text = f"{record.distribution} states no requirement on debiasctl. In its pyproject.toml: {wanted}"
        yield Result(FITS, "not checked", text)
    else:
        yield Result(FITS, "passed")


def _of_the_name(record: PluginRecord) -> Iterator[Result]:
    try:
        registry.find(record.kind, record.name)
    except PluginConflictError as error:
        yield Result(ONE_NAME, "failed", str(error))
        return
    yield Result(ONE_NAME, "passed")


def _elsewhere(
    record: PluginRecord, options: Mapping[str, Any], more: Mapping[str, Any], seconds: float
) -> Sequence[Result]:
    """The results of the laws, checked in another process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["debiasctl.testing.kinds", "debiasctl.testing.tiny"])
    with _no_program(), patch.dict(os.environ, _SAME_MODULES | {"PYTHONPATH": _absolute(sys.path)}):
        forkserver.ensure_running()
    ours, theirs = context.Pipe()
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        printed = Path(folder) / "printed"
        arguments = (record, dict(options), dict(more), theirs, printed, dict(os.environ))
        process = context.Process(target=_work, args=arguments, daemon=False)
        with _no_program():
            process.start()
        theirs.close()
        try:
            ended = _listen(ours, process.sentinel, results, seconds)
        finally:
            _kill(process)
            ours.close()
        if ended is not None:
            after = f', after the law "{results[-1].law}"' if results else ", while it was imported"
            said = _said(printed)
            how = f"within {seconds:g} seconds it did not end" if ended == "hangs" else _death(process.exitcode)
            slow = ". If it is only slow, give it longer (`timeout=1000`)" if ended == "hangs" else ""
            results.append(Result(LIVES, "failed", f"{how}{after}{f'. It printed: {said}' if said else ''}{slow}"))
    return results


def _no_program() -> Any:
    """Let no process run the program again that this one was started with, which may have no guard against that."""
    return patch.dict(sys.modules, {"__main__": ModuleType("__main__")})


def _absolute(folders: Sequence[str]) -> str:
    return os.pathsep.join(map(os.path.abspath, folders))


def _listen(ours: Connection, end: int, results: list[Result], seconds: float) -> str | None:
    """Collect results until the last; None if there is one, else how it came that there is none.

    `end` becomes ready with the process's end, which what it has started may outlive with its end of the pipe.
    """
    while ready := wait([ours, end], seconds):
        if ours not in ready:
            return "died"
        try:
            result = ours.recv()
        except (EOFError, OSError):
            return "died"
        if result is None:
            return None
        if isinstance(result, PluginOptionsError):
            raise result
        results.append(result)
    return "hangs"


def _death(code: int | None) -> str:
    if code is None:
        return "its process ended"
    if code < 0:
        known = {number.value: number.name for number in signal.Signals}
        return f"its process was ended by {known.get(-code, f'signal {-code}')}"
    return f"it ended its process, with exit code {code}"


def _kill(process: Any) -> None:
    """End a process with all that it has started, and wait for it."""
    process.join(0.2)
    if process.pid is not None:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill() if process.is_alive() else None
    process.join()


def _work(
    record: PluginRecord,
    options: Mapping[str, Any],
    more: Mapping[str, Any],
    results: Connection,
    printed: Path,
    environment: Mapping[str, str],
) -> None:
    """Check a plugin in this process, and send each result; the last is followed by None."""
    from debiasctl.testing.kinds import examined  # it imports torch, which the process that asks does without

    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    _print_into(printed)
    with contextlib.suppress(DebiasctlError):  # which the first law reports
        load_object(record)
    said = _said(printed)
    state, detail = ("failed", f"it printed: {said}") if said else ("passed", "")
    results.send(Result(SILENT, state, detail))  # type: ignore[arg-type]
    try:
        if (refused := _refused(record, options)) is not None:
            results.send(refused)
        for result in examined(record, options, **more):
            results.send(result)
    except BaseException as error:  # noqa: BLE001 - it is a plugin's code, and this process ends
        results.send(Result(LIVES, "failed", summary(error)))
    results.send(None)
    results.close()
    os._exit(0)  # whatever the plugin has left running


def _refused(record: PluginRecord, options: Mapping[str, Any]) -> PluginOptionsError | None:
    """Why a plugin refuses options of the user's, if it does so; every other fault is left to the laws."""
    try:
        if options:
            registry.resolve(record.kind, PluginRef(record.name, options))
    except PluginOptionsError as error:
        return error
    except DebiasctlError:
        pass
    return None


def _print_into(path: Path) -> None:
    """Let what this process prints, by Python or not, go to a file."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number in (1, 2):
        os.dup2(file, number)
    sys.stdout = open(1, "w", encoding="utf-8", errors="replace", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="replace", buffering=1, closefd=False)  # noqa: SIM115


def _said(path: Path) -> str:
    """What has been printed so far, in one line."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    if not path.exists():
        return ""
    with open(path, "rb") as stream:
        return one_line(stream.read(4 * _SHOWN).decode(errors="replace").strip())[:_SHOWN]
