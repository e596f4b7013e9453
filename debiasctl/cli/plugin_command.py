"""A plugin's command: loaded when it is used, and run so that its failures name it."""

from typing import Any

import typer

from debiasctl.boundary import ContractError, Origin, plugin_call
from debiasctl.registry.entry_points import load_object
from debiasctl.registry.metadata import PluginRecord

# newer versions of Typer have a click of their own, which only its classes lead to
_MISUSE: type[BaseException] = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")
_ENDS: tuple[type[BaseException], ...] = (
    _MISUSE,
    typer.Exit,
    typer.Abort,
    SystemExit,
    BrokenPipeError,
)  # how a command may end


def plugin_command(record: PluginRecord) -> Any:
    """Import a plugin's command.

    Raises:
        PluginLoadError: if it cannot be imported.
        PluginError: if it is no Typer app.
    """
    loaded = load_object(record)
    with plugin_call(record.origin, "app"):
        found = typer.main.get_command(loaded) if isinstance(loaded, typer.Typer) else loaded
        if isinstance(found, type) or not (hasattr(found, "invoke") and hasattr(found, "make_context")):
            raise ContractError(f"is a {type(found).__name__}, and should be a Typer app (typer.Typer())")
        _invoke_inside(found, record.origin)
    return found


def _invoke_inside(command: Any, origin: Origin) -> None:
    invoke = command.invoke

    def inside(context: Any) -> Any:
        try:
            return invoke(context)
        except _ENDS:
            raise
        except BaseException:
            with plugin_call(origin, "command"):
                raise

    command.invoke = inside
