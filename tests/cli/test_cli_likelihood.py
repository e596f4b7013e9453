import json
import math
import shutil
from pathlib import Path

import pytest
from tiny import error_of, make_spec, succeed, train

from debiasctl.runs.store import find_run

QUICK = ("--num", "6", "--terms", "5", "--steps", "2", "--device", "cpu")
ZERO = {"diffusion__schedule": "cosine:zero_terminal_snr=true", "model__prediction": "v"}


@pytest.fixture(scope="module")
def _trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEBIASCTL_HOME", str(home))
        patch.delenv("DEBIASCTL_DATA", raising=False)
        train("plain", make_spec(training__steps=1))
        train("other", make_spec(training__steps=1, training__seed=1))
        train("zero", make_spec(training__steps=1, model__learned_variance=True, model__conditional=True, **ZERO))
        train("edm", make_spec(training__steps=1, model__prediction="edm", diffusion__schedule="edm"))
    return home


@pytest.fixture(autouse=True)
def trained(_trained: Path, debiasctl_home: Path) -> None:
    shutil.copytree(_trained, debiasctl_home, dirs_exist_ok=True)


def measure(*arguments: str) -> list[dict]:
    return json.loads(succeed("likelihood", *arguments, "--json").out)["likelihoods"]


@pytest.mark.parametrize("name", ["plain", "zero", "edm"])
def test_both_likelihoods_of_a_run(name: str) -> None:
    bound, ode = measure(name, *QUICK)
    variance = "learned" if name == "zero" else "fixed-small"
    assert bound["measured"]["sampler"] == f"bound:variance={variance}"
    assert (bound["measured"]["steps"], ode["measured"]["sampler"], ode["measured"]["steps"]) == (5, "ode", 2)
    for record in (bound, ode):
        assert (record["run"], record["checkpoint"]) == (name, 1)
        assert (record["measured"]["num"], record["measured"]["weights"]) == (6, "ema")
        (figure,) = record["metrics"].values()
        assert figure["better"] == "lower"
        assert all(math.isfinite(figure[part]) for part in ("value", "se", "se_draws"))
    assert bound["terms"][0]["low"] == bound["terms"][0]["high"] == 0
    assert bound["terms"][-1]["high"] == 999
    assert (bound["prior"]["bits"] == 0) == (name == "zero")
    assert ode["metrics"]["ode_bits_per_dim"]["discretisation"] > 0
    assert any("continuous" in text for text in bound["notes"]) == (name == "edm")
    assert any("zero SNR" in text for text in ode["notes"]) == (name == "zero")


def test_a_record_is_kept_and_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    records = measure("plain", *QUICK)
    run = find_run("plain")
    kept = sorted(json.loads(path.read_text()) == records[0] for path in run.evaluations_dir.iterdir())
    assert kept == [False, True]

    def refuse(*given: object) -> None:
        raise AssertionError("the images were read again")

    with monkeypatch.context() as patch:
        patch.setattr("debiasctl.evaluation.likelihood.likelihood.load_data", refuse)
        assert measure("plain", *QUICK) == records
    for changed in (["--seed", "1"], ["--num", "5"], ["--draws", "3"], ["--terms", "6"], ["--weights", "raw"]):
        (other,) = measure("plain", "--method", "bound", "--num", "6", "--terms", "5", *changed)
        assert other["metrics"] != records[0]["metrics"]
    (large,) = measure("plain", "--method", "bound", "--num", "6", "--terms", "5", "--variance", "fixed-large")
    assert large["metrics"] != records[0]["metrics"]


def test_a_damaged_record_is_reported() -> None:
    measure("plain", "--method", "ode", "--num", "6", "--steps", "2")
    (path,) = find_run("plain").evaluations_dir.iterdir()
    path.write_text("{}")
    message = error_of("likelihood", "plain", "--method", "ode", "--num", "6", "--steps", "2", code=1)
    assert f"{path} is damaged" in message


def test_runs_are_compared_by_their_likelihoods() -> None:
    for name in ("plain", "other"):
        measure(name, *QUICK)
    figures = json.loads(succeed("compare", "plain", "other", "--json").out)["figures"]
    assert {figure["metric"] for figure in figures} == {"bound_bits_per_dim", "ode_bits_per_dim"}
    assert "ode_bits_per_dim" in succeed("compare", "plain", "other").out


def test_the_table_and_the_plot(tmp_path: Path) -> None:
    svg, png = tmp_path / "terms.svg", tmp_path / "terms.png"
    outcome = succeed("likelihood", "plain", *QUICK, "--plot", str(svg))
    assert outcome.out.startswith("run 'plain', checkpoint 1 (ema weights): 6 held-out images of digits, 2 draws each")
    bound, ode = measure("plain", *QUICK, "--plot", str(png))
    for record in (bound, ode):
        (figure,) = record["metrics"].values()
        row = next(line for line in outcome.out.splitlines() if line.split()[:1] == [record["measured"]["sampler"]])
        assert f"{figure['value']:.4f}" in row.split()
    assert "t = 0 (256 grey levels)" in outcome.out
    assert "Variational bound of run 'plain', checkpoint 1" in svg.read_text()
    assert png.read_bytes().startswith(b"\x89PNG")
    assert svg.read_bytes() == _drawn_again(svg)


def _drawn_again(path: Path) -> bytes:
    succeed("likelihood", "plain", *QUICK, "--plot", str(path))
    return path.read_bytes()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--method", "vlb"], "unknown method 'vlb'. Known: bound, ode, both"),
        (["--method", "ode", "--terms", "5"], "--terms has no effect with --method ode"),
        (["--method", "ode", "--variance", "learned"], "--variance has no effect with --method ode"),
        (["--method", "ode", "--plot", "a.png"], "--plot has no effect with --method ode"),
        (["--method", "bound", "--steps", "4"], "--steps has no effect with --method bound"),
        (["--steps", "7"], "give an even number"),
        (["--terms", "some"], "--terms 'some': give all, or a number of timesteps from 2 to 1000"),
        (["--terms", "1001"], "choose from 2 to 1000"),
        (["--variance", "learned"], "--variance learned: this run's model has no learned variance"),
        (["--variance", "fixed-smal"], "Did you mean 'fixed-small'?"),
        (["--draws", "10001"], "--draws 10001: choose from 1 to 10,000"),
        (["--num", "297"], "--num 297: choose from 2 to 296"),
        (["--plot", "terms.gif"], "--plot terms.gif: the ending says what is written"),
        (["--weights", "last"], "--weights last"),
        (["--checkpoint", "77"], "run 'plain' has no checkpoint '77'"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments: list[str], message: str) -> None:
    assert message in error_of("likelihood", "plain", *arguments, code=2)
    assert not list(find_run("plain").evaluations_dir.glob("*"))


def test_too_few_held_out_images_are_no_range_to_choose_from() -> None:
    path = find_run("plain").path / "spec.json"
    raw = json.loads(path.read_text())
    raw["content"]["num_heldout"] = 1
    path.write_text(json.dumps(raw))
    message = error_of("likelihood", "plain", code=2)
    assert "has 1 held-out images, and a likelihood with its standard error needs 2 or more" in message
    assert "choose from" not in message


@pytest.mark.parametrize("what", ["evaluations", "--plot"])
def test_a_place_that_cannot_be_written_is_refused_before_any_work(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("debiasctl.evaluation.likelihood.likelihood.likelihood", None)
    place = tmp_path / "file" if what == "--plot" else find_run("plain").evaluations_dir
    place.write_text("x")
    more = ["--plot", place / "x.png"] if what == "--plot" else []
    assert f"{place} is not a folder" in error_of("likelihood", "plain", *QUICK, *more, code=1)
