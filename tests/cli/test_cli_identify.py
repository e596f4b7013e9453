"""`debiasctl weightings identify`: what is run and what is not, what is printed, and tables."""

import json
import shlex
from pathlib import Path

import pytest
from tiny import debiasctl, error_of, succeed

from debiasctl.analysis.weight_curves import weight_curves

TRAINER = """
import torch
from helper import LIMIT
print("loading")

def weight(snr, gamma=5.0):
    print("called")
    return torch.clamp(snr, max=gamma) / (torch.clamp(snr, max=LIMIT) + 1)

class Trainer:
    def __init__(self, gamma):
        self.gamma = gamma
    def weight(self, snr):
        return torch.clamp(snr, max=self.gamma)

trainer = Trainer(3)
number = 5

def crashes(snr):
    return snr + unknown
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("helper.py").write_text("LIMIT = 1e9\n")
    Path("trainer.py").write_text(TRAINER)
    return tmp_path


def test_the_answer_the_flags_and_what_is_said_before_code_is_run(folder: Path) -> None:
    outcome = succeed("weightings", "identify", "trainer.py:weight", "--prediction", "v")
    lines = outcome.out.splitlines()
    assert lines[0] == "min-snr with gamma 5 on v: exact, but for rounding."
    assert "- It prints while it computes, for example: called" in lines
    assert "trains the same: --weighting min-snr --prediction v --normalize none" in lines
    notes = outcome.err.splitlines()
    assert notes[0].startswith(f"note: {folder}/trainer.py is run in this process")
    assert "loading" not in outcome.out
    assert any("printed while it was imported: loading" in note for note in notes)
    assert any("snr as the SNR" in note for note in notes)


def test_json_holds_the_result_alone(folder: Path) -> None:
    found = json.loads(
        succeed("weightings", "identify", "trainer.py:trainer.weight", "--prediction", "x0", "--json").out
    )
    assert (found["named"], found["readings"][0]["weighting"]) == (True, "min-snr:gamma=3")
    assert found["readings"][0]["flags"] == "--weighting min-snr:gamma=3 --prediction x0 --normalize none"


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("trainer.py:wieght", "Did you mean 'weight'? It defines: weight, crashes"),
        ("trainer.py", "which function of"),
        ("trainer.py:", "for example trainer.py:weight"),
        ("trainer.py:Trainer", "is a class"),
        ("trainer.py:number", "is int and cannot be called"),
        ("trainer.py:Trainer.weight", "this is a method, which needs an object"),
        ("trainer.py:crashes", "(return snr + unknown): NameError: name 'unknown' is not defined"),
        ("trainr.py:weight", "there is no file"),
        (".:weight", "is a folder"),
        ("broken.py:weight", "broken.py, line 1: this is not Python"),
        ("quits.py:weight", "ends the program when it is imported: line 2 (sys.exit(3)): SystemExit: 3"),
        ("weights.csv", "there is no such file"),
    ],
)
def test_refusals(folder: Path, what: str, message: str) -> None:
    Path("broken.py").write_text("def weight(snr:\n")
    Path("quits.py").write_text("import sys\nsys.exit(3)\ndef weight(snr): ...\n")
    assert message in error_of(
        "weightings", "identify", what, code=1 if what.split(":")[0] == "quits.py" or "crashes" in what else 2
    )


@pytest.mark.parametrize("wrong", [["--prediction", "velocity"], ["--schedule", "linaer"], ["--plot", "w.txt"]])
def test_nothing_is_run_where_an_option_is_wrong(folder: Path, wrong: list[str]) -> None:
    Path("leaves.py").write_text("open('trace', 'w')\ndef weight(snr): return snr\n")
    error_of("weightings", "identify", "leaves.py:weight", *wrong, code=2)
    assert not Path("trace").exists()


HOSTILE = """
import os, sys
import numpy as np, torch

class Base(BaseException):
    pass

class Silent(Exception):
    def __str__(self):
        raise ValueError

class Holder:
    @property
    def weight(self):
        raise KeyError("absent")

holder = Holder()
def objects(snr): return np.array([None] * len(snr))
def huge(snr): return [10**400] * len(snr)
def sparse(snr): return snr.to_sparse()
def meta(snr): return snr.to("meta")
def base(snr): raise Base("beyond")
def silent(snr): raise Silent
def closes(snr): sys.stdout.close(); return snr * 0 + 1
def large(snr): return snr.double() * 0 + 1e308
def small(snr): return snr.double() * 0 + 1e-308
def leaves(snr): os.chdir("/"); return snr * 0 + 1
"""


@pytest.mark.parametrize(
    ("what", "code", "message"),
    [
        ("objects", 2, "the function returns an array of object, and weights are real numbers"),
        ("huge", 2, "the function returns an array of object, and weights are real numbers"),
        ("sparse", 2, "a tensor that is not dense"),
        ("meta", 2, "a tensor that is not dense"),
        ("base", 1, 'the function failed at line 22 (def base(snr): raise Base("beyond")): Base: beyond'),
        ("silent", 1, "Silent"),
        ("holder.weight", 1, 'cannot be read: line 15 (raise KeyError("absent"))'),
        ("closes", 0, ""),
        ("large", 0, ""),
        ("small", 0, ""),
    ],
)
def test_hostile_functions_are_named_by_what_they_do(folder: Path, what: str, code: int, message: str) -> None:
    Path("hostile.py").write_text(HOSTILE)
    outcome = debiasctl("weightings", "identify", f"hostile.py:{what}", "--prediction", "eps")
    assert (outcome.code, "looks like a bug" in outcome.err) == (code, False), outcome.err
    assert message in outcome.err
    assert code or outcome.out.startswith("constant on eps")


def test_the_table_is_written_here_where_the_function_leaves_the_folder(folder: Path) -> None:
    Path("hostile.py").write_text(HOSTILE)
    succeed("weightings", "identify", "hostile.py:leaves", "--prediction", "eps", "--out", "here.csv")
    assert (folder / "here.csv").exists()


def test_a_file_is_read_in_the_encoding_that_it_declares(folder: Path) -> None:
    Path("latin.py").write_bytes(b"# coding: latin-1\n# \xe9\ndef weight(snr): return snr * 0 + 1\n")
    assert succeed("weightings", "identify", "latin.py:weight", "--prediction", "eps").out.startswith("constant on eps")
    Path("nul.py").write_bytes(b"x = 1\0\n")
    assert "holds NUL characters" in error_of("weightings", "identify", "nul.py:weight", code=2)


def test_a_file_without_the_function_is_not_run(folder: Path) -> None:
    Path("bad.py").write_text("open('was-run', 'w')\ndef weight(snr): return snr\n")
    error_of("weightings", "identify", "bad.py:weigth", code=2)
    assert not Path("was-run").exists()


WAVES = """
import torch
def weight(snr): return torch.exp(torch.sin(torch.log(snr) / 2))
def partly(snr): return torch.where(snr > 1, 0, 1 / snr)
"""


@pytest.mark.parametrize("what", ["waves.py:weight", "waves.py:partly", "trainer.py:weight"])
def test_a_picture_shows_the_weights_on_the_nearest_known_ones(folder: Path, what: str) -> None:
    Path("waves.py").write_text(WAVES)
    found = json.loads(succeed("weightings", "identify", what, "--prediction", "x0", "--plot", "w.svg", "--json").out)
    assert found["plot"] == "w.svg"
    drawn = Path("w.svg").read_text()
    assert "measured / known" in drawn
    assert all(f"on x0: {one['weighting']}" in drawn for one in found["readings"])
    assert "ending says" in error_of("weightings", "identify", what, "--plot", "w.txt", code=2)


@pytest.mark.parametrize("text", ["gamma", "=5", "gam ma=5"])
def test_what_is_given_is_checked(folder: Path, text: str) -> None:
    assert "write NAME=VALUE" in error_of("weightings", "identify", "trainer.py:weight", "--given", text, code=2)


def test_a_table_is_named_and_its_own_table_trains_the_same(folder: Path) -> None:
    curves = weight_curves(["min-snr"], schedule="cosine", prediction="v", normalize="none")
    rows = [f"{t},{weight:.4g}" for t, weight in enumerate(curves.weights["min-snr"]["v"].tolist())]
    Path("weights.csv").write_text("\n".join(["t, weight", *rows]))
    outcome = succeed(
        "weightings", "identify", "weights.csv", "--schedule", "cosine", "--prediction", "v", "--out", "o.csv", "--json"
    )
    found = json.loads(outcome.out)
    assert (found["readings"][0]["weighting"], found["readings"][0]["exact"]) == ("min-snr", True)
    flags = shlex.split(found["table_flags"])
    assert flags == shlex.split(
        "--weighting table:path=o.csv,space=v --prediction v --normalize none --schedule cosine"
    )
    assert "is run in this process" not in outcome.err
    plan = debiasctl("train", "digits", *flags, "--dry-run", "--json")
    assert plan.code == 0, plan.err
    assert json.loads(plan.out)["objective"]["weight"] == pytest.approx(
        curves.weights["min-snr"]["v"].tolist(), rel=1e-3
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "its header is 'a,b'. It needs the columns weight and one of snr, log_snr, sigma, s, t"),
        ("snr,weight,Weight\n" + "1,2,3\n" * 9, "names the column weight more than once"),
        ("snr,weight\n1,2\n", "has 1 row. At least 8"),
        ("snr,weight\n" + "1,2\n" * 9, "has 1 different level. At least 8"),
        ("snr,weight\n" + "1,x\n" * 9, "row 2: 'x' is not a number"),
        ("s,weight\n" + "2,1\n" * 9, "s must be between 0 and 1"),
        ("t,weight\n" + "0.5,1\n" * 9, "For levels between 0 and 1 name the column s"),
        ("t,weight\n" + "5000,1\n" * 9, "t extends to 5000, and the schedule linear ends at 999"),
        ("", "its header is ''"),
    ],
)
def test_bad_tables(folder: Path, text: str, message: str) -> None:
    Path("weights.csv").write_text(text)
    assert message in error_of("weightings", "identify", "weights.csv", code=2)


def test_a_table_takes_no_arguments(folder: Path) -> None:
    assert "are for a function" in error_of("weightings", "identify", "weights.csv", "--given", "gamma=5", code=2)


def test_zero_terminal_snr(folder: Path) -> None:
    found = json.loads(
        succeed("weightings", "identify", "trainer.py:weight", "--prediction", "v", "--zero-terminal-snr", "--json").out
    )
    assert found["schedule"] == "linear:zero_terminal_snr=true"
    assert found["readings"][0]["weighting"] == "min-snr"
