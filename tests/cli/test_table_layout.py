"""Every table can be read at every width, and is whole where stdout is no terminal."""

import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from tiny import Outcome, succeed

from debiasctl.cli.comparison_table import section_lines
from debiasctl.cli.output import print_pairs, print_table, print_text, terminal_width
from debiasctl.cli.tables import Table, left_out, table_lines, wrapped
from debiasctl.comparison.tables import Figure
from debiasctl.evaluation.uncertainty.intervals import Interval

WIDTHS = (60, 80, 120, 200)
NAMES = [f"digits-{weighting}-seed-{seed}" for weighting in ("debiased", "constant", "min-snr") for seed in range(3)]
# heads of columns which stand below their row where there is no room beside
HEADERS = {"-", "option", "meaning", "what", "it", "is", "path", "weights", "metric", "floor", "better", "differs"}
METRICS = ["fd_pixels", "kd_pixels", "density", "nearest_train_gap", "memorised_share", "mean_shift_squared"]
LOCAL = ("--features", "local:steps=2,dimension=4,min_accuracy=0", "--metrics", "fd_local,kd_local")
COMMANDS = [
    ("compare", *NAMES),
    ("compare", *NAMES[:2]),
    ("evaluate", NAMES[0], "--num", "8", "--steps", "2,3", *LOCAL),
    ("likelihood", NAMES[0], "--num", "4", "--terms", "3", "--steps", "2"),
    ("runs", "list"),
    ("runs", "show", NAMES[0]),
    ("plugins", "list"),
    ("plugins", "describe", "backbones", "unet"),
    ("plugins", "describe", "weightings", "min-snr"),
    ("weightings", "list"),
    ("weightings", "table", "constant", "debiased", "min-snr:gamma=3"),
    ("spec", "describe"),
    ("doctor",),
]


@pytest.fixture(scope="module")
def home(_evaluated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with nine evaluated runs of long names."""
    home = tmp_path_factory.mktemp("nine")
    for number, name in enumerate(NAMES):
        shutil.copytree(_evaluated / "runs" / "ab"[number // 3 % 2], home / "runs" / name)
    shutil.copytree(_evaluated / "cache", home / "cache")
    return home


@pytest.fixture
def nine(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEBIASCTL_HOME", str(home))


def at(width: int | None, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> Outcome:
    monkeypatch.delenv("COLUMNS")
    if width is not None:
        monkeypatch.setenv("COLUMNS", str(width))
    return succeed(*arguments)


def too_long(text: str, width: int) -> list[str]:
    """Lines that are longer though they could be broken between words."""
    return [line for line in text.splitlines() if len(line) > width and len(line.split()) > 1]


def words(text: str) -> set[str]:
    """All that is said: separators, and the commas that a line may end at, aside."""
    return {word for word in re.split(r"[\s,;:]+", text) if word.strip("─-⠀")}


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: " ".join(arguments[:3])[:40])
def test_every_command_says_everything_at_every_width(
    arguments: tuple[str, ...], nine: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        whole = at(None, arguments, patch)
    assert re.search(r"[^\x20-\x7e\n─√²α-ωé⠀-⣿│┼↑→—…×⁰-ₜ]", whole.out) is None, "no control characters"
    for width in WIDTHS:
        with monkeypatch.context() as patch:
            outcome = at(width, arguments, patch)
        assert too_long(outcome.out, width) == []
        gone = words(whole.out) - words(outcome.out) - HEADERS
        if "not fit in" in outcome.err:  # it is said what is left out, and what shows it
            assert width < 120
            assert re.search(rf"columns? do(es)? not fit in {width} columns \(.*\): --json or a wider", outcome.err)
            spare = r"[\d-]+|CREATED|\(UTC\)|SEED|METRIC|fd_\w+@\d+|DATASET|digits"
            gone -= {word for word in gone if re.fullmatch(spare, word)}
        if arguments[:2] == ("plugins", "describe"):  # a curve is drawn as wide as there is room
            gone -= {word for word in gone if re.search(r"[⠀-⣿|]|^[\d.e+-]+$", word)}
        assert gone == set(), width


@pytest.mark.parametrize("width", [*WIDTHS, None])
def test_nine_runs_are_compared_at_every_width(width: int | None, nine: None, monkeypatch: pytest.MonkeyPatch) -> None:
    found = json.loads(succeed("compare", *NAMES, "--json").out)
    lines = at(width, ("compare", *NAMES), monkeypatch).out.partition("\n\n")[2].splitlines()  # below the answer
    for figure in found["figures"]:
        for name, value in zip(found["runs"], figure["values"], strict=True):
            assert any(name in line and f" {value:.4g}" in line for line in lines)
        assert any(re.search(rf"\b{figure['metric']}\b", line) for line in lines)
    assert sum(f"{figure['metric']}" in line for line in lines for figure in found["figures"][:1]) == (
        18 if width is None else 2  # in a file every line names its metric
    )


def figure(metric: str, runs: int) -> Figure:
    from debiasctl.evaluation.record import HeldoutConditions

    measured = HeldoutConditions(
        dataset="d", dataset_hash="h", features="none", reference="heldout", num=8, draws=1, sampler="ddim", steps=2,
        seed=0, weights="ema",
    )  # fmt: skip
    values = [12.3456 + number for number in range(runs)]
    intervals = [None, *[Interval(-0.000123 * n, -0.000234 * n, 0.000345 * n, 0.95) for n in range(1, runs)]]
    return Figure(
        metric=metric, measured=measured, better="closer to 0", values=values,
        differences=[value - values[0] for value in values], intervals=intervals,
        interval_reasons=[None] * runs, best=runs - 1, checkpoints=[4] * runs, floor=0.0123, floor_num=296,
        values_at_floor_num=values,
    )  # fmt: skip


@pytest.mark.parametrize("runs", range(2, 10))
@pytest.mark.parametrize("width", [40, *WIDTHS, None])
def test_figures_of_two_to_nine_runs(runs: int, width: int | None) -> None:
    figures = [figure(metric, runs) for metric in METRICS]
    lines = list(section_lines("ddim, 2 steps", NAMES[:runs], figures, width))
    assert width is None or too_long("\n".join(lines), width) == []
    text = "\n".join(lines)
    for one in figures:
        assert one.metric in text
        assert text.count(f" {one.values[-1]:.4g}") == len(METRICS)
        for interval in one.intervals[1:]:
            assert f"{interval.estimate:+.3g} ({interval.low:+.3g} to {interval.high:+.3g})" in text
    assert "*" not in text  # one seed an arm decides nothing
    for name in NAMES[:runs]:
        assert sum(name in line.split() for line in lines) == len(METRICS)


# ---------------------------------------------------------------- the layout


def laid_out(table: Table, width: int | None) -> list[str]:
    return [line.rstrip() for line in table_lines(table, width)]


def test_columns_without_room_stand_in_a_table_of_their_own() -> None:
    table = Table(["name", "a", "b", "c"], [["first-run", "1", "2.5", "x"], ["second-run", "10", "-", "y"]])
    assert laid_out(table, None) == laid_out(table, 30) == [
        "name         a    b  c", "─" * 22, "first-run    1  2.5  x", "second-run  10    -  y",
    ]  # fmt: skip
    assert laid_out(table, 19) == [
        "name         a    b", "─" * 19, "first-run    1  2.5", "second-run  10    -", "",
        "name        c", "─" * 13, "first-run   x", "second-run  y",
    ]  # fmt: skip
    assert laid_out(table, 11) == [  # the name needs a line of its own
        "first-run", "     a    b", "     1  2.5", "second-run", "     a    b", "    10    -", "",
        "first-run", "    c", "    x", "second-run", "    c", "    y",
    ]  # fmt: skip


def test_a_text_stands_beside_or_below() -> None:
    meaning = "what it is in many words, which take more than one line"
    table = Table(["option", "meaning"], [["gamma", meaning]], prose=True)
    assert laid_out(table, 40) == [
        "option  meaning", "─" * 40, "gamma   what it is in many words, which", "        take more than one line",
    ]  # fmt: skip
    assert laid_out(table, 30) == [
        "option", "─" * 6, "gamma", "    what it is in many words,", "    which take more than one", "    line",
    ]  # fmt: skip
    wide = Table(["option", "type", "meaning"], [["gamma", "number from 0 to 1", meaning]], prose=True)
    assert laid_out(wide, 24)[:3] == ["gamma", "    type: number from 0", "    to 1"]


def test_what_is_left_out_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    columns, row = ["name", "state", "seed", "created"], ["a-run", "finished", "0", "2026-01-01"]
    table = Table(columns, [row], spare=("created", "seed"))
    assert [left_out(table, width) for width in (40, 25, 15, None)] == [[], ["created"], ["created", "seed"], []]
    monkeypatch.setenv("COLUMNS", "22")
    print_table(columns, [row], spare=("created", "seed"))
    captured = capsys.readouterr()
    words = captured.out.split()
    assert [*words[:3], *words[4:]] == ["name", "state", "seed", "a-run", "finished", "0"]
    assert captured.err == (
        "note: 1 column does not fit in 22 columns (created): --json or a wider terminal shows it\n"
    )


def test_words_are_not_broken() -> None:
    assert wrapped("a run-with-a-long-name b", 8) == ["a", "run-with-a-long-name", "b"]
    assert wrapped("linear:num=1000,beta=0.5", 16) == ["linear:num=1000,", "beta=0.5"]
    assert wrapped("t,weight of it", 12) == ["t,weight of", "it"]
    assert wrapped("", 5) == [""]


def test_wide_letters_are_aligned() -> None:
    table = Table(["name", "x"], [["画像", "a"], ["é", "b"], ["e\u0301", "c"]])
    assert laid_out(table, None)[2:] == ["画像  a", "é     b", "e\u0301     c"]


def test_the_width_is_the_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS")
    assert terminal_width() is None
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(os, "get_terminal_size", lambda *given: os.terminal_size((77, 20)))
    assert terminal_width() == 77
    for said, width in (("50", 50), ("x", 77), ("0", 77), ("-3", 77), ("3", 20)):
        monkeypatch.setenv("COLUMNS", said)
        assert terminal_width() == width


def test_pairs_and_sentences_are_broken_between_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    print_pairs({"path": "/a/long/path/of/a/run", "loss": "one two three four\x1b[2J"})
    assert capsys.readouterr().out.splitlines() == [
        "path", "    /a/long/path/of/a/run", "loss  one two three", "      four\\x1b[2J",
    ]  # fmt: skip
    print_text("a sentence of words\n  - and a list of some")
    assert capsys.readouterr().out.splitlines() == ["a sentence of words", "  - and a list of", "  some"]
