"""README.md and the pages of docs/ as the tests read them: their blocks of code and the comments for the tests.

A comment stands before the block that it is for, with nothing but blank lines and further comments between:

    <!-- test: skip REASON -->                 not run: its debiasctl lines are parsed, Python is compiled
    <!-- test: with train --seed 1 -->         these options too for every `debiasctl train` of the block
    <!-- test: with "runs list" --json -->     the same of a command of two words
    <!-- test: as-is -->                       nothing is made smaller
    <!-- test: run debiasctl train digits -->  a line of shell that is run first, and that readers do not see
    <!-- test: fails 2 -->                     the block's last command ends with this exit code
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from debiasctl.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)]
SHELL = ("sh", "console")
PLUGINS_COMMAND = "my-command"  # of the package that the guide to commands has written, and that is not installed
RUNNABLE = (*SHELL, "python")

_COMMENT = re.compile(r"^\s*<!-- test: (?P<what>[\w-]+) ?(?P<rest>.*?) -->$")
_FENCE = re.compile(r"^(?P<indent>\s*)(?P<marks>`{3,}|~{3,})\s*(?P<language>[\w+-]*)[^`]*$")
_KNOWN = {"skip", "with", "as-is", "run", "fails"}


@dataclass(frozen=True)
class Block:
    """A fenced block of code, as what may be run; `comments` are those for the tests, (what, rest) each."""

    page: Path
    line: int
    language: str
    code: str
    comments: tuple[tuple[str, str], ...]

    @property
    def place(self) -> str:
        """Where it stands."""
        page = self.page.relative_to(ROOT) if self.page.is_relative_to(ROOT) else self.page
        return f"{page}:{self.line}"

    def said(self, what: str) -> list[str]:
        """What the comments of one kind say."""
        return [rest for kind, rest in self.comments if kind == what]

    @property
    def skipped(self) -> bool:
        """Whether it is not run."""
        return bool(self.said("skip"))


@dataclass(frozen=True)
class Document:
    """A page's blocks, and its other lines, numbered from 1."""

    page: Path
    blocks: list[Block]
    prose: list[tuple[int, str]]


def read(page: Path) -> Document:
    """A page in parts."""
    blocks: list[Block] = []
    prose: list[tuple[int, str]] = []
    comments: list[tuple[str, str]] = []
    lines = iter(enumerate(page.read_text(encoding="utf-8").splitlines(), start=1))
    for number, line in lines:
        comment, fence = _COMMENT.match(line), _FENCE.match(line)
        if comment:
            assert comment["what"] in _KNOWN, f"{page}:{number}: {line}"
            comments.append((comment["what"], comment["rest"].strip()))
        elif fence:
            body = list(_body(lines, fence["marks"], indent=len(fence["indent"])))
            code = "\n".join(_commands(body) if fence["language"] == "console" else body)
            blocks.append(Block(page, number, fence["language"], code, tuple(comments)))
            comments = []
        elif line.strip():
            assert not comments, f"{page}:{number}: a comment for the tests stands before no block"
            prose.append((number, line))
    assert not comments, f"{page}: a comment for the tests stands before no block"
    return Document(page, blocks, prose)


def _body(lines: Iterator[tuple[int, str]], marks: str, *, indent: int) -> Iterator[str]:
    for _, line in lines:
        if line.strip() == marks:
            return
        yield line[indent:]


def _commands(lines: list[str]) -> Iterator[str]:
    """What is typed in a block of type console."""
    for line in lines:
        if line.startswith(("$ ", "> ")):
            yield line[2:]


def debiasctl_lines(code: str) -> Iterator[list[str]]:
    """The arguments of every call of debiasctl in a piece of shell, with 1 for the shell's variables."""
    for inner in re.findall(r"\$\(([^()]*)\)", code):
        yield from debiasctl_lines(inner)
    plain = re.sub(r"\$\([^()]*\)|\$\{?\w+\}?", "1", code.replace("\\\n", " "))
    for line in plain.splitlines():
        if "debiasctl" not in line or line.lstrip().startswith("#"):
            continue
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        call: list[str] | None = None
        for word in [*lexer, ";"]:
            if word == "debiasctl" and call is None:
                call = []
            elif call is not None and set(word) <= set("();<>|&"):
                yield call
                call = None
            elif call is not None:
                call.append(word)


def parse(arguments: list[str]) -> None:
    """Parse a command line down to its last command, without running it; what the parser refuses is raised."""
    if arguments[:1] == [PLUGINS_COMMAND]:
        return
    command = typer.main.get_command(app)
    context = command.make_context("debiasctl", list(arguments))
    while hasattr(command, "resolve_command") and (words := [*context._protected_args, *context.args]):
        name, command, rest = command.resolve_command(context, words)
        context = command.make_context(name, rest, parent=context)


def check_names(text: str) -> None:
    """Check that a command line within a sentence, whose arguments may be placeholders, names what there is."""
    commands: list[Any] = [typer.main.get_command(app)]
    words = text.split()[1:]
    if words[:1] == [PLUGINS_COMMAND]:
        return
    while words and hasattr(commands[0], "commands") and not words[0].startswith("-"):
        inner, word = commands[0].commands, words.pop(0)
        if commands[0].invoke_without_command and word not in inner:
            break  # an argument of the group's own
        if word in ("COMMAND", "...", "…"):
            commands = list(inner.values())
            break
        assert word in inner, f"'{text}': there is no command '{word}'"
        commands = [inner[word]]
    known = {
        name
        for command in commands
        for parameter in command.get_params(command.make_context("debiasctl", [], resilient_parsing=True))
        for name in parameter.opts
    }
    unknown = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)} - known
    assert not unknown, f"'{text}': there is no option {', '.join(sorted(unknown))}"
