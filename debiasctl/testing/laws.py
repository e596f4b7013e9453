"""Laws that plugins keep: how they are stated, checked one by one, and reported."""

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from debiasctl import registry
from debiasctl.api import Plugin, PluginOptions
from debiasctl.boundary import summary
from debiasctl.errors import (
    DataError,
    DebiasctlError,
    EvaluationError,
    ModelError,
    PluginOptionsError,
    UsageError,
)
from debiasctl.registry import PluginRecord, ResolvedPlugin
from debiasctl.registry.refs import PluginRef
from debiasctl.testing.offline import Offline, offline
from debiasctl.testing.results import Result

_LACKING = (DataError, EvaluationError, ModelError, UsageError)  # what plugins raise that lack files or a package


class Broken(Exception):
    """A law is broken; the text says by which inputs, and what was found."""


class Unchecked(Exception):
    """A law cannot be checked here; the text says why."""


class Inapplicable(Exception):
    """A law does not concern this plugin; the text says why."""


@dataclass(frozen=True)
class Law:
    """`text` says what holds of every plugin of a kind; `check` raises where it does not."""

    text: str
    check: Callable[["Subject"], None]


class Laws(list[Law]):
    """The laws of a kind, in the order in which they are checked.

    A kind whose plugins `may_lack` files or a package is not checked where they say so.
    """

    def __init__(self, *, may_lack: bool = False) -> None:
        super().__init__()
        self.may_lack = may_lack

    def law(self, text: str) -> Callable[[Callable[["Subject"], None]], Callable[["Subject"], None]]:
        """Let a function be the check of a law."""

        def add(check: Callable[["Subject"], None]) -> Callable[["Subject"], None]:
            self.append(Law(text, check))
            return check

        return add


@dataclass
class Subject:
    """A plugin that is checked: its guarded class, its options, and what else a kind's laws are told."""

    record: PluginRecord
    plugin: type[Plugin]
    options: PluginOptions
    more: Mapping[str, Any] = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict)  # what one law makes and others use

    def make(self, options: PluginOptions | None = None) -> Any:
        """A new plugin."""
        return ResolvedPlugin(self.record, self.plugin, options or self.options).create()

    def reference(self) -> str:
        """The reference that names it with its options."""
        options = ResolvedPlugin(self.record, self.plugin, self.options).stored_options()
        return str(PluginRef(self.record.name, options))

    def raw(self, made: Any, name: str) -> Any:
        """A member of a plugin as its author wrote it, without the boundary's checks and conversions."""
        return getattr(super(self.plugin, made), name)

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` gives, made once for all laws."""
        if name not in self.kept:
            self.kept[name] = make()
        return self.kept[name]


def check_law(law: Law, subject: Subject, *, may_lack: bool) -> Result | None:
    """Check one law of a plugin; see `attempt`."""
    return attempt(law.text, lambda: law.check(subject), may_lack=may_lack)


def attempt(law: str, check: Callable[[], None], *, may_lack: bool = False) -> Result | None:
    """Run a law's check; whatever the plugin raises is a result, and None is that the law does not concern it."""
    try:
        with offline(), _own_random_numbers():
            check()
    except Inapplicable:
        return None
    except Unchecked as reason:
        return Result(law, "not checked", str(reason))
    except Broken as found:
        return Result(law, "failed", str(found))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - it is a plugin's code
        if may_lack and (isinstance(error, _LACKING) or _is_offline(error)):
            first = str(error).partition("\n")[0] or summary(error)
            return Result(law, "not checked", f"the plugin says: {first}")
        return Result(law, "failed", str(error) if isinstance(error, DebiasctlError) else summary(error))
    return Result(law, "passed")


def resolved(record: PluginRecord, options: Mapping[str, Any]) -> ResolvedPlugin:
    """The plugin with its options.

    Raises:
        Unchecked: if options are missing that have no default, and none are given.
        Broken: if it cannot be loaded, or refuses its options.
    """
    try:
        return registry.resolve(record.kind, PluginRef(record.name, dict(options)))
    except PluginOptionsError as error:
        model = registry.load(record.kind, record.name).Options
        missing = [name for name, one in model.model_fields.items() if one.is_required() and name not in options]
        if missing and not set(options) - set(model.model_fields):
            raise Unchecked(f"it needs options that have no default: {', '.join(missing)}. Give them") from error
        raise Broken(str(error).partition("\n")[0]) from error
    except DebiasctlError as error:
        raise Broken(str(error)) from error


def same(first: Any, second: Any) -> bool:
    """Whether two values are equal, tensors bit by bit."""
    if isinstance(first, Tensor) or isinstance(second, Tensor):
        both = isinstance(first, Tensor) and isinstance(second, Tensor)
        return both and first.dtype == second.dtype and first.shape == second.shape and bool(_equal(first, second))
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(same(one, second[name]) for name, one in first.items())
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


def expect_same(first: Tensor, second: Tensor, what: str) -> None:
    """Check that two tensors are equal bit by bit.

    Raises:
        Broken: if they are not; `what` says of what, and when.
    """
    if first.shape != second.shape or first.dtype != second.dtype:
        raise Broken(f"{what}: {described(first)} and {described(second)}")
    if not same(first, second):
        raise Broken(f"{what}: they differ by up to {_distance(first, second):.3g}")


def expect_close(first: Tensor, second: Tensor, what: str, *, tolerance: float) -> None:
    """Check that two tensors are equal up to a share of their size.

    Raises:
        Broken: if they are not.
    """
    if first.shape != second.shape:
        raise Broken(f"{what}: {described(first)} and {described(second)}")
    apart = _distance(first, second)
    allowed = tolerance * max(1.0, float(second.double().abs().max()) if second.numel() else 1.0)
    if not apart <= allowed:
        raise Broken(f"{what}: they differ by up to {apart:.3g}, where {allowed:.3g} is allowed")


def as_stored(state: Any) -> Any:
    """A state as it comes out of a checkpoint: of tensors and plain values alone."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def described(value: Any) -> str:
    """A tensor's dtype and shape, or another value's type."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return type(value).__name__


def _equal(first: Tensor, second: Tensor) -> bool:
    if first.is_floating_point():
        return bool(((first == second) | (first.isnan() & second.isnan())).all())
    return torch.equal(first, second)


def _distance(first: Tensor, second: Tensor) -> float:
    if not first.numel():
        return 0.0
    found = (first.double() - second.double()).abs()
    return float("nan") if bool(found.isnan().any()) else float(found.max())


def _is_offline(error: BaseException | None) -> bool:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, Offline):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def _own_random_numbers() -> Iterator[None]:
    """Begin with the same global random numbers whatever was checked before, and leave those of others alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
