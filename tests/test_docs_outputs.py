"""The outputs that docs/ shows have the form of what the program prints now; their figures are a full training's."""

import re
from pathlib import Path

import pytest
from documents import ROOT, Block, read
from tiny import BACKBONE, Outcome, succeed

DOCS = ROOT / "docs"
NUMBER = re.compile(r"[-+]?\d[\d,.:]*(e[-+]?\d+)?")


def shown(page: str) -> list[Block]:
    return [block for block in read(DOCS / page).blocks if block.language == "text"]


def printed(outcome: Outcome) -> str:
    return f"{outcome.out}\n{outcome.err}"


def lines(text: str) -> list[str]:
    """The lines but for rules, ellipses and blank ones, with # for each number, one space for many."""
    kept = [line for line in text.splitlines() if re.search(r"\w", line)]
    plain = [NUMBER.sub("#", line.replace(" *", "  ")) for line in kept]
    return [" ".join(re.sub(r"\S+/runs/", "runs/", line).split()) for line in plain]


def metric(line: str) -> str | None:
    """The metric that a row of a table is of."""
    found = re.match(r"(?:# # )?([a-z_]{3,}) (?:a )?# ", line)
    return found[1] if found else None


def test_what_training_prints() -> None:
    short = ["--steps", "2", "--batch-size", "8", "--set", "training.log_every=1"]
    text = printed(succeed("train", "digits", "--name", "first", *short))
    block = shown("get-started.md")[0]
    assert set(lines(block.code)) - set(lines(text)) == set(), block.place
    (parameters,) = re.findall(r"unet of ([\d,]+) parameters", block.code)
    assert f"of {parameters} parameters" in text


def test_what_measuring_prints() -> None:
    small = ["--backbone", BACKBONE, "--batch-size", "8", "--steps", "2"]
    for name, weighting in (("a", "debiased"), ("b", "constant")):
        succeed("train", "digits", "--name", name, "--weighting", weighting, *small)
    measured, _ = (printed(succeed("evaluate", name, "--steps", "2")) for name in ("a", "b"))
    compared = printed(succeed("compare", "a", "b"))
    beginning = shown("get-started.md")[1].code.replace("second", "b").replace("first", "a")
    evaluation, comparison = (block.code for block in shown("concepts/results.md"))
    for page, text in ((evaluation, measured), (comparison, compared), (beginning, compared)):
        there, here = lines(page), lines(text)
        assert [line for line in there if not metric(line) and line not in here] == []
        if page is not beginning:  # which leaves rows out
            assert [*filter(None, map(metric, there))] == [*filter(None, map(metric, here))]
            assert len([*filter(None, map(metric, here))]) >= 11


def test_the_plan_of_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(
        r'^python -c "\n(.*?)^"', (DOCS / "get-started.md").read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    exec(code, {})
    text = printed(succeed("train", "./my-digits", "--dry-run"))
    plan = shown("get-started.md")[2].code.splitlines()
    assert len(plan) == 6
    for line in plan[:5]:
        assert line in text
    assert lines(plan[5].partition(" ...")[0])[0] in "\n".join(lines(text))  # its total is the machine's


def test_what_identify_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = read(DOCS / "how-to" / "identify.md")
    script = next(block.code for block in page.blocks if "cat > trainer.py" in block.code)
    Path("trainer.py").write_text(script.partition("<<'EOF'\n")[2].partition("\nEOF")[0])
    debiased = succeed("weightings", "identify", "trainer.py:debiased_weight", "--prediction", "v").out
    misused = succeed(
        "weightings", "identify", "trainer.py:apply_snr_weight", "--given", "gamma=5", "--prediction", "v"
    ).out
    first, second = shown("how-to/identify.md")
    assert set(lines(first.code)) - set(lines(debiased)) == set()
    assert set(lines(second.code)) - set(lines(misused)) == set()
