"""A user's own code: finding the file of `module:function`, identifying it, and importing it into this process."""

import contextlib
import importlib
import importlib.util
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

import torch

from debiasctl.api import ModelError, UsageError, sha256_file
from debiasctl.api.files import one_line, quoted

NAME = re.compile(r"[\w-]+(\.[\w-]+)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_LONGEST = 500  # characters of what went wrong


@dataclass(frozen=True)
class Code:
    """`name` is `module:function`; `path` is the file of the module, and `folder` what it is imported from.

    Without a folder the module belongs to an installed package.
    """

    name: str
    path: Path
    folder: Path | None
    sha256: str

    @property
    def module(self) -> str:
        """The module's name."""
        return self.name.partition(":")[0]

    def __str__(self) -> str:
        return f"{self.name} of {self.path}"


_LOADED: dict[tuple[str, Path, str], ModuleType] = {}  # by the module's name, file and SHA-256
_IMPORTED: set[str] = set()  # the names of modules that were imported from users' folders


def find(name: str, folder: Path | None) -> Code:
    """Find `module:function` in `folder`; without one, in the working directory, else among installed packages.

    Raises:
        UsageError: if there is no such module; ModelError: if it cannot be read, or the import of its package fails.
    """
    module = name.partition(":")[0]
    if folder is not None:
        found = _in_folder(name, folder)
        if found is None:
            raise UsageError(f"there is no module {module} in the folder {folder}, for {name}. Name another folder")
        return found
    here = Path.cwd()
    found = _in_folder(name, here) or _installed(name)
    if found is None:
        raise UsageError(
            f"there is no module {module} for {name}: neither {here.joinpath(*module.split('.'))}.py, nor an installed "
            "package. Repeat the command in the folder that holds it, or name that folder by the option folder=PATH"
        )
    return found


def find_again(name: str, folder: Path | None, *, sha256: str) -> Code:
    """Find what was found before: where it was, whatever it holds now, or elsewhere, if it is the same file.

    Raises:
        ModelError: if it is not there, and nothing of the same content is in the working directory or installed.
    """
    found = _installed(name) if folder is None else _in_folder(name, folder)
    if found is not None:
        return found
    others = [other for other in (_in_folder(name, Path.cwd()), _installed(name)) if other is not None]
    for other in others:
        if other.sha256 == sha256:
            return other
    differs = "".join(f", and {other.path} is another file (its SHA-256 differs)" for other in others[:1])
    place = "an installed package" if folder is None else f"the folder {folder}"
    raise ModelError(
        f"{name} is no longer in {place}{differs}. Put the module back, or repeat the command in a folder that holds "
        "the same file"
    )


def call(code: Code, what: str, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function of the user's, with the modules beside it importable, and whatever it prints on stderr.

    What it changes for the whole process is changed back: the working directory, torch's default dtype and whether it
    computes gradients.

    Raises:
        ModelError: if it raises anything but a signal; the message names it and the line.
    """
    try:
        with _importable(code.folder), _named_prints(code.name), _left_alone():
            return function(*args)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # some libraries' exceptions are no Exception, as SystemExit is none
        if isinstance(error, SystemExit) and _is_ours(error):
            raise
        raise ModelError(f"{code}: {what} failed ({_summary(error)}{_line_of(error, code)})") from error


def load(code: Code) -> Any:
    """Import the module, unless it was imported with the same content before, and return what is named.

    Raises:
        ModelError: if the import fails, or there is no such name in it.
    """
    key = (code.module, code.path, code.sha256)
    if key not in _LOADED:
        _LOADED[key] = call(code, "its import", _imported, code)
    found: Any = _LOADED[key]
    for part in code.name.partition(":")[2].split("."):
        if not hasattr(found, part):
            known = [name for name, value in vars(_LOADED[key]).items() if callable(value) and name[:1] != "_"]
            raise ModelError(f"{code}: there is no {quoted(part)} in it. It has: {', '.join(known[:20]) or 'nothing'}")
        found = getattr(found, part)
    return found


def _imported(code: Code) -> ModuleType:
    _forget()  # of the same names in another folder, or of an earlier content
    if code.folder is None:
        return importlib.import_module(code.module)
    before, writes = set(sys.modules), sys.dont_write_bytecode
    importlib.invalidate_caches()
    sys.dont_write_bytecode = True  # what is compiled within the second of a change would be taken for the new content
    try:
        found = importlib.import_module(code.module)
    finally:
        sys.dont_write_bytecode = writes
        _IMPORTED.update(
            name
            for name in set(sys.modules) - before
            if (path := _file_in(code.folder, name)) is not None and path == _file_of(sys.modules[name])
        )
    if _file_of(found) != code.path:
        taken = _file_of(found) or "a part of Python"
        raise ImportError(f"the name {code.module} is that of another module, {taken}. Rename the file")
    return found


def _forget() -> None:
    """Let names of modules that were imported from users' folders be looked up again; who uses them keeps them."""
    for name in _IMPORTED:
        sys.modules.pop(name, None)


def _in_folder(name: str, folder: Path) -> Code | None:
    path = _file_in(folder, name.partition(":")[0])
    return None if path is None else Code(name, path, folder, _sum(path))


def _file_in(folder: Path, module: str) -> Path | None:
    """The file that `module` is imported from with `folder` on the path, if there is one."""
    stem = folder.joinpath(*module.split("."))
    for path in (stem / "__init__.py", stem.with_name(f"{stem.name}.py")):
        with contextlib.suppress(OSError, ValueError):
            if path.is_file():
                return path.resolve()
    return None


def _file_of(module: Any) -> Path | None:
    path = getattr(module, "__file__", None)
    return Path(path).resolve() if isinstance(path, str) else None


def _installed(name: str) -> Code | None:
    module = name.partition(":")[0]
    _forget()
    try:
        spec = call(
            Code(name, Path("an installed package"), None, ""),
            "the import of the package",
            importlib.util.find_spec,
            module,
        )
    except ModelError as error:
        cause = error.__cause__
        if isinstance(cause, ModuleNotFoundError) and f"{module}.".startswith(f"{cause.name}."):
            return None
        raise
    if spec is None or not spec.has_location or spec.origin is None:
        return None
    path = Path(spec.origin).resolve()
    return Code(name, path, None, _sum(path))


def _sum(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({one_line(error)}). Make it readable") from error


def _summary(error: BaseException) -> str:
    try:
        text = one_line(error)[:_LONGEST]
    except Exception:  # noqa: BLE001 - it is the user's code that makes the text
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _line_of(error: BaseException, code: Code) -> str:
    """The innermost line of the user's own files on the way to an error."""
    frames = [one for one in traceback.extract_tb(error.__traceback__) if Path(one.filename).parent == code.path.parent]
    return f"; {frames[-1].filename}, line {frames[-1].lineno}" if frames else ""


def _is_ours(error: BaseException) -> bool:
    """Whether debiasctl's own handler of a signal raised it."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    name = str(frames[-1].f_globals.get("__name__", "")) if frames else ""
    return name.startswith("debiasctl.") and not name.startswith("debiasctl.builtin.")


class _Named:
    """stderr, with a name before each line."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream, self._name, self._at_start = stream, name, True

    def write(self, text: str) -> int:
        """Write text, each of whose lines gets the name."""
        for line in text.splitlines(keepends=True):
            self._stream.write(f"[{self._name}] {line}" if self._at_start else line)
            self._at_start = line.endswith("\n")
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def _importable(folder: Path | None) -> Iterator[None]:
    if folder is not None:
        sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        if folder is not None:
            with contextlib.suppress(ValueError):  # the code may have changed the path
                sys.path.remove(str(folder))


@contextlib.contextmanager
def _left_alone() -> Iterator[None]:
    dtype, gradients, folder = torch.get_default_dtype(), torch.is_grad_enabled(), None
    with contextlib.suppress(OSError):  # it may have been removed
        folder = os.getcwd()
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(gradients)
        if folder is not None:
            with contextlib.suppress(OSError):
                os.chdir(folder)


@contextlib.contextmanager
def _named_prints(name: str) -> Iterator[None]:
    """Send what is printed to stderr; only in the main thread, since stdout is one for all threads."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with contextlib.redirect_stdout(_Named(sys.stderr, name)):
        yield
