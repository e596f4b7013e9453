"""A page as one session: one bash and one Python, whose lines of debiasctl run in this process, made small."""

import contextlib
import io
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import traceback
import zipfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from documents import Block
from PIL import Image
from tiny import BACKBONE, debiasctl

PROGRAMS = (
    *(
        "cat",
        "cp",
        "cut",
        "du",
        "echo",
        "env",
        "false",
        "find",
        "grep",
        "gunzip",
        "gzip",
        "head",
        "ln",
        "ls",
        "mkdir",
        "mv",
    ),
    *("rm", "sed", "seq", "sleep", "sort", "tail", "tar", "test", "touch", "tr", "true", "unzip", "wc", "zip"),
)
_CALL = """#!{python} -IS
import json, os, socket, sys
with socket.create_connection(("127.0.0.1", int(os.environ["DOCS_PORT"]))) as server, server.makefile("rw") as file:
    kept = {{name: value for name, value in os.environ.items() if name.startswith("DEBIASCTL_")}}
    request = {{"argv": sys.argv, "cwd": os.getcwd(), "env": kept, "block": int(os.environ["DOCS_BLOCK"])}}
    file.write(json.dumps(request) + "\\n")
    file.flush()
    answer = json.loads(file.readline())
sys.stdout.write(answer["out"])
sys.stderr.write(answer["err"])
sys.exit(answer["code"])
"""
_PYTHON = """#!/bin/sh
if [ "$1 $2" = "-m pip" ]; then exit 0; fi
exec {python} "$@"
"""


_MADE_SMALLER = ("train", "sample", "evaluate", "likelihood", "analyze")


def smaller(arguments: list[str], block: Block) -> list[str]:
    """The same command with less work: few steps, a tiny network, few images, one process."""
    name = arguments[0] if arguments else ""
    more = [word for rest in block.said("with") for word in _further(rest, arguments)]
    if name == "sweep" and not block.said("as-is"):
        return [*_smaller_sweep(arguments), *more]
    if block.said("as-is") or name not in _MADE_SMALLER or "--dry-run" in arguments:
        return [*arguments, *more]
    arguments = _without(arguments, "--processes", "--device")
    if name == "train":
        if "--resume" in arguments:
            longer = any(_value(arguments, option) for option in ("--steps", "--images"))
            return [*_without(arguments, "--images", "--steps"), *(["--steps", "8"] if longer else []), *more]
        few = ["--steps", "4", "--batch-size", "8", "--backbone", BACKBONE, "--set", "training.heldout_images=4"]
        return [*_without(arguments, "--images"), *few, *more]
    if name == "analyze":
        return [*arguments, "--num", "16", "--steps", "3", "--trajectories", "2,3", *more]
    if name == "likelihood":
        method = _value(arguments, "--method") or "both"
        terms, steps = (["--terms", "3"], ["--steps", "2"])
        few = [*(terms if method != "ode" else []), *(steps if method != "bound" else [])]
        return [*arguments, "--num", "4", *few, *more]
    if "--samples" in arguments:
        return [*arguments, *more]
    several = "," in (_value(arguments, "--steps") or "")
    few = ["--steps", "2,3" if several else "3"]
    num = "40" if name == "evaluate" else "1" if "--same-noise" in arguments or several else "4"
    return [*arguments, *few, "--num", num, *more]


def _smaller_sweep(arguments: list[str]) -> list[str]:
    if arguments[1:2] in (["list"], ["show"], ["watch"], ["rm"]) or arguments[1].endswith(".yaml"):
        return arguments
    few = ["--seeds", str(min(2, int(_value(arguments, "--seeds") or 1)))]
    few += ["--jobs", "1"]  # one process to start
    if "--resume" in arguments:
        return [*_without(arguments, "--seeds"), *(few if "--seeds" in arguments else [])]
    few += ["--threads", "1"]  # which wait for no others
    tiny = ["--steps", "2", "--batch-size", "8", "--backbone", BACKBONE, "--set", "training.heldout_images=4"]
    drawn = ["--num", "8", "--evaluate-steps", "2", "--features", "pixels:dimension=4"]
    return [*_without(arguments, "--seeds", "--evaluate-steps", "--num"), *few, *tiny, *drawn]


def _further(rest: str, arguments: list[str]) -> Iterator[str]:
    command, *options = shlex.split(rest)
    if arguments[: len(command.split())] == command.split():
        yield from options


def _value(arguments: list[str], option: str) -> str | None:
    """An option's value, the last where it is given again."""
    found = [after for word, after in pairwise(arguments) if word == option]
    found += [word.partition("=")[2] for word in arguments if word.startswith(f"{option}=")]
    return found[-1] if found else None


def _without(arguments: list[str], *options: str) -> list[str]:
    kept, words = [], iter(arguments)
    for word in words:
        if word in options:
            next(words, None)
        elif word.partition("=")[0] not in options:
            kept.append(word)
    return kept


class Session:
    """One page: a bash that calls back into this process."""

    def __init__(self, blocks: list[Block], folder: Path) -> None:
        self.blocks, self.folder = blocks, folder
        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        self.said: list[str] = []  # on stderr, for the message of a failure
        self.programs = folder / "programs"
        self.programs.mkdir()
        for name in PROGRAMS:
            if found := shutil.which(name):
                (self.programs / name).symlink_to(found)
        for name in ("debiasctl", "docs-python"):
            self._write(name, _CALL.format(python=sys.executable))
        self._write("python", _PYTHON.format(python=sys.executable))
        self._write("pip", "#!/bin/sh\n")

    def run(self) -> None:
        """Run all blocks; the first that fails fails the test."""
        work = self.folder / "work"
        work.mkdir()
        make_images(work)
        shown = self.folder / "shown"
        with socket.create_server(("127.0.0.1", 0)) as server, shown.open("w") as file:
            server.settimeout(0.05)
            environment = {
                **{name: value for name, value in os.environ.items() if name.startswith("DEBIASCTL_")},
                "PATH": str(self.programs), "HOME": str(work), "DOCS_PORT": str(server.getsockname()[1]),
                "LANG": "C.UTF-8",
            }  # fmt: skip
            bash = subprocess.Popen(
                [shutil.which("bash") or "bash", "-c", self.script()], cwd=work, env=environment, text=True,
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
            )  # fmt: skip
            try:
                while bash.poll() is None:
                    with contextlib.suppress(TimeoutError):
                        connection, _ = server.accept()
                        with connection, connection.makefile("rw") as talk:
                            talk.write(json.dumps(self.answer(json.loads(talk.readline()))) + "\n")
            finally:
                bash.kill()
        out = shown.read_text(errors="replace")
        at = [line for line in out.splitlines() if line.startswith("::: ")]
        assert bash.returncode == 0, "\n".join([f"{at[-1]} failed", out[-2000:], *self.said[-3:]])

    def script(self) -> str:
        """The page as one script."""
        parts = ["set -euo pipefail"]
        for index, block in enumerate(self.blocks):
            if block.skipped:
                continue
            parts += [f"export DOCS_BLOCK={index}", f"echo '::: {block.place}'", *block.said("run")]
            code = f"docs-python {index}" if block.language == "python" else block.code
            expected = block.said("fails")
            if expected:
                check = f'test "$docs_code" = {expected[0]} || {{ echo "it ended with $docs_code"; exit 1; }}'
                parts += ["set +e", code, "docs_code=$?", "set -e", check]
            else:
                parts.append(code)
        return "\n".join(parts)

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what a call from bash asks for."""
        program, *arguments = request["argv"]
        block = self.blocks[request["block"]]
        os.chdir(request["cwd"])
        with patch.dict(os.environ, request["env"]):
            if Path(program).name == "docs-python":
                return self._python(block)
            outcome = debiasctl(*smaller(arguments, block))
        self.said.append(outcome.err)
        return {"code": max(outcome.code, 0) or int(outcome.code < 0), "out": outcome.out, "err": outcome.err}

    def _python(self, block: Block) -> dict[str, Any]:
        out, code = io.StringIO(), 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            try:
                exec(compile(block.code, block.place, "exec"), self.namespace)
            except Exception:  # noqa: BLE001 - the page's own, and shown
                code = 1
                traceback.print_exc()
        return {"code": code, "out": out.getvalue(), "err": ""}

    def _write(self, name: str, text: str) -> None:
        path = self.programs / name
        path.write_text(text)
        path.chmod(0o755)


def make_images(folder: Path) -> None:
    """Images that pages speak of as the reader's own."""
    generator = np.random.default_rng(0)
    for name, classes in (("my-images", ("cats", "dogs")), ("photos", ("",))):
        for shade, kind in enumerate(classes):
            (folder / name / kind).mkdir(parents=True)
            for number in range(40):
                pixels = generator.normal(80 + 60 * shade, 30, (16, 16, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / name / kind / f"{number:03d}.png")
    with zipfile.ZipFile(folder / "my-images.zip", "w") as archive:
        for path in sorted((folder / "my-images").rglob("*.png")):
            archive.write(path, path.relative_to(folder / "my-images"))
