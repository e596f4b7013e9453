"""The built-in commands by name: what the help says of each, and its module, which is imported when it is used."""

import importlib
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

import typer

# name -> (the first sentence of its help, its module in debiasctl.cli); a module has `app`, or a function of its name
COMMANDS = {
    "train": "Train a diffusion model under a chosen loss weighting.",
    "sample": "Draw images from a run; or a strip, from several runs or with several numbers of steps.",
    "ema": "Reconstruct averages of the weights, of any length, from the snapshots that training kept.",
    "evaluate": "Measure a run's samples, or anyone's images, against real ones.",
    "likelihood": "Measure a run's likelihood of held-out images, in bits/dim: the variational bound and the ODE's.",
    "compare": "Compare arms: runs that differ in the seed alone, and images or figures made elsewhere.",
    "analyze": "Measure where the bias of trained models comes from, what it does to samples, and what would mend it.",
    "doctor": (
        "Report versions, devices, folders, plugins, the weights of feature extractors, and published statistics."
    ),
    "sweep": "Train one model in several arms and with several seeds, sample, measure and compare them.",
    "runs": "List, watch, show, label, prune, remove, export and import runs; add models from elsewhere.",
    "plugins": "List, describe, check and write plugins.",
    "datasets": "List, show and check data sets.",
    "weightings": "Tabulate and plot loss weightings.",
    "spec": "Describe the settings of a run spec.",
}


class Commands(MutableMapping[str, Any]):
    """The commands of a group; the module of a built-in one is imported when it is asked for."""

    def __init__(self) -> None:
        """Hold the built-in commands, none of which is imported yet."""
        self._commands: dict[str, Any] = dict.fromkeys(COMMANDS)

    def __getitem__(self, name: str) -> Any:
        found = self._commands[name]
        if found is None:
            found = self._commands[name] = _command(name)
        return found

    def __setitem__(self, name: str, command: Any) -> None:
        self._commands[name] = command

    def __delitem__(self, name: str) -> None:
        del self._commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._commands)

    def __len__(self) -> int:
        return len(self._commands)


def import_all() -> None:
    """Import the modules of all commands, so that the options of each are known."""
    for name in COMMANDS:
        importlib.import_module(f"debiasctl.cli.{name}")


def stand_in(name: str, text: str) -> Any:
    """A command that has this help, for a list of commands, where importing the real one would slow the list down."""

    def command() -> None: ...

    return _only(lambda host: host.command(name, help=text)(command))


def _command(name: str) -> Any:
    module = importlib.import_module(f"debiasctl.cli.{name}")
    if hasattr(module, "app"):
        return _only(lambda host: host.add_typer(module.app, name=name))
    return _only(lambda host: host.command(name, epilog=module.EXAMPLES)(getattr(module, name)))


def _only(add: Callable[[typer.Typer], object]) -> Any:
    """The command that `add` adds to a group, with nothing else in it."""
    host = typer.Typer(add_completion=False, rich_markup_mode="rich")
    add(host)
    (command,) = typer.main.get_group(host).commands.values()
    return command
