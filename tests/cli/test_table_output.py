"""Tables as CSV, Markdown and LaTeX: what is in a cell stays in it."""

import csv
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from debiasctl.cli.table_output import table_text

HOSTILE = ["a|b", "a & b % c $ d # e _ f {g} ~ ^ \\ < > \" ` ' | [x]",
           "line\nbreak\r\ttab", "\x1b[31mred", "*a* `b` <i>",
           "[1, 2]", "-0.5", "1.2 ± 0.3", "", "=1+1", "_a_ b_c", "ünïcode 漢字"]  # fmt: skip
ROWS = [[text, index] for index, text in enumerate(HOSTILE)]


def test_csv_gives_back_what_went_in() -> None:
    text = table_text("csv", ["name", "n", "x"], [*([*row, 0.1 + 0.2] for row in ROWS), [None, True, None]])
    header, *rows = csv.reader(io.StringIO(text, newline=""))
    assert header == ["name", "n", "x"]
    assert [row[0] for row in rows] == [*HOSTILE, ""]
    assert {float(row[2]) for row in rows[:-1]} == {0.1 + 0.2}


def test_markdown_has_a_line_a_row_and_a_cell_a_column() -> None:
    lines = table_text("md", ["name", "n"], ROWS).splitlines()
    assert len(lines) == 2 + len(ROWS)
    assert lines[1] == "| --- | ---: |"
    for line in lines:
        assert len(re.split(r"(?<!\\)\|", line)) == 4
        assert "\x1b" not in line
        assert "<" not in line
    assert r"| \*a\* \`b\` &lt;i&gt; |" in lines[6]
    assert r"| \_a\_ b_c |" in lines[12]


def test_latex_escapes_what_it_would_obey() -> None:
    text = table_text("latex", ["name_1", "n"], ROWS)
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    assert lines[:3] == [r"\begin{tabular}{lr}", r"\toprule", r"name\_1 & n \\"]
    assert lines[-2:] == [r"\bottomrule", r"\end{tabular}"]
    rows = lines[4:-2]
    assert len(rows) == len(ROWS)
    assert rows[5] == r"{[}1, 2{]} & 5 \\"
    assert rows[6] == r"$-$0.5 & 6 \\"
    assert rows[7] == r"1.2 $\pm$ 0.3 & 7 \\"
    assert all(len(re.findall(r"(?<!\\)&", row)) == 1 for row in rows)


def test_latex_says_what_it_needs() -> None:
    assert table_text("latex", ["é", "–"], []).startswith("% needs \\usepackage{booktabs}\n\\begin")
    assert "\n% has letters that pdfLaTeX does not know: use XeLaTeX" in table_text("latex", ["漢"], [])


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_is_typeset_whatever_a_cell_holds(tmp_path: Path) -> None:
    rows = [
        [text.replace("漢字", "ß"), text] for text in (*HOSTILE, "[2pt]", "*", "\\", "^^M", "-1e-05 to +2", "?`", "σ")
    ]
    table = table_text("latex", ["[1]", "n"], [[name, "“" + name] for name, _ in rows])
    packages = r"\documentclass{article}\usepackage{booktabs}\begin{document}"
    (tmp_path / "t.tex").write_text(f"{packages}\n{table}\\end{{document}}\n")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]


def test_a_table_without_rows_has_its_header() -> None:
    assert table_text("csv", ["a", "b"], []) == "a,b\n"
    assert table_text("md", ["a", "b"], []) == "| a | b |\n| --- | --- |\n"
