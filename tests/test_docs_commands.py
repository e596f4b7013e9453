"""Every command of README.md and docs/ runs: page by page, in order, made small, in a folder of its own.

A page's blocks of type sh, console and python are one session (tests/page_session.py), made small there by `smaller`;
comments in the page say more (tests/documents.py). Sweeps start workers for README.md alone. A page's folder holds
`my-images/` (classes cats and dogs), `my-images.zip` (the same) and `photos/` (no classes). Other programs are few: see
PROGRAMS; `pip` does nothing, as everything is installed.
"""

import importlib
import re
import sys
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType

import pytest
from documents import PAGES, ROOT, RUNNABLE, SHELL, Block, check_names, debiasctl_lines, parse, read
from here import without_workers
from page_session import Session, smaller

DOCUMENTS = {str(page.relative_to(ROOT)): read(page) for page in PAGES}
BLOCKS = {name: [one for one in document.blocks if one.language in RUNNABLE] for name, document in DOCUMENTS.items()}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is made once for all pages: feature extractors, references."""
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("name", [name for name, blocks in BLOCKS.items() if not all(one.skipped for one in blocks)])
def test_a_pages_commands_run(
    name: str, tmp_path: Path, cache: Path, debiasctl_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (debiasctl_home / "cache").symlink_to(cache)
    for module in ("speed", "trial"):  # large networks' steps take seconds each
        monkeypatch.setattr(f"debiasctl.training.{module}.seconds_per_step", lambda *args, **more: 0.1)
    with nullcontext() if name == "README.md" else without_workers(monkeypatch):
        Session(BLOCKS[name], tmp_path).run()


SKIPPED = [block for blocks in BLOCKS.values() for block in blocks if block.skipped]


@pytest.mark.parametrize("block", SKIPPED, ids=lambda block: block.place)
def test_what_is_not_run_is_at_least_well_formed(block: Block) -> None:
    assert block.said("skip") != [""], f"{block.place}: say why it is skipped"
    if block.language == "python":
        compile(block.code, block.place, "exec")
        return
    for arguments in debiasctl_lines(block.code):
        parse(arguments)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_command_stands_where_it_is_not_run(name: str) -> None:
    document = DOCUMENTS[name]
    lines = [(number, line) for number, line in document.prose if re.match(r"(?: {4,}|\t)\$? ?debiasctl ", line)]
    lines += [
        (block.line, line)
        for block in document.blocks
        if block.language not in SHELL
        for line in block.code.splitlines()
        if re.match(r"\s*(?:\$ )?debiasctl (?!\S*[A-Z])", line)
    ]
    assert lines == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_within_sentences_name_what_there_is(name: str) -> None:
    for _, line in DOCUMENTS[name].prose:
        for text in re.findall(r"(?<!`)`(debiasctl [^`]+)`(?!`)", line):
            check_names(text)


def reference() -> ModuleType:
    sys.path.insert(0, str(ROOT / "docs" / "_ext"))
    try:
        return importlib.import_module("reference.commands")
    finally:
        sys.path.pop(0)


EXAMPLES = [line for _, command in reference().commands() for line in reference().examples(command)]


@pytest.mark.parametrize("line", EXAMPLES)
def test_an_example_in_a_commands_help_is_well_formed(line: str) -> None:
    calls = list(debiasctl_lines(line))
    assert calls
    for arguments in calls:
        parse(arguments)


# ---------------------------------------------------------------- the reader and runner themselves

PAGE = """# A page

<!-- test: run name=a -->
<!-- test: with train --seed 7 -->
```sh
debiasctl train digits --steps 100000 --name $name  # made small
for seed in 1 2; do debiasctl train digits --seed $seed --name $name-$seed; done
```

```console
$ debiasctl runs list \\
>   --json > runs.json
{"runs": [{"name": "a"}]}
```

```python
import json

runs = {run["name"]: run["status"] for run in json.load(open("runs.json"))["runs"]}
assert set(runs) == {"a", "a-1", "a-2"}, runs
assert all(run["num_steps"] == 4 and run["seed"] == 7 for run in runs.values()), runs
```

<!-- test: fails 2 -->
```sh
debiasctl runs show nothing
```

<!-- test: skip needs a cluster -->
```sh
torchrun -m debiasctl train cifar10 --batch-size $SIZE && debiasctl runs list
```
"""


def session(text: str, folder: Path) -> Session:
    page = folder / "page.md"
    page.write_text(text)
    return Session(read(page).blocks, folder)


def test_a_page_is_one_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    session(PAGE, tmp_path).run()
    assert list(debiasctl_lines(read(tmp_path / "page.md").blocks[-1].code)) == [
        ["train", "cifar10", "--batch-size", "1"],
        ["runs", "list"],
    ]


@pytest.mark.parametrize(
    "block, message",
    [
        ("```sh\ndebiasctl runs show nothing\necho after\n```", "there is no run 'nothing'"),
        ("```sh\ndebiasctl runs lst\n```", "No such command 'lst'"),
        ("```sh\nno-such-program\n```", "no-such-program: command not found"),
        ("```sh\nfalse | true\n```", "page.md:1 failed"),
        ("```python\nassert 1 == 2\n```", "AssertionError"),
        ("<!-- test: fails 2 -->\n```sh\ntrue\n```", "it ended with 0"),
    ],
)
def test_what_fails_is_said_with_its_place(
    block: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError) as error:
        session(block, tmp_path).run()
    assert message in str(error.value)
    assert "page.md:" in str(error.value)
    assert "after" not in str(error.value).splitlines()


def test_a_comment_for_the_tests_stands_before_a_block(tmp_path: Path) -> None:
    for text in ("<!-- test: skip why -->\n\nA sentence.\n", "<!-- test: skip why -->\n", "<!-- test: ignore -->\n"):
        with pytest.raises(AssertionError):
            session(text, tmp_path)


@pytest.mark.parametrize(
    "text",
    ["debiasctl trian RUN", "debiasctl evaluate RUN --metric fid", "debiasctl runs lst", "debiasctl … --procs 2"],
)
def test_a_name_that_is_not_there_is_found_in_a_sentence(text: str) -> None:
    with pytest.raises(AssertionError, match="there is no"):
        check_names(text)


@pytest.mark.parametrize(
    "given, run",
    [
        ("sample a --steps 2,9 --same-noise --processes 4", "sample a --steps 2,9 --same-noise --steps 2,3 --num 1"),
        ("evaluate a", "evaluate a --steps 3 --num 40"),
        ("evaluate --samples x.npz --reference digits", "evaluate --samples x.npz --reference digits"),
        ("likelihood a --method ode", "likelihood a --method ode --num 4 --steps 2"),
        ("analyze a b --only impact", "analyze a b --only impact --num 16 --steps 3 --trajectories 2,3"),
        ("train --resume a --steps=4000 --device cuda", "train --resume a --steps 8"),
        ("train digits --dry-run", "train digits --dry-run"),
        ("compare a b", "compare a b"),
    ],
)  # fmt: skip
def test_commands_are_made_smaller(given: str, run: str) -> None:
    assert smaller(given.split(), Block(ROOT, 1, "sh", "", ())) == run.split()
    assert smaller(given.split(), Block(ROOT, 1, "sh", "", (("as-is", ""),))) == given.split()
