"""`debiasctl compare` over arms: what it takes, prints and writes."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from records import add_evaluation, make_arm, make_run, plain_spec
from tiny import error_of, succeed

from debiasctl.cli.table_output import in_latex
from debiasctl.cli.verdict_table import COLUMNS
from debiasctl.comparison.study_record import Study

LOW, HIGH = [0.80, 0.82, 0.78], [1.20, 1.22, 1.19]
WIDTHS = (60, 80, 120, 200)
FIGURES = "arm,seed,metric,value,steps\n" + "".join(
    f"{arm},{seed},fid,{value},50\n"
    for arm, values in (("a", HIGH), ("b", LOW))
    for seed, value in enumerate(values)
)  # fmt: skip


@pytest.fixture
def arms() -> None:
    """Two arms of three seeds: constant-0-0 to -2 and debiased-0-0 to -2."""
    for run in [*make_arm("constant", HIGH), *make_arm("debiased", LOW)]:
        add_evaluation(run, {"precision": 0.5 + 0.001 * run.spec().training.seed}, steps=10)


def study(*arguments: object) -> dict:
    return json.loads(succeed("compare", *arguments, "--json").out)


# ---------------------------------------------------------------- what is compared


@pytest.mark.parametrize(
    "arguments",
    [
        ["*"], ["constant-*", "debiased-*"], ["constant-?-?", "debiased-0-[0-2]"], ["--where", "dataset=digits"],
        ["*", "--where", "weighting!=p2 and steps=6"],
    ],
)  # fmt: skip
def test_names_patterns_and_filters(arguments: list[str], arms: None) -> None:
    found = study(*arguments)
    assert [(arm["name"], [one["seed"] for one in arm["members"]]) for arm in found["arms"]] == [
        ("constant", [0, 1, 2]), ("debiased", [0, 1, 2]),
    ]  # fmt: skip
    assert [verdict["word"] for verdict in found["verdicts"] if verdict["primary"]] == ["better"]


def test_a_study_is_printed_as_it_is_read(arms: None) -> None:
    found = study("*")
    keys = ("json_version", "runs", "differences", "checkpoints", "figures")
    assert found["figures"] == []
    read = Study.from_json({key: value for key, value in found.items() if key not in keys}, source="stdout")
    assert read.primary == "fd_local@50"


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "name two or more different runs"),
        (["constant-0-0"], "name two or more different runs"),
        (["nothing-*"], "no run's name matches 'nothing-*'"),
        (["*", "--by", "stpes"], "--by: unknown axis 'stpes'. Did you mean 'steps'?"),
        (["*", "--reference", "p2"], "--reference: 'p2' is no arm"),
        (["*", "--primary", "fid"], "--primary: no arm has the metric 'fid'"),
        (["*", "--level", "fd_local"], "--level: 'fd_local' is not metric=value"),
        (["*", "--level", "fd_local=x"], "--level: 'fd_local=x' is not metric=value"),
        (["*", "--level", "fd_local@x=1"], "--level: 'fd_local@x=1' is not metric=value"),
        (["*", "--level", "@10=1"], "--level: '@10=1' is not metric=value"),
        (["*", "--level", "fd_local=1", "--level", "fd_local=2"], "--level: fd_local is given twice"),
        (["*", "--columns", "metric,valeu"], "--columns: unknown column 'valeu'. Did you mean 'value'?|Known: metric"),
        (["*", "--columns", ","], "--columns names none"),
        (["*", "--sort", "-diference"], "--sort: unknown column 'diference'. Did you mean 'difference'?"),
        (["*", "--all", "--columns", "metric"], "--all shows all columns, and --columns some"),
        (["*", "--csv", "-", "--json"], "--csv - and --json both write to stdout"),
        (["*", "--md", "-", "--latex", "-"], "--md - and --latex - both write to stdout"),
        (["*", "--arm", "a=x*"], "--arm gives images, which are measured. Say against what: --against"),
        (["*", "--against", "digits"], "--against and --features say how the images of --arm are measured"),
        (["*", "--figures", "x.csv"], "--figures does not say how its figures were measured"),
        (["--figures", "x.csv", "--by", "steps"], "--by names axes of measurement, and --figures has no measurements"),
        (["--arm", "a", "--against", "digits"], "--arm: 'a' is not name=pattern"),
        (["--arm", "a=/no/where*", "--against", "digits"], "--arm: no folder, .npz, .zip or .tar matches"),
        (["*", "--margin", "2"], "'--margin'"),
        (["*", "--top", "0"], "'--top'"),
    ],
)
def test_what_is_misused_is_refused(arguments: list[str], message: str, arms: None) -> None:
    found = error_of("compare", *arguments, code=2)
    assert any(part in found for part in message.split("|"))


def test_pairs_are_refused_where_seeds_differ(arms: None) -> None:
    make_arm("p2", LOW, first=1)
    assert study("constant-*", "debiased-*", "--paired")["paired"]
    message = error_of("compare", "constant-*", "p2-*", "--paired", code=2)
    assert message.startswith("--paired: the arms do not have the same seeds (constant: 0, 1, 2; p2: 1, 2, 3)")
    assert "note: the arms' seeds are not paired (constant" in succeed("compare", "constant-*", "p2-*").err


def test_damaged_records_are_named_and_skipped_only_on_request(arms: None) -> None:
    run = make_run("half", plain_spec("debiased", 9))
    add_evaluation(run, {"fd_local": 0.8})
    (file,) = run.evaluations_dir.iterdir()
    file.write_text(file.read_text()[:100])
    assert f"{file} is damaged" in error_of("compare", "*", code=1)
    outcome = succeed("compare", "*", "--skip-damaged")
    assert f"skipped: {file} is damaged" in outcome.out
    assert [len(arm["members"]) for arm in study("*", "--skip-damaged")["arms"]] == [3, 3]


# ---------------------------------------------------------------- figures and images made elsewhere


def test_figures_made_elsewhere(tmp_path: Path) -> None:
    file = tmp_path / "figures.csv"
    file.write_text(FIGURES)
    found = study("--figures", file)
    assert [(arm["name"], arm["kind"]) for arm in found["arms"]] == [("a", "figures"), ("b", "figures")]
    assert found["answer"].startswith("'b' is better than 'a' in fid at 50 steps")
    file.write_text(
        "\ufeffmetric , Seed,arm,VALUE\nprecision,0,a,0.5\n\nprecision,0,b,0.4\nprecision,1,a,0.5\nprecision,1,b,0.41\n"
    )
    (cell,) = study("--figures", file)["cells"]
    assert (cell["key"], cell["better"]) == ("precision", "higher")
    file.write_text("arm,seed,metric,value,better\na,0,mine,1,higher\nb,0,mine,2,higher\n")
    (cell,) = study("--figures", file)["cells"]
    assert cell["better"] == "higher"


@pytest.mark.parametrize(
    "text, line, problem",
    [
        ("", 1, "there are no figures in it"),
        ("arm,seed,metric,value\n", 2, "there are no figures in it"),
        ("arm,seed,metrc,value\na,0,fid,1\n", 1, "metric is missing. Did you mean 'metrc'?"),
        ("arm,seed,metric,value,setps\n", 1, "unknown column 'setps'. Did you mean 'steps'?"),
        ("arm,seed,metric,value,value\n", 1, "column value stands twice"),
        ("arm,seed,metric,value\na,0,fid,1\na,0,fid\n", 3, "it has 3 cells, and the first line names 4 columns"),
        ("arm,seed,metric,value\na,0.5,fid,1\n", 2, "seed '0.5' is not a whole number from 0"),
        ("arm,seed,metric,value\na,-1,fid,1\n", 2, "seed '-1' is not a whole number from 0"),
        ("arm,seed,metric,value\n,0,fid,1\n", 2, "the arm is empty"),
        ("arm,seed,metric,value\na,0,,1\n", 2, "the metric is empty"),
        ("arm,seed,metric,value\na,0,fid,nan\n", 2, "value 'nan' is not a finite number"),
        ("arm,seed,metric,value\na,0,fid,inf\n", 2, "value 'inf' is not a finite number"),
        ('arm,seed,metric,value\na,0,fid,"1,5"\n', 2, "value '1,5' is not a finite number, written"),
        ("arm,seed,metric,value\na,0,fid,1_0\n", 2, "value '1_0' is not a finite number"),
        ("arm,seed,metric,value\na,0,fid,1e200\n", 2, "value '1e200' is too large to compute with"),
        ("arm,seed,metric,value\na,0,fid,-1e-200\n", 2, "value '-1e-200' is too small to compute with"),
        ('arm,seed,metric,value\n"a\nb",0,fid,1\n', 2, "the arm 'a\\nb' has a line break"),
        ("arm,seed,metric,value\na,0,\x1b[31m,1\n", 2, "the metric '\\x1b[31m' has a line break or another control"),
        ("arm;seed;metric;value\na;0;fid;1\n", 1, "value is missing. Separate the columns by commas"),
        ("arm,seed,metric,value,steps\na,0,fid,1,0\n", 2, "steps '0' is not a whole number from 1"),
        ("arm,seed,metric,value,better\na,0,fid,1,up\n", 2, "better 'up': write lower, higher or closer to 0"),
        ("arm,seed,metric,value,better\na,0,x,1,lower\nb,0,x,1,higher\n", 3, "higher is better here, and lower"),
        ("arm,seed,metric,value\na,0,fid,1\n\na,0,fid,2\n", 4, "has a figure for fid already, in line 2"),
        ('arm,seed,metric,value\na,0,fid,1\nb,"0,fid,1\n', 3, "it is not CSV"),
    ],
)  # fmt: skip
def test_a_wrong_line_of_figures_is_named(text: str, line: int, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "figures.csv"
    file.write_text(text)
    message = error_of("compare", "--figures", file, code=1)
    assert message.startswith(f"{file}, line {line}: ")
    assert problem in message
    assert len(message.strip().splitlines()) == 1


def test_a_file_of_figures_that_cannot_be_read(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in error_of("compare", "--figures", tmp_path / "x.csv", code=1)
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00a")
    assert "x.csv cannot be read: " in error_of("compare", "--figures", tmp_path / "x.csv", code=1)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three seeds of two arms: digits with little and with much noise; one is a folder."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = (load_digits().images * 15.9).astype(np.uint8)
    draws = np.random.default_rng(0)
    for arm, noise in (("a", 60), ("b", 5)):
        for seed in range(3):
            chosen = digits[draws.integers(0, len(digits), 60)]
            noisy = np.clip(chosen + draws.normal(0, noise, chosen.shape), 0, 255).astype(np.uint8)
            if (arm, seed) == ("a", 2):
                (tmp_path / "out_a_seed2").mkdir()
                for number, one in enumerate(noisy):
                    Image.fromarray(one).save(tmp_path / "out_a_seed2" / f"{number:02d}.png")
            else:
                np.savez(tmp_path / f"out_{arm}_seed{seed}.npz", noisy[..., None])
    return tmp_path


def test_images_made_elsewhere_are_arms_and_are_measured_once(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [
        "--arm", f"a={images}/out_a_seed*", "--arm", f"b={images}/out_b_seed*", "--against", "digits",
        "--features", "pixels:dimension=4", "--metric", "fd_pixels",
    ]  # fmt: skip
    found = study(*arguments)
    assert [[one["seed"] for one in arm["members"]] for arm in found["arms"]] == [[0, 1, 2], [0, 1, 2]]
    assert found["answer"].startswith("'b' is better than 'a' in fd_pixels")
    with monkeypatch.context() as patch:
        patch.setattr("debiasctl.evaluation.evaluate.evaluate_images", lambda *_, **__: pytest.fail("measured again"))
        assert study(*arguments) == found
    shutil.copy(images / "out_b_seed0.npz", images / "out_b_seed1.npz")  # is measured, as it has changed
    values = study(*arguments)["cells"][0]["arms"][1]["figures"]
    assert values[0]["value"] == values[1]["value"] != values[2]["value"]


def test_seeds_of_images_are_read_from_their_names(images: Path) -> None:
    from debiasctl.comparison.external_images import parse_arm, parse_arms
    from debiasctl.errors import UsageError

    arm = parse_arm(f"mine = {images}/out_b_seed*")
    assert (arm.name, list(arm.paths), arm.note) == ("mine", [0, 1, 2], None)
    for name in ("x-10.npz", "x-9.npz", "x-last.npz"):
        (images / name).touch()
    arm = parse_arm(f"x={images}/x-*")
    assert [path.name for path in arm.paths.values()] == ["x-9.npz", "x-10.npz", "x-last.npz"]
    assert arm.note is not None
    assert "do not end in different seeds, which are counted in their order (0: x-9.npz, 1: x-10.npz" in arm.note
    with pytest.raises(UsageError, match="stands in the arms 'a' and 'b'"):
        parse_arms([f"a={images}/out_b*", f"b={images}/out_b_seed1*"])
    with pytest.raises(UsageError, match=r"the name 'a\\x1b\[31m' has a line break or another control character"):
        parse_arm(f"a\x1b[31m={images}/out_b*")


def test_images_that_cannot_be_measured_are_named(tmp_path: Path) -> None:
    for seed in range(2):
        np.savez(tmp_path / f"one-seed{seed}.npz", arr_0=np.zeros((2 - seed, 8, 8, 1), np.uint8))
    given = ("--arm", f"a={tmp_path}/one-seed*", "--against", "digits", "--features", "pixels:dimension=4")
    message = error_of("compare", *given, "--metric", "fd_pixels", code=1)
    assert message.startswith(f"{tmp_path}/one-seed1.npz: a distance needs at least 2 images")
    assert "unknown device 'nonsense'" in error_of("compare", "a", "b", "--device", "nonsense", code=2)


def test_what_images_are_measured_against_is_named_as_it_was_given(images: Path) -> None:
    error = error_of("compare", "--arm", f"a={images}/out_b*", "--against", "nope", code=2)
    assert error.startswith("--against 'nope' is neither a data set nor a path that exists")


# ---------------------------------------------------------------- what is shown


def at(width: int | None, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    with monkeypatch.context() as patch:
        patch.delenv("COLUMNS")
        if width is not None:
            patch.setenv("COLUMNS", str(width))
        return succeed(*arguments).out


def test_the_answer_comes_first_and_the_primary_metric_before_others(
    arms: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = at(None, monkeypatch, "compare", "*", "--primary", "precision@10", "--all")
    answer, what, verdicts, figures = out.split("\n\n")[:4]
    assert answer == study("*", "--primary", "precision@10")["answer"]
    assert "loss.weighting" in what
    assert [line.split()[0] for line in verdicts.splitlines()[3:]] == ["precision", "fd_local"]
    assert figures.startswith("figures: mean ± standard deviation over training seeds")


def test_every_width_says_all(arms: None, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = at(None, monkeypatch, "compare", "*", "--sort", "p")
    words = {word for word in re.split(r"[\s,;:]+", whole) if word.strip("─-")}
    for width in WIDTHS:
        out = at(width, monkeypatch, "compare", "*", "--sort", "p")
        assert [line for line in out.splitlines() if len(line) > width] == []
        assert words - set(re.split(r"[\s,;:]+", out)) == set(), width


def test_rows_and_columns_are_chosen(arms: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed, value in enumerate(HIGH):
        run = make_run(f"p2-{seed}", plain_spec("p2", seed))
        add_evaluation(run, {"fd_local": value + 0.01})
        add_evaluation(run, {"precision": 0.4}, steps=10)
    out = at(None, monkeypatch, "compare", "*")
    assert "precision" not in out
    assert "2 more rows, measured otherwise: --all" in out
    rows = list(
        csv.reader(
            io.StringIO(
                succeed("compare", "*", "--csv", "-", "--columns", "metric,arm,p", "--sort", "-p", "--top", "3").out
            )
        )
    )
    assert rows[0] == ["metric", "arm", "p"]
    values = [float(row[2]) for row in rows[1:]]
    assert len(values) == 3
    assert values == sorted(values, reverse=True)
    assert "steps" not in at(None, monkeypatch, "compare", "constant*", "debiased*").splitlines()[7]


def test_csv_has_every_column_in_full(arms: None, tmp_path: Path) -> None:
    succeed("compare", "*", "--csv", tmp_path / "x.csv")
    rows = list(csv.DictReader((tmp_path / "x.csv").open()))
    assert list(rows[0]) == list(COLUMNS)
    assert [(row["metric"], row["arm"], row["verdict"]) for row in rows[:2]] == [
        ("fd_local", "constant", "reference"), ("fd_local", "debiased", "better"),
    ]  # fmt: skip
    verdict = next(one for one in study("*")["verdicts"] if one["primary"])
    assert float(rows[1]["low"]) == verdict["low"]
    assert rows[0]["low"] == ""


def test_markdown(arms: None) -> None:
    lines = succeed("compare", "*", "--md", "-").out.splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert table[0] == "| metric | arm | figure | difference | ratio | verdict |"
    assert len({line.replace(r"\|", "").count("|") for line in table}) == 1
    assert table[3].startswith(r"| fd\_local | debiased | 0.8 ± 0.02 | -0.403 (")


def test_latex_is_ready_for_a_paper(arms: None, tmp_path: Path) -> None:
    succeed("compare", "*", "--latex", tmp_path / "t.tex")
    text = (tmp_path / "t.tex").read_text()
    for part in (r"\begin{table}", r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}", r"fd\_local", r"$\pm$"):
        assert part in text
    row = next(line for line in text.splitlines() if line.startswith(r"fd\_local & debiased"))
    assert re.search(
        r"& \$-\$0\.403 \(\$-\$0\.\d+ to \$-\$0\.\d+\) & \$\\times\$ 0\.665 \(0\.\d+ to 0\.\d+\) & better \\\\$", row
    )
    columns = re.search(r"\\begin\{tabular\}\{([lr]+)\}", text)
    assert columns is not None
    assert row.count(" & ") == len(columns[1]) - 1


@pytest.mark.parametrize(
    "text, escaped",
    [
        ("a_b & 5 % #1 $x$ {y}", r"a\_b \& 5 \% \#1 \$x\$ \{y\}"),
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("~a^b", r"\textasciitilde{}a\textasciicircum{}b"),
        ("-0.5 to +1e-5", "$-$0.5 to $+$1e-5"),
        ("min-snr:gamma=5", "min-snr:gamma=5"),
        ("a\nb", "a b"),
        ("< 1 %", r"\textless{} 1 \%"),
        ("[2] *a*", "{[}2{]} {*}a{*}"),
        ("a---b", "a-{}-{}-b"),
        ("\x1b[1m", "{[}1m"),
    ],
)
def test_names_are_escaped_in_latex(text: str, escaped: str) -> None:
    assert in_latex(text) == escaped


def test_one_seed_an_arm_says_how_often_seeds_do_as_much(arms: None) -> None:
    found = study("constant-0-0", "debiased-0-1")
    (verdict,) = [one for one in found["verdicts"] if one["primary"]]
    assert verdict["word"] == "one seed"
    assert verdict["seeds_alone"] < 0.01
    assert "on this data set, seeds alone do as much in less than 1 % of cases" in found["answer"]
    close = study("constant-0-0", "debiased-0-1", "--primary", "precision@10")
    assert 0.05 < next(one for one in close["verdicts"] if one["primary"])["seeds_alone"] < 0.9
    assert [one["seeds_alone"] for one in study("*")["verdicts"]] == [None, None]


def test_arms_are_compared_without_torch(arms: None) -> None:
    code = (
        "import sys\nfrom debiasctl.cli.app import main\nsys.argv = ['debiasctl', 'compare', '*', '--sort', 'p']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("'debiased' is better than 'constant' in fd_local at 50 steps")


def test_figures_that_do_not_vary_over_seeds(tmp_path: Path) -> None:
    file = tmp_path / "figures.csv"
    rows = [f"{arm},{seed},fid,{value}" for value, arm in enumerate("abc") for seed in (0, 1)]
    file.write_text("\n".join(["arm,seed,metric,value", *rows[:4]]))
    assert "2 seeds each; the figures do not vary over seeds" in study("--figures", file)["answer"]
    file.write_text("\n".join(["arm,seed,metric,value", *rows]))
    assert "'b' (+1, without an interval)" in study("--figures", file)["answer"]


def test_a_result_never_replaces_the_figures_or_another_result(tmp_path: Path) -> None:
    file, other = tmp_path / "figures.csv", tmp_path / "x.md"
    file.write_text(text := "arm,seed,metric,value\na,0,fid,1\nb,0,fid,2\n")
    for option in ("--csv", "--md", "--latex"):
        message = error_of("compare", "--figures", file, option, tmp_path / "." / file.name, code=2)
        assert f"--figures and {option} name one file, {file}" in message
    assert "--md and --latex name one file" in error_of(
        "compare", "--figures", file, "--md", other, "--latex", other, code=2
    )
    assert file.read_text() == text
    assert not other.exists()


def test_figures_without_steps_and_a_metric_that_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "figures.csv"
    file.write_text("arm,seed,metric,value\na,0,fid,1\nb,0,fid,2\n")
    assert "have no sampling steps: leave out @9" in error_of(
        "compare", "--figures", file, "--primary", "fid@9", code=1
    )
    assert "no figures in it of 'kid', only of fid" in error_of("compare", "--figures", file, "--metric", "kid", code=1)


def test_a_figure_that_cannot_be_computed_with(tmp_path: Path) -> None:
    for weighting, value in (("constant", 1.0), ("debiased", 1e308)):
        make_arm(weighting, [value, value])
    assert "fd_local@50 is 1e+308, which is too large to compute with" in error_of("compare", "*", code=1)
