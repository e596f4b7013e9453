"""`debiasctl weightings table|plot`, and the curves of `debiasctl plugins describe weightings`."""

import contextlib
import csv
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import debiasctl, error_of, succeed

from debiasctl import registry
from debiasctl.analysis.weight_curves import schedule_process
from debiasctl.cli.app import main

ZERO = "linear:zero_terminal_snr=true"
NAMES = sorted(record.name for record in registry.records("weightings") if record.distribution == "debiasctl")
UNITS = ("eps", "x0", "v", "flow")


def needs_options(name: str) -> bool:
    return any(field.is_required() for field in registry.load("weightings", name).Options.model_fields.values())


USABLE = [name for name in NAMES if not needs_options(name)]


def table(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(succeed("weightings", "table", *arguments, "--json").out)
    return found


def column(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


# ---------------------------------------------------------------- table


@pytest.mark.parametrize("schedule", ["linear", "cosine", "sigmoid", "edm:num_timesteps=50"])
@pytest.mark.parametrize("normalize", ["mean", "none"])
def test_the_table_as_json(schedule: str, normalize: str) -> None:
    found = table("--schedule", schedule, "--normalize", normalize)
    process = schedule_process(schedule)
    assert list(found) == ["json_version", "snr", "t", "weights"]
    assert found["snr"] == process.snr.tolist()
    assert found["t"] == list(range(process.num_timesteps))
    assert sorted(found["weights"]) == USABLE
    assert {"product", "table"} <= set(NAMES) - set(USABLE)
    for name, units in found["weights"].items():
        assert list(units) == list(UNITS)
        eps, x0, v, flow = (column(units[unit]) for unit in UNITS)
        torch.testing.assert_close(x0, eps * process.snr, rtol=1e-12, atol=0)
        torch.testing.assert_close(x0, v * (process.snr + 1), rtol=1e-12, atol=0)
        torch.testing.assert_close(x0, flow * (process.snr.sqrt() + 1) ** 2, rtol=1e-12, atol=0)
        if normalize == "mean":
            assert float(eps.mean()) == pytest.approx(1, rel=1e-12)
        elif name == "debiased":
            torch.testing.assert_close(eps, process.snr.rsqrt(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "edm", "flow"])
def test_the_mean_is_1_on_what_the_network_predicts(prediction: str) -> None:
    refs = ("debiased", "min-snr:gamma=3", 'product:factors=[p2,"sigmoid:bias=1"]')
    found = table(*refs, "--prediction", prediction)
    assert list(found["weights"]) == list(refs)  # as given, in the order given
    snr = column(found["snr"])
    for units in found["weights"].values():
        assert list(units) == [*UNITS] + ["edm"] * (prediction == "edm")
        assert float(column(units[prediction]).mean()) == pytest.approx(1, rel=1e-12)
        torch.testing.assert_close(column(units["x0"]), column(units["v"]) * (snr + 1), rtol=1e-12, atol=0)
        if prediction == "edm":
            torch.testing.assert_close(column(units["x0"]), column(units["edm"]) * (snr + 4), rtol=1e-12, atol=0)


def test_csv_holds_the_same_numbers() -> None:
    refs = ("debiased", 'product:factors=[p2,"min-snr:gamma=2"],space=v')
    settings = ("--schedule", "cosine:num_timesteps=30", "--prediction", "edm")
    expected = table(*refs, *settings)
    rows = list(csv.DictReader(io.StringIO(succeed("weightings", "table", *refs, *settings, "--csv").out)))
    assert list(rows[0]) == ["t", "snr", "weighting", *UNITS, "edm"]
    assert len(rows) == 2 * 30
    for row in rows:
        t = int(row["t"])
        assert float(row["snr"]) == expected["snr"][t]
        for unit in (*UNITS, "edm"):
            assert float(row[unit]) == expected["weights"][row["weighting"]][unit][t]


def test_zero_terminal_snr() -> None:
    message = error_of("weightings", "table", "--schedule", ZERO, code=2)
    assert "eps-prediction cannot be used on a schedule with zero terminal SNR" in message
    assert "--prediction v, x0 or flow" in message
    raw = table("debiased", "--schedule", ZERO, "--normalize", "none")
    assert raw["snr"][-1] == 0
    assert raw["weights"]["debiased"]["v"][-1] == pytest.approx(1e-10)
    found = table("--schedule", ZERO, "--prediction", "v")
    for units in found["weights"].values():
        values = torch.stack([column(units[unit]) for unit in UNITS])
        assert bool((torch.isfinite(values) & (values >= 0)).all())
        assert float(column(units["v"]).mean()) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table", "--json", "--csv"], "--json and --csv are two ways to print one table. Give one of them"),
        (["table", "debias"], "unknown weighting 'debias'. Did you mean 'debiased'?"),
        (["plot", "min-snr", "debias"], "unknown weighting 'debias'. Did you mean 'debiased'?"),
        (["table", "p2:gama=1"], "weighting 'p2': unknown option 'gama'. Did you mean 'gamma'?"),
        (["table", "p2:k"], "'k' has no '='"),
        (["table", "product"], "option 'factors' is required"),
        (["table", "p2", "debiased", "p2"], "weighting 'p2' is given twice. Give each once"),
        (["plot", "p2", "debiased", "p2"], "weighting 'p2' is given twice. Give each once"),
        (["table", "--schedule", "linaer"], "unknown schedule 'linaer'. Did you mean 'linear'?"),
        (["plot", "--timesteps", "unifrom"], "Did you mean 'uniform'?"),
        (["table", "--prediction", "epsilon"], "--prediction epsilon: choose one of eps, x0, v, edm, flow"),
        (["plot", "--prediction", "epsilon"], "--prediction epsilon: choose one of eps, x0, v, edm, flow"),
        (["table", "--normalize", "max"], "--normalize max: choose mean or none"),
        (
            ["plot", "--out", "weights.jpg"],
            "--out weights.jpg: the ending says what is written; choose one of .png, .svg",
        ),
        (["plot", *NAMES[:5], *(f"p2:k={k}" for k in range(1, 7))], "11 weightings cannot be told apart in one plot"),
        (["plot", "--schedule", ZERO], "eps-prediction cannot be used on a schedule with zero terminal SNR"),
    ],
)
def test_what_is_refused(arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in error_of("weightings", *arguments, code=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_table_can_be_read_in_a_narrow_terminal(schedule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """80 columns: every name stands whole on a line of its own, and every number on it is one of the table's."""
    monkeypatch.setenv("COLUMNS", "80")
    text = succeed("weightings", "table", "--schedule", schedule).out
    found = table("--schedule", schedule)
    blocks = text.split("Weight on the error of ")[1:]
    assert [block.split()[0] for block in blocks] == list(UNITS)
    for unit, block in zip(UNITS, blocks, strict=True):
        lines = [line.split() for line in block.splitlines()[1:] if line.strip(" ─-|+")]
        assert lines[0][0] == "t"
        timesteps = [int(cell) for cell in lines[0][1:]]
        assert len(timesteps) >= 4
        assert (timesteps[0], timesteps[-1]) == (0, 999)
        assert lines[1] == ["SNR", *(f"{found['snr'][t]:.2g}" for t in timesteps)]
        rows = {line[0]: line[1:] for line in lines[2:]}
        assert len(rows) == len(lines) - 2
        assert rows == {name: [f"{units[unit][t]:.2g}" for t in timesteps] for name, units in found["weights"].items()}
    assert max(map(len, text.splitlines())) <= 80


def test_a_broken_weighting_is_named_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tiny import write_distribution

    write_distribution(tmp_path, name="bad", version="1", entry_points={"debiasctl.weightings": {
        "broken": "no_such_module:X"}}, modules={})  # fmt: skip
    monkeypatch.syspath_prepend(tmp_path)
    outcome = succeed("weightings", "table", "--json")
    assert sorted(json.loads(outcome.out)["weights"]) == USABLE
    assert "left out: weighting 'broken' of bad 1 cannot be imported" in outcome.err
    assert "cannot be imported" in error_of("weightings", "table", "broken", code=1)


# ---------------------------------------------------------------- plot


def test_a_plot_is_written_where_it_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in the picture is tested with debiasctl.analysis.weight_plot."""
    seen: dict[str, Any] = {}

    def record(path: Path, curves: Any, **settings: Any) -> None:
        seen.update(path=path, names=list(curves.weights), units=curves.units, density=curves.density, **settings)

    monkeypatch.setattr("debiasctl.analysis.weight_plot.plot_weights", record)
    monkeypatch.chdir(tmp_path)
    assert succeed("weightings", "plot").out == "weights.png\n"
    density = seen.pop("density")
    torch.testing.assert_close(density, torch.ones(1000, dtype=torch.float64), rtol=1e-12, atol=0)
    assert seen == {
        "path": Path("weights.png"), "names": ["constant", "p2", "min-snr", "debiased"],
        "units": ["eps", "x0", "v", "flow"], "schedule": "linear",
        "prediction": "eps", "normalize": "mean", "timesteps": "uniform", "width": "page",
    }  # fmt: skip
    succeed("weightings", "plot", "edm", "--schedule", "edm", "--prediction", "edm", "--timesteps", "lognormal",
            "--normalize", "none", "--out", tmp_path / "a.svg")  # fmt: skip
    density = seen.pop("density")
    assert float(density.mean()) == pytest.approx(1)
    assert float(density.max()) > 2
    assert seen == {
        "path": tmp_path / "a.svg", "names": ["edm"], "units": ["eps", "x0", "v", "flow", "edm"],
        "schedule": "edm", "prediction": "edm", "normalize": "none", "timesteps": "lognormal", "width": "page",
    }  # fmt: skip


def test_a_way_of_drawing_plots_the_objective_of_its_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("debiasctl.analysis.weight_plot.plot_weights", lambda path, curves, **_: seen.append(curves))
    for timesteps in ("importance", "uniform", "importance:base=speed", "speed"):
        succeed("weightings", "plot", "--timesteps", timesteps, "--out", tmp_path / "a.png")
    for drawn, base in (seen[:2], seen[2:]):
        torch.testing.assert_close(drawn.density, base.density, rtol=1e-12, atol=0)
        torch.testing.assert_close(drawn.weights["p2"]["v"], base.weights["p2"]["v"], rtol=1e-12, atol=0)
    assert not torch.equal(seen[0].density, seen[2].density)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    out = tmp_path / "file" / "weights.png"
    message = error_of("weightings", "plot", "debiased", "--out", out, code=1)
    assert message.startswith(f"cannot write {out}: ")
    assert (tmp_path / "file").read_text() == "x"


# ---------------------------------------------------------------- describe


def described(name: str, encoding: str) -> str:
    """What `plugins describe` prints where stdout has that encoding, opened as `cli.streams` does."""
    stream, err = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="backslashreplace"), io.StringIO()
    arguments = ["debiasctl", "plugins", "describe", "weightings", name]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(stream), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", arguments)
        with contextlib.suppress(SystemExit):
            main()
    assert err.getvalue() == ""
    stream.flush()
    return stream.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined, no-any-return]


def is_braille(character: str) -> bool:
    return "\u2800" < character <= "\u28ff"


@pytest.mark.parametrize("name", NAMES)
def test_a_weighting_is_described_with_its_curve(name: str) -> None:
    text = described(name, "utf-8")
    doc = (registry.load("weightings", name).__doc__ or "").strip().splitlines()[0]
    assert doc in text
    drawn = [line for line in text.splitlines() if any(map(is_braille, line))]
    if needs_options(name):
        assert drawn == []
        assert "With its defaults" not in text
        assert "required" in text
        return
    space = registry.create("weightings", name).space
    assert f"the error of {space}" in text
    columns = {index for line in drawn for index, character in enumerate(line) if is_braille(character)}
    assert len(columns) == 64  # from one end of the SNRs to the other
    assert text.rstrip().splitlines()[-1].split()[0] == "4.04e-05"  # the table reaches the noisy end of the schedule
    for encoding in ("ascii", "cp1252"):
        plain = described(name, encoding)
        assert not any(map(is_braille, plain))
        assert not re.search(r"\\u28|⣀|\?\?", plain)
        assert "With its defaults on the linear schedule" in plain
    assert succeed("plugins", "describe", "weightings", name).out  # a stream that names no encoding


@pytest.mark.parametrize("name", USABLE)
def test_a_description_as_json_has_the_weights(name: str) -> None:
    found = json.loads(succeed("plugins", "describe", "weightings", name, "--json").out)
    full = table(name, "--normalize", "none")
    every = [full["snr"].index(snr) for snr in found["snr"]]
    assert len(every) >= 50
    assert (every[0], every[-1]) == (0, 999)
    assert list(found["weights"]) == list(UNITS)
    for unit in UNITS:
        assert found["weights"][unit] == [full["weights"][name][unit][t] for t in every]
    assert found["space"] == registry.create("weightings", name).space


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(USABLE)))
def test_a_description_of_what_needs_options_has_none(name: str) -> None:
    outcome = debiasctl("plugins", "describe", "weightings", name, "--json")
    assert outcome.code == 0
    found = json.loads(outcome.out)
    assert not {"snr", "weights", "space"} & set(found)
    assert any(option["required"] for option in found["options"])
