"""Filters over runs: what they take, what they refuse, and which runs patterns and filters choose together."""

import json
from dataclasses import replace
from typing import Any

import pytest

from debiasctl import paths
from debiasctl.errors import ReferenceSyntaxError, RunError, RunNameError, UsageError
from debiasctl.runs.filters import parse_where
from debiasctl.runs.labels import change_labels
from debiasctl.runs.selection import matching_runs
from debiasctl.runs.status import new_status
from debiasctl.runs.store import Run, create_run
from debiasctl.specs.resolve import validate_spec

SHORT = {"weighting": "loss.weighting", "lr": "optimizer.lr", "batch-size": "training.batch_size",
         "dataset": "data.dataset", "image-size": "data.dataset.image_size", "steps": "training.steps"}  # fmt: skip

MIN_SNR = {"name": "min-snr", "options": {"gamma": 5.0}}  # as a spec stores it


def make_run(name: str, *, created: str | None = None, state: Any = "finished", step: int = 0, **settings: Any) -> Run:
    spec = validate_spec({"data": {"dataset": {"name": "digits", "options": {"image_size": 8}}}} | settings)
    status = new_status(
        num_steps=spec.training.steps,
        dataset=spec.data.dataset.name,
        weighting=spec.loss.weighting.name,
        seed=spec.training.seed,
    )
    status = replace(status, state=state, step=step, created=created or status.created)
    return create_run(name, spec, status=status)


@pytest.fixture
def run() -> Run:
    made = make_run(
        "a-run",
        created="2026-05-31T23:59:59.500+00:00",
        step=30,
        loss={"weighting": MIN_SNR, "timesteps": "importance:base=uniform"},
        optimizer={"lr": 1e-3, "betas": [0.9, 0.99]},
        training={"seed": 7, "batch_size": 64},
        extensions=[{"name": "sparsity", "options": {"share": 0.5}}],
        provenance={"packages": {"torch-x.y": "2.1"}},
    )
    change_labels(made, add=["paper", "first"], note="looks odd; again")
    return made


@pytest.mark.parametrize(
    "where",
    [
        "weighting=min-snr", "weighting = min-snr", "weighting==min-snr:gamma=5.0", "weighting='min-snr:gamma=5'",
        "loss.weighting=min-snr", "weighting!=debiased", "weighting!=min-snr:gamma=6", "weighting.gamma<=5",
        "loss.weighting.gamma=5", "loss.weighting.options.gamma>4", "loss.weighting.name=min-snr",
        "weighting=min-snr and dataset=digits AND lr<1e-2", "lr=0.001", "lr=1e-3", "lr>=.001", "lr!=2",
        "batch-size=64", "images>=6400000",
        "batch_size=64.0", "training.batch_size>=64", "image-size=8", "data.dataset.image_size<9",
        "state=finished", "state!=failed", "seed=7", "seed<8", "name=a-run", "name=a-*", "name!=b*", "name!='a-*'",
        "step>29.5", "step=30", "created>2026-04", "created=2026-05-31", "created='2026-05-31 23:59'",
        "created<2026-06", "created>=2026", "created<=2026-05-31T23:59:59Z", "created!=2025", "tag=paper", "tag=fir*",
        "tag!=last", "tag!=null", "note='looks odd; again'", "note=*odd*", "horizontal_flip=false and lr<1",
        "data.horizontal_flip=false", "monitor.every=null", "monitor.every!=5", "optimizer.betas=[0.9, 0.99]",
        "extensions=sparsity", "extensions=sparsity:share=0.5", "extensions!=other", "ema.kind=decay", "ema.decay>0.9",
        "ema.lengths=null", "provenance.packages.torch-x.y=2.1", "clip_grad_norm=null and lr<1",
        "timesteps=importance and lr<1",
    ],
)  # fmt: skip
def test_a_filter_takes_the_run(run: Run, where: str) -> None:
    short = SHORT | {"horizontal_flip": "data.horizontal_flip", "clip_grad_norm": "optimizer.clip_grad_norm",
                     "timesteps": "loss.timesteps"}  # fmt: skip
    assert parse_where(where, short).matches(run)


@pytest.mark.parametrize(
    "where",
    [
        "weighting=debiased", "weighting=min-snr:gamma=6", "weighting=min-snr:other=5", "weighting!=min-snr",
        "weighting!=min-snr:gamma=5.0", "weighting=min-snr and lr>1", "lr<0.001", "lr>0.001", "lr!=1e-3", "seed=8",
        "state=training", "name=a", "name='a-*'", "name!=a*", "step>30", "step<30", "created=2026-05-30",
        "created>2026-05", "created>2026-05-31", "created<2026-05-31", "created>=2026-06", "tag=last", "tag!=paper",
        "tag=null",
        "note=odd", "monitor.every=5", "monitor.every<5", "monitor.every!=null", "optimizer.betas=[0.9]",
        "optimizer.betas=[0.9,0.999]", "extensions=other", "extensions!=sparsity", "ema.lengths=[0.1]",
        "loss.weighting.gamma=x", "loss.weighting.gamma<5", "loss.normalize=none", "data.horizontal_flip=true",
    ],
)  # fmt: skip
def test_a_filter_does_not_take_the_run(run: Run, where: str) -> None:
    assert not parse_where(where, SHORT).matches(run)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("", "at its end: a field is expected here"),
        ("  ", "at its end"),
        ("weighting", "at its end: one of = != <= >= < > is expected after 'weighting'"),
        ("weighting debiased", "at 'debiased' (character 11): one of ="),
        ("weighting=", "at its end: a value is expected after 'weighting='"),
        ("weighting=a dataset=b", "at 'dataset=b' (character 13): 'and' is expected here"),
        ("weighting=a, dataset=b", "unknown"),
        ("weighting=a or dataset=b", "at 'or dataset=b' (character 13): 'and' is expected here. Conditions are joined"),
        ("not weighting=a", "there is no 'not': conditions are joined by 'and' alone"),
        ("weighting=a and", "at its end: a field is expected"),
        ("and weighting=a", "at 'and weighting=a' (character 1): a field"),
        ("(weighting=a)", "character 1): a field is expected here"),
        ("lr=>3", "at '>3' (character 4): a value is expected here"),
        ("lr=[1, 2", "a bracket is left open: ']' is missing"),
        ("name='a", "the quote ' is left open"),
        ("=3", "a field is expected here"),
        ("weigthing=a", "unknown field 'weigthing'. Did you mean 'weighting'? Known: name, state, step, seed, "),
        ("gamma_x=a", "unknown field 'gamma_x'. Known: name"),
        ("warmup_steps=3", "Did you mean 'optimizer.warmup_steps'?"),
        ("optimizer.learning=3", "Known: optimizer.lr, optimizer.betas"),
        ("optimizer.lrr=3", "unknown field 'optimizer.lrr'. Did you mean 'optimizer.lr'?"),
        ("optimizer=3", "unknown field 'optimizer'"),
        ("optimizer.lr.x=3", "unknown field 'optimizer.lr.x'"),
        ("state=runing", "state is never 'runing'. Did you mean 'training'? It is one of created, "),
        ("model.prediction=noise", "Did you mean 'eps'?"),
        ("weighting<debiased", "'weighting<debiased': weighting has no order: compare it with = or !="),
        ("name<b", "name has no order"),
        ("lr=fast", "optimizer.lr is a number, and 'fast' is none"),
        ("lr<1_0", "is a number"),
        ("lr<nan", "is a number"),
        ("lr<1e999", "is a number"),
        ("lr<null", "null, which is not set, is compared with = and != alone"),
        ("created>yesterday", "created is a time, and 'yesterday' is none: write 2026-05-31"),
        ("created>2026-13", "created is a time"),
        ("created>9999", "created is a time"),
        ("data.horizontal_flip=maybe", "It is one of true, false"),
        ("weighting.gamma<x", "loss.weighting.gamma is a number"),
        ("name=\x1b[31m", "left open"),
        ("x" * 10_001, "at most 10,000 are read"),
    ],
)  # fmt: skip
def test_what_is_no_filter_is_refused_with_the_place(where: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_where(where, SHORT)
    if message != "unknown":
        assert message in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_a_reference_that_is_none_is_refused() -> None:
    with pytest.raises(ReferenceSyntaxError, match="min\\*"):
        parse_where("loss.weighting=min*")


def test_large_whole_numbers_are_compared_exactly() -> None:
    run = make_run("large", training={"seed": 2**62 + 1})
    assert parse_where(f"seed={2**62 + 1}").matches(run)
    assert not parse_where(f"seed={2**62}").matches(run)


def names(patterns: list[str], where: str | None = None) -> list[str]:
    return [run.name for run in matching_runs(patterns, None if where is None else parse_where(where, SHORT))]


@pytest.fixture
def store() -> None:
    for weighting in ("debiased", "constant"):
        for seed in range(3):
            make_run(f"cifar-{weighting}-{seed}", loss={"weighting": weighting}, training={"seed": seed})
    make_run("cifar", loss={"weighting": MIN_SNR})
    (paths.runs_dir() / "cifar-no-run").mkdir()


@pytest.mark.usefixtures("store")
def test_patterns_and_filters_choose_runs() -> None:
    assert names(["cifar"]) == ["cifar"]  # literally, and no prefix of seven
    assert names(["cifar-deb*"]) == ["cifar-debiased-0", "cifar-debiased-1", "cifar-debiased-2"]
    assert names(["*-[12]", "cifar-debiased-?"]) == [
        "cifar-constant-1", "cifar-constant-2", "cifar-debiased-1", "cifar-debiased-2", "cifar-debiased-0",
    ]  # fmt: skip
    assert names([str(paths.runs_dir() / "cifar"), "c*-0"]) == ["cifar", "cifar-constant-0", "cifar-debiased-0"]
    assert names([], "weighting=debiased and seed>0") == ["cifar-debiased-1", "cifar-debiased-2"]
    assert names(["*-1"], "weighting=constant") == ["cifar-constant-1"]
    assert len(names([])) == 7


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("patterns", "where", "message"),
    [
        (["cifar-debias-*"], None, "no run's name matches 'cifar-debias-*'. Did you mean 'cifar-debiased-"),
        (["*", "x[0"], None, "no run's name matches 'x[0'"),
        (["nothing"], None, "there is no run 'nothing'"),
        (["cifar-d"], None, "is a prefix of several runs' names"),
        ([], "weighting=debias", "none of the 7 runs matches `where` 'weighting=debias'. In them, loss.weighting is "
         "constant, debiased, min-snr."),
        (["*-0"], "weighting=p2", "none of the 2 runs matches `where` 'weighting=p2'. In them, loss.weighting is "
         "constant, debiased."),
        ([], "weighting!=debaised", "loss.weighting is never 'debaised'. Did you mean 'debiased'? In these runs, it is "
         "constant, debiased, min-snr"),
        (["*-0"], "weighting!=no-such:gamma=5", "loss.weighting is never 'no-such'."),
        ([], "dataset!=digts and seed>0", "data.dataset is never 'digts'. Did you mean 'digits'?"),
        (["*-0"], "weighting.gama!=5", "no run's loss.weighting has an option 'gama'. They have: none"),
        ([], "weighting.gama!=5", "no run's loss.weighting has an option 'gama'. Did you mean 'gamma'? They have: gam"),
    ],
)  # fmt: skip
def test_what_chooses_no_run_is_refused(patterns: list[str], where: str | None, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        names(patterns, where)
    assert message in str(caught.value)


@pytest.mark.usefixtures("store")
def test_an_installed_plugin_that_no_run_has_may_be_excluded() -> None:
    assert len(names([], "weighting!=p2")) == 7
    assert len(names([], "weighting!=null")) == 7


@pytest.mark.usefixtures("store")
def test_a_damaged_run_is_named_where_the_answer_depends_on_it() -> None:
    (paths.runs_dir() / "cifar" / "spec.json").write_text("{")
    assert names([], "name=cifar-debiased-*") == ["cifar-debiased-0", "cifar-debiased-1", "cifar-debiased-2"]
    with pytest.raises(RunError, match=r"whether run 'cifar' matches .* To leave it out, add: and name!=cifar"):
        names([], "weighting=debiased")
    assert len(names([], "weighting=debiased and name!=cifar")) == 3


def test_a_newer_spec_is_no_answer_either() -> None:
    run = make_run("newer")
    raw = json.loads((run.path / "spec.json").read_text()) | {"schema_version": 99}
    (run.path / "spec.json").write_text(json.dumps(raw))
    with pytest.raises(RunError):
        parse_where("lr=1", SHORT).matches(run)
    with pytest.raises(RunNameError):
        names(["x*"], "lr=1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("best<3", r"unknown field 'best'\. A listing shows it and is sorted by it \(`sort=best`\)"),
        ("learning-rate=1", r"unknown field 'learning-rate'\. Did you mean 'lr'\?"),
        ("status=finished", r"unknown field 'status'\. Did you mean 'state'\?"),
    ],
)
def test_what_is_no_field_is_answered_with_what_helps(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_where(text, SHORT)
