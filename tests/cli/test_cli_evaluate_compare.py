import csv
import io
import json
import math
import re
from pathlib import Path

import pytest
from tiny import OPTIONS, error_of, succeed

from debiasctl.runs.store import find_run

LOCAL = ("--features", "local:steps=2,dimension=4,min_accuracy=0", "--metrics", "fd_local,kd_local")
PIXELS = ("--features", "pixels:dimension=4")


def evaluate(*arguments: str) -> list[dict]:
    return json.loads(succeed("evaluate", *arguments, "--json").out)["evaluations"]


def test_records(evaluated: Path) -> None:
    found = evaluate("a", "--num", "8", "--steps", "3,2,3", *LOCAL)
    assert [one["measured"]["steps"] for one in found] == [3, 2]
    for one in found:
        assert (one["run"], one["checkpoint"], one["nfe"]) == ("a", 4, one["measured"]["steps"])
        measured = one["measured"]
        assert (measured["dataset"], measured["features"], measured["num"]) == ("digits", "local", 8)
        assert measured["sampler"].startswith("ddim:")
        assert (measured["seed"], measured["weights"]) == (0, "ema")
        assert (measured["reference"], measured["reference_num"], measured["class"]) == ("train", 1501, None)
        assert set(one["metrics"]) == {"fd_local", "kd_local"}
        for figure in one["metrics"].values():
            assert all(math.isfinite(figure[part]) for part in ("value", "floor", "value_at_floor_num"))
            assert figure["better"] == "lower"
        assert (find_run("a").samples_dir / one["samples"] / "images.npz").is_file()
    assert found[0]["samples"] != found[1]["samples"]


def test_evaluating_again_changes_nothing(evaluated: Path) -> None:
    run = find_run("a")
    before = {path.name: path.read_bytes() for path in run.evaluations_dir.glob("*.json")}
    assert len(before) == 2
    again = evaluate("a", "--num", "8", "--steps", "2,3", *LOCAL)
    assert {path.name: path.read_bytes() for path in run.evaluations_dir.glob("*.json")} == before
    assert [one["metrics"] for one in again] == [
        one["metrics"] for one in sorted(map(json.loads, before.values()), key=lambda one: one["measured"]["steps"])
    ]


def test_colour_figures_need_no_network(evaluated: Path) -> None:
    names = "mean_shift_r,colour_fd, mean_shift_squared"
    (found,) = evaluate("colour-a", "--num", "8", "--steps", "2", "--metrics", names, *PIXELS)
    assert sorted(found["metrics"]) == ["colour_fd", "mean_shift_r", "mean_shift_squared"]
    assert found["metrics"]["mean_shift_r"]["better"] == "closer to 0"


def test_the_table_shows_the_figures(evaluated: Path) -> None:
    outcome = succeed("evaluate", "a", "--num", "8", "--steps", "2", *LOCAL)
    assert outcome.out.startswith("run 'a', checkpoint 4 (ema weights): 8 images by ddim against 1501 training images")
    (record,) = evaluate("a", "--num", "8", "--steps", "2", *LOCAL)
    for name, figure in record["metrics"].items():
        row = next(line for line in outcome.out.splitlines() if name in line).split()
        value, same = (f"{figure[part]:.4g}" for part in ("value", "value_at_floor_num"))
        assert row[:6] == ["2", "2", name, value, "-", same]
        assert f"{name}: no interval, {figure['interval_reason']}" in outcome.err.replace("fd_local, kd_local", name)


def test_the_table_shows_the_interval_behind_what_it_is_of(evaluated: Path) -> None:
    arguments = ("a", "--num", "100", "--steps", "2", *PIXELS, "--metrics", "fd_pixels")
    (record,) = evaluate(*arguments)
    figure = record["metrics"]["fd_pixels"]
    header, row = (
        next(line for line in succeed("evaluate", *arguments).out.splitlines() if part in line)
        for part in ("95 % interval", "fd_pixels")
    )
    assert header.index("N 100") < header.index("corrected") < header.index("95 % interval")
    low, high = (f"{figure['interval'][end]:.4g}" for end in ("low", "high"))
    assert row.split()[3:8] == [f"{figure['value']:.4g}", f"{figure['corrected']:.4g}", f"({low}", "to", f"{high})"]
    floor = figure["floor_interval"]
    assert f"{figure['floor_corrected']:.4g} ({floor['low']:.4g} to {floor['high']:.4g})" in row


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--steps", "10,x"], "--steps '10,x': give whole numbers from 1, separated by commas"),
        (["--steps", "0"], "--steps '0'"),
        (["--steps", ""], "--steps is empty"),
        (["--metrics", "fd_locl"], "unknown metric 'fd_locl' with features 'local'. Did you mean 'fd_local'?"),
        (["--metrics", "colour_fd"], "is for RGB images; this data set's are grey"),
        (["--metrics", "fid"], "metric 'fid' needs --features inception; in features 'local' it is 'fd_local'"),
        (["--metrics", "sfid"], "metric 'sfid' needs --features inception"),
        (["--metrics", "inception_score"], "metric 'inception_score' needs --features inception"),
        (["--metrics", "kd_clip"], "metric 'kd_clip' needs --features clip; in features 'local' it is 'kd_local'"),
        (["--metrics", "fd_local", "--features", "inception"], "metric 'fd_local' needs --features local; in features"),
        (["--checkpoint", "77"], "run 'a' has no checkpoint '77'"),
        (["--sampler", "ddin"], "unknown sampler 'ddin'. Did you mean 'ddim'?"),
        (["--reference", "nothere"], "--reference 'nothere' is neither a data set nor a path"),
        (["--export-reference", "x.pt"], "choose one of .npz"),
        (["--metrics", ","], "no metric is requested"),
        (["--features", "locl"], "unknown feature extractor 'locl'. Did you mean 'local'?"),
        (["--features", "local:dim=3"], "feature extractor 'local': unknown option 'dim'"),
        (["--num", "1"], "'--num'"),
    ],
)
def test_what_cannot_be_measured(arguments: list[str], message: str, evaluated: Path) -> None:
    found = error_of("evaluate", "a", "--num", "4", *arguments, code=2)
    assert any(part in found for part in message.split("|"))


# ---------------------------------------------------------------- comparison


def test_figures_side_by_side(evaluated: Path) -> None:
    found = json.loads(succeed("compare", "a", "b", "--json").out)
    assert found["runs"] == ["a", "b"]
    assert found["differences"] == {"loss.weighting.name": ["debiased", "constant"]}
    assert found["checkpoints"] == [[4], [4]]
    assert {(one["metric"], one["measured"]["steps"]) for one in found["figures"]} == {
        (metric, steps) for metric in ("fd_local", "kd_local") for steps in (2, 3)
    }
    for figure in found["figures"]:
        values = []
        for name in ("a", "b"):
            for file in find_run(name).evaluations_dir.glob("*.json"):
                record = json.loads(file.read_text())
                if record["measured"] == figure["measured"]:
                    values.append(record["metrics"][figure["metric"]]["value"])
        assert figure["values"] == values
        assert figure["differences"] == [0, values[1] - values[0]]
        assert figure["best"] is None  # of 8 images: there is no interval, and so no telling
        assert figure["interval_reasons"][0] is None
        assert figure["interval_reasons"][1].startswith("an interval needs at least ")


def test_one_seed_an_arm_has_figures_and_no_star(evaluated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However far two sets of images are apart, nothing is known of other training seeds."""
    monkeypatch.delenv("COLUMNS")
    outcome = succeed("compare", "a", "b")
    assert outcome.out.startswith("With one training seed an arm, nothing can be said about the weighting: debiased ")
    assert "loss.weighting.name" in outcome.out
    assert "note: fd_local, kd_local: no interval, an interval needs at least 100 images, not 8" in outcome.err
    for run in ("a", "b"):
        succeed("evaluate", run, "--num", "100", "--steps", "2", "--metrics", "mean_shift_grey", *PIXELS)
    found = json.loads(succeed("compare", "a", "b", "--metric", "mean_shift_grey", "--json").out)
    (figure,) = found["figures"]
    interval, out = figure["intervals"][1], succeed("compare", "a", "b", "--metric", "mean_shift_grey").out
    rows = {line.split()[1]: line for line in out.splitlines() if line.split()[:1] == ["mean_shift_grey"]}
    shown = f"{interval['estimate']:+.3g} ({interval['low']:+.3g} to {interval['high']:+.3g})"
    assert shown in " ".join(rows["b"].split())
    assert "difference (95 %, these two sets of images)" in out
    assert "*" not in out
    assert [verdict["word"] for verdict in found["verdicts"]] == ["one seed"]


def test_differences_have_intervals_and_conditions_that_vary_are_named(
    evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS")
    assert "features" not in succeed("compare", "a", "b").out
    for run in ("a", "b"):
        succeed("evaluate", run, "--num", "100", "--steps", "2", "--metrics", "density", *PIXELS)
    outcome = succeed("compare", "a", "b", "--csv", tmp_path / "x.csv")
    lines = outcome.out.splitlines()
    (head,) = [number for number, line in enumerate(lines) if "N 100, features pixels, of identity " in line]
    assert any("N 8, features local, of identity " in line for line in lines)
    (row,) = [number for number, line in enumerate(lines) if line.split()[:2] == ["density", "b"]]
    assert head < row < head + lines[head:].index("")  # in the table below it
    (figure,) = json.loads(succeed("compare", "a", "b", "--metric", "density", "--json").out)["figures"]
    interval = figure["intervals"][1]
    assert figure["intervals"][0] is None
    assert interval["low"] <= figure["differences"][1] <= interval["high"]
    assert f"{interval['low']:+.3g} to {interval['high']:+.3g}" in lines[row]
    assert "intervals cover sampling alone" in outcome.err
    rows = [row for row in csv.DictReader((tmp_path / "x.csv").open()) if row["metric"] == "density"]
    assert (rows[0]["low"], rows[0]["high"]) == ("", "")
    assert (float(rows[1]["low"]), float(rows[1]["high"])) == (interval["low"], interval["high"])


def test_csv_says_what_json_says(evaluated: Path, tmp_path: Path) -> None:
    outcome = succeed("compare", "a", "b", "--csv", tmp_path / "new" / "x.csv", "--json")
    found = json.loads(outcome.out)
    text = (tmp_path / "new" / "x.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 2 * len(found["figures"])
    for number, row in enumerate(rows):
        figure, index = found["figures"][number // 2], number % 2
        assert row["metric"] == figure["metric"]
        assert row["run"] == found["runs"][index]
        assert float(row["value"]) == figure["values"][index]
        assert float(row["difference"]) == figure["differences"][index]
        assert row["best"] == str(int(index == figure["best"]))
        assert float(row["floor"]) == figure["floor"]
        for field in ("sampler", "steps", "num", "seed", "weights", "features"):
            assert row[field] == str(figure["measured"][field])
    alone = succeed("compare", "a", "b", "--csv", "-")
    assert alone.out == text
    assert "Give one of them" in error_of("compare", "a", "b", "--csv", "-", "--json", code=2)


def test_what_cannot_be_compared(evaluated: Path) -> None:
    assert "name two or more different runs" in error_of("compare", "a", code=2)
    assert "name two or more different runs" in error_of("compare", "a", "a", code=2)
    message = error_of("compare", "a", "b", "--metric", "fd_locl", code=2)
    assert "Did you mean 'fd_local'?" in message
    message = error_of("compare", "a", "colour-a", code=1)
    assert "measured differently" in message
    assert "dataset: a digits, colour-a folder" in message
    succeed("train", "digits", *OPTIONS, "--steps", "1", "--name", "new")
    assert "run 'new' has not been evaluated. Do that first: debiasctl evaluate new" in error_of(
        "compare", "a", "new", code=1
    )
    succeed("evaluate", "new", "--num", "9", "--steps", "2", *LOCAL)
    assert "(num: a 8, new 9" in error_of("compare", "a", "new", code=1)


def test_a_csv_that_cannot_be_written(evaluated: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "is a folder" in error_of("compare", "a", "b", "--csv", tmp_path, code=2)
    message = error_of("compare", "a", "b", "--csv", tmp_path / "file" / "x.csv", code=1)
    assert message.startswith(f"cannot write {tmp_path / 'file' / 'x.csv'}: {tmp_path / 'file'} is not a folder")


def test_specs_that_do_not_differ(evaluated: Path) -> None:
    succeed("train", "digits", "--weighting", "debiased", *OPTIONS, "--steps", "4", "--name", "twin")
    succeed("evaluate", "twin", "--num", "8", "--steps", "2", *LOCAL)
    outcome = succeed("compare", "a", "twin")
    assert "the specs are equal" in outcome.out
    assert re.search(r"^ *checkpoint +4 +4 *$", outcome.out, flags=re.MULTILINE)
    found = json.loads(succeed("compare", "a", "twin", "--json").out)
    assert found["differences"] == {}
    for figure in found["figures"]:  # one seed, one spec: one result, and neither is the better
        assert figure["differences"] == [0, 0]
        assert figure["best"] is None
