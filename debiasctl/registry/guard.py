"""Classes of plugins whose methods run inside the boundary, so that their callers need not know of it."""

import copyreg
import functools
import inspect
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from debiasctl.boundary import MARK, ContractError, Origin, origin_of, plugin_call


@lru_cache(maxsize=1024)
def guarded(plugin: Any, base: Any, origin: Origin) -> Any:
    """A subclass of `plugin` in which each method and property that `base` declares is a `plugin_call`.

    What they return is checked as `contracts` states. What the plugin leaves to `base` is not touched.

    Raises:
        ContractError: if the class has something else in a method's place, or a plain attribute that is not allowed.
    """
    members: dict[str, Any] = {}
    above: list[Any] = []  # the class that is made, for `super`
    for name in _declared(base):
        own, declared = inspect.getattr_static(plugin, name), inspect.getattr_static(base, name)
        if own is declared:
            continue
        if hasattr(type(own), "__get__") or callable(own):
            members[name] = _member(name, own, declared, base=base, origin=origin, above=above)
        elif isinstance(declared, property):
            _checked(base, name, lambda value=own: value, plugin)
        else:
            raise ContractError(f"is {_short(own)}, which cannot be called: define it as a method called {name}")
    _check_class(base, plugin)
    members["__reduce_ex__"] = _reduced(plugin, base, origin, above)
    about = {MARK: origin, "__slots__": (), "__doc__": plugin.__doc__, "__module__": plugin.__module__}
    above.append(type(plugin)(plugin.__name__, (plugin,), {**about, "__qualname__": plugin.__qualname__, **members}))
    return above[0]


def _reduced(plugin: Any, base: Any, origin: Origin, above: list[Any]) -> Any:
    """How copies and pickles of the class's objects are made: from `plugin`, which other processes find by its name."""

    def reduce(self: Any, protocol: Any) -> Any:
        made = super(above[0], self).__reduce_ex__(max(2, protocol))
        if isinstance(made, str) or made[0] is not copyreg.__newobj__:  # type: ignore[attr-defined]
            return made  # the plugin's own way
        return (_revived, (plugin, base, origin, *made[1][1:]), *made[2:])

    return reduce


def _revived(plugin: Any, base: Any, origin: Origin, *args: Any) -> Any:
    cls = guarded(plugin, base, origin)
    return cls.__new__(cls, *args)


def _declared(base: type) -> Iterator[str]:
    """The names of the methods and properties that a plugin's base declares."""
    for name in dir(base):
        if name == "__call__" or not name.startswith("_"):
            own = inspect.getattr_static(base, name)
            if isinstance(own, property | classmethod) or inspect.isfunction(own):
                yield name


def _member(name: str, own: Any, declared: Any, *, base: type, origin: Origin, above: list[Any]) -> Any:
    if isinstance(declared, property):

        def value(self: Any) -> Any:
            with plugin_call(origin, name):
                return _checked(base, name, lambda: getattr(super(above[0], self), name), self)

        return property(value, doc=declared.__doc__)

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        with plugin_call(origin, name):
            return _checked(base, name, getattr(super(above[0], self), name), self, *args, **kwargs)

    if inspect.isfunction(own):
        functools.update_wrapper(method, own)
        method.__dict__.pop("__isabstractmethod__", None)
    return classmethod(method) if isinstance(declared, classmethod) else method


def _checked(base: type, name: str, call: Any, plugin: Any, *args: Any, **kwargs: Any) -> Any:
    from debiasctl.api import PreparedAutoencoder, PreparedFeatures, Weighting
    from debiasctl.registry.contracts import CONTRACTS  # importing it is left until a plugin runs

    around = CONTRACTS.get((base.__name__, name))
    found = call(*args, **kwargs) if around is None else around(call, plugin, *args, **kwargs)
    origin = origin_of(plugin)
    for kind in (PreparedAutoencoder, PreparedFeatures, Weighting):
        if origin is not None and isinstance(found, kind):
            _adopt(found, kind, origin)
    return found


def _check_class(base: type, plugin: Any) -> None:
    from debiasctl.registry.contracts import CLASSES

    if base.__name__ in CLASSES:
        CLASSES[base.__name__](plugin)


def _adopt(made: Any, base: type, origin: Origin) -> None:
    """Let an object of `base` that a plugin made itself run inside the boundary, unless it does so already."""
    if origin_of(made) is None:
        own: Any = type(made)
        made.__class__ = guarded(own, base, origin)


def _short(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
