"""The boundary around plugins: whatever their code raises becomes one error that names the plugin."""

import dis
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from debiasctl.errors import DebiasctlError, Interrupted, PluginError
from debiasctl.wording import one_line, printable

MARK = "_debiasctl_origin"


@dataclass(frozen=True)
class Origin:
    """A plugin as messages name it: what its kind is called, its name, and its distribution."""

    kind: str
    name: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.kind} '{self.name}' of {self.distribution} {self.version}"


class ContractError(Exception):
    """What a plugin returned is not what its kind asks for; the text continues "its METHOD …"."""


class _Running(threading.local):
    """The plugins whose code this thread is running, the innermost last."""

    def __init__(self) -> None:
        self.origins: list[Origin] = []


_RUNNING = _Running()


class plugin_call:
    """A block that runs a plugin's code; `what` names the method. Without an origin it changes nothing.

    An error that debiasctl itself defines passes, because plugins raise those on purpose; so does a signal. Where a
    plugin calls itself, the outermost block alone acts, so that it can catch what its own methods raise.

    Raises:
        PluginError: if the block raises anything else, SystemExit and KeyboardInterrupt of the plugin's own included.
    """

    __slots__ = ("_nested", "_origin", "_what")

    def __init__(self, origin: Origin | None, what: str) -> None:
        self._origin, self._what, self._nested = origin, what, False

    def __enter__(self) -> Self:
        if self._origin is not None:
            self._nested = self._origin in _RUNNING.origins
            _RUNNING.origins.append(self._origin)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._origin is None:
            return
        _RUNNING.origins.pop()
        if error is None or self._nested or passes(error):
            return
        if isinstance(error, ContractError):
            raise PluginError(f"{self._origin}: its {self._what} {error}") from error
        raise PluginError(f"{self._origin} failed in its {self._what} ({summary(error)})") from error


def is_running() -> bool:
    """Whether this thread is running a plugin's code."""
    return bool(_RUNNING.origins)


def passes(error: BaseException) -> bool:
    """Whether what came out of a plugin is meant for the user as it is, or is a signal, which is no plugin's fault."""
    if isinstance(error, DebiasctlError) and not isinstance(error, Interrupted):
        return error.exit_code in (1, 2) and bool(_text(error))
    if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
        return not _is_own(error)
    return False


def summary(error: BaseException) -> str:
    """An exception's type and text in one printable line, also where its `str()` raises."""
    text = one_line(_text(error))
    name = printable(type(error).__name__)
    return f"{name}: {text}" if text else name


def mark(thing: Any, origin: Origin) -> None:
    """Remember that an object comes from a plugin; copies of the object are marked too."""
    object.__setattr__(thing, MARK, origin)


def origin_of(thing: Any) -> Origin | None:
    """The plugin that an object comes from, if it crossed the boundary; distributed training's wrapper may be on it."""
    found = getattr(thing, MARK, None)
    if found is None:
        found = getattr(getattr(thing, "module", None), MARK, None)
    return found if isinstance(found, Origin) else None


def name_of(thing: Any, kind: str) -> str:
    """How messages name a plugin: by its origin; if it never crossed the boundary, by its class."""
    origin = origin_of(thing)
    return f"{kind} {type(thing).__name__}" if origin is None else str(origin)


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:  # noqa: BLE001 - it is a plugin's code too
        return ""


def _is_own(error: KeyboardInterrupt | SystemExit | GeneratorExit) -> bool:
    """Whether a plugin's code raised it, rather than the user, debiasctl's own handler of a signal, or `close()`.

    Ctrl-C and the end of a generator surface between two instructions; only code raises them by a `raise`.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return True
    frame = trace.tb_frame
    module = str(frame.f_globals.get("__name__", ""))
    if module.startswith("debiasctl.") and not module.startswith("debiasctl.builtin."):
        return False
    if isinstance(error, SystemExit):
        return True
    return dis.opname[frame.f_code.co_code[trace.tb_lasti]] == "RAISE_VARARGS"
