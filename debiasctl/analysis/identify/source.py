"""Finds a user's function by FILE:FUNCTION; the file is read first, and run only when the function is in it."""

import ast
import contextlib
import importlib.util
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from debiasctl.analysis.identify.faults import user_fault
from debiasctl.errors import DebiasctlError, UsageError
from debiasctl.reading.regular import read_bytes
from debiasctl.reading.user_text import user_path
from debiasctl.wording import did_you_mean, one_line, quoted

_MODULE = "debiasctl_identified"  # what a user's file is called among Python's modules


def is_csv(text: str) -> bool:
    """Whether this names a table, and not a function."""
    return text.lower().endswith(".csv")


def split(text: str) -> tuple[Path, str]:
    """The file and the function that FILE:FUNCTION names; the file is looked into, and not run.

    Raises:
        UsageError: if there is no such file, it is not Python, or it defines no such function.
    """
    name, colon, function = text.rpartition(":")
    if not colon:
        name, function = text, ""
    path = user_path(name, argument=quoted(text)).absolute()
    try:
        data = read_bytes(path)
        if b"\0" in data:
            raise ValueError("it holds NUL characters")
        tree = ast.parse(data, filename=str(path))  # as Python reads it, in the encoding that it declares
    except FileNotFoundError as error:
        raise UsageError(
            f"there is no file {path}. Give FILE:FUNCTION, for example trainer.py:snr_weight, or a table, weights.csv"
        ) from error
    except IsADirectoryError as error:
        raise UsageError(f"{path} is a folder. Give FILE:FUNCTION, for example trainer.py:snr_weight") from error
    except SyntaxError as error:
        raise UsageError(f"{path}, line {error.lineno}: this is not Python ({one_line(error.msg)})") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise UsageError(f"{path} is not a Python file ({one_line(error)})") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror or error})") from error
    known, is_open = _names(tree)
    functions = [one for one, is_function in known.items() if is_function]
    listed = f"It defines: {', '.join(functions[:12])}" if functions else "It defines no function"
    if not function:
        example = f"{name}:{functions[0]}" if functions else f"{name}:FUNCTION"
        raise UsageError(f"which function of {path}? Write FILE:FUNCTION, for example {example}. {listed}")
    if not all(part.isidentifier() for part in function.split(".")):
        raise UsageError(f"{quoted(function)} is not the name of a function. {listed}")
    if function.partition(".")[0] not in known and not is_open:
        raise UsageError(f"{path} has no {quoted(function)}.{did_you_mean(function, functions)} {listed}")
    return path, function


def load(path: Path, function: str) -> Callable[..., Any]:
    """Run the file and return the function in it.

    Raises:
        UsageError: if it turns out not to be a function.
        DebiasctlError: if the file fails.
    """
    module = _run(path)
    found: Any = module
    for part in function.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            raise UsageError(f"{path} has no {quoted(function)}: {one_line(error)}") from error
        except Exception as error:  # a property of the user's
            raise DebiasctlError(f"{quoted(function)} of {path} cannot be read: {user_fault(error, path)}") from error
    if isinstance(found, type):
        raise UsageError(f"{quoted(function)} of {path} is a class. Name a function, or an object that can be called")
    if not callable(found):
        raise UsageError(
            f"{quoted(function)} of {path} is {type(found).__name__} and cannot be called. Name a function"
        )
    return found  # type: ignore[no-any-return]


def _run(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(_MODULE, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is not a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module
    with importable(path.parent):
        try:
            spec.loader.exec_module(module)
        except (DebiasctlError, KeyboardInterrupt):
            raise
        except BaseException as error:  # some libraries' exceptions are no Exception, as SystemExit is none
            what = "ends the program" if isinstance(error, SystemExit) else "fails"
            advice = (
                ". What is to run only when the file is started belongs below if __name__ == '__main__':"
                if isinstance(error, SystemExit)
                else ""
            )
            raise DebiasctlError(
                f"{path.name} {what} when it is imported: {user_fault(error, path)}{advice}"
            ) from error
    return module


@contextlib.contextmanager
def silenced() -> Iterator[Callable[[], str]]:
    """Keep what a user's code prints from stdout, which is for results; call what is given for its first line."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        yield lambda: one_line(
            next((line for line in ("" if printed.closed else printed.getvalue()).splitlines() if line.strip()), ""),
            limit=100,
        )


@contextlib.contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Let the modules beside a user's file be imported, as they can be when Python is given the file."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))


def _names(tree: ast.Module) -> tuple[dict[str, bool], bool]:
    """The names that a file defines at its top, with whether each is a function; and whether there may be others."""
    known: dict[str, bool] = {}
    is_open = False
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            known[node.name] = known.get(node.name, False) or node in tree.body
        elif isinstance(node, ast.ClassDef):
            known.setdefault(node.name, False)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            known.setdefault(node.id, False)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            is_open = is_open or any(alias.name == "*" for alias in node.names)
            for alias in node.names:
                known.setdefault((alias.asname or alias.name).partition(".")[0], False)
    return known, is_open or "__getattr__" in known or "globals" in {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name)
    }
