"""Extensions from a package of their own."""

import json
import os
import re
import signal
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tiny import (
    OPTIONS,
    error_of,
    make_spec,
    metrics,
    resume,
    same_state,
    stored_state,
    succeed,
    train,
    write_distribution,
)

from debiasctl import registry
from debiasctl.errors import CheckpointError, Interrupted, RunError, UnknownPluginError, UsageError
from debiasctl.models.posthoc_ema import store_average
from debiasctl.paths import runs_dir
from debiasctl.runs.store import find_run, read_metrics

CODE = '''
"""Writes down when it is called, and pulls the weights towards 0."""
import torch
from pydantic import Field
from debiasctl.api import Extension, PluginOptions

CALLS = []


class Shrink(Extension):
    """Weight shrinkage."""

    class Options(PluginOptions):
        """Options."""

        rate: float = Field(0.5, gt=0, description="share taken away after a step")
        halves: bool = Field(False, description="halve the learning rate at each step")

    def __init__(self, options):
        super().__init__(options)
        self.count, self.trace = 0, torch.zeros(3)

    def _one(self, context):
        return list(context.model.parameters())[-1].detach().flatten()[0].item()

    def on_start(self, context):
        CALLS.append(("on_start", context.step, self.count, self._one(context)))

    def learning_rate(self, rate, context):
        return rate * context.batch_size / 2**context.step if self.options.halves else rate

    def after_backward(self, context):
        norm = torch.cat([one.grad.flatten() for one in context.model.parameters() if one.grad is not None]).norm()
        CALLS.append(("after_backward", context.step, norm.item(), self._one(context)))

    def after_step(self, context):
        CALLS.append(("after_step", context.step, context.optimizer.param_groups[0]["lr"], self._one(context)))
        self.count += 1
        self.trace[self.count % 3] = self.count
        with torch.no_grad():
            for parameter in context.model.parameters():
                parameter.mul_(1 - self.options.rate * 0.01 * self.count)

    def state_dict(self):
        return {"count": self.count, "trace": self.trace, "why": "a test"}

    def load_state_dict(self, state):
        self.count, self.trace = state["count"], state["trace"]
'''


@pytest.fixture
def calls(tmp_path, monkeypatch) -> list:
    points = {"debiasctl.extensions": {"shrink": "shrink_extension:Shrink"}}
    write_distribution(tmp_path, name="shrink", version="0.3", entry_points=points, modules={"shrink_extension": CODE})
    monkeypatch.syspath_prepend(tmp_path)
    import shrink_extension  # type: ignore[import-not-found]

    shrink_extension.CALLS.clear()
    return shrink_extension.CALLS


def test_it_is_called_at_its_points_and_recorded_in_the_spec(calls: list) -> None:
    run = train("run", make_spec(extensions=["shrink:rate=0.25"], optimizer__clip_grad_norm=1e-3))
    expected = [("on_start", 0)]
    for step in range(6):
        expected += [("after_backward", step), ("after_step", step)]
    assert [call[:2] for call in calls] == expected
    for before, after in zip(calls[1::2], calls[2::2], strict=True):
        assert before[2] == pytest.approx(1e-3, rel=1e-3)  # the gradient after clipping
        assert before[3] != after[3]  # the optimizer steps in between
    assert [choice.model_dump() for choice in run.spec().extensions] == [
        {"name": "shrink", "options": {"rate": 0.25, "halves": False}, "distribution": "shrink", "version": "0.3"}
    ]


def test_the_learning_rate_that_it_sets_is_used_and_logged(calls: list) -> None:
    halving = ["shrink:halves=true", "shrink:halves=true"]  # each is given what the one before made of it
    spec = make_spec(extensions=halving, optimizer__decay="none", optimizer__warmup_steps=0, optimizer__lr=1e-3)
    run = train("run", spec)
    expected = [1e-3 * (8 / 2**step) ** 2 for step in range(6)]
    assert [call[2] for call in calls if call[0] == "after_step"][::2] == pytest.approx(expected, rel=1e-12)
    assert [one["lr"] for one in metrics(run) if one["kind"] == "train"] == pytest.approx(expected, rel=1e-12)


def test_its_state_survives_a_resume(calls: list) -> None:
    spec = make_spec(extensions=["shrink"])
    whole = train("whole", spec)
    calls.clear()
    with pytest.raises(Interrupted):
        train("run", spec, lambda one: os.kill(os.getpid(), signal.SIGTERM) if one.step == 4 else None)
    calls.clear()
    run = find_run("run")
    assert resume(run) == [5, 6]
    assert calls[0][:3] == ("on_start", 4, 4)  # after the checkpoint was loaded
    end = stored_state(run, 6)
    assert end["state/extensions/0/count"] == 6
    assert same_state(end, stored_state(whole, 6))
    assert not same_state(end, stored_state(train("plain", make_spec()), 6))


def test_a_checkpoint_of_other_extensions_does_not_fit(calls: list) -> None:
    run = train("run", make_spec(extensions=["shrink"]))
    spec = json.loads((run.path / "spec.json").read_text())
    spec["extensions"] = []
    (run.path / "spec.json").write_text(json.dumps(spec))
    with pytest.raises(CheckpointError, match="checkpoint 6 of run 'run' does not fit its spec"):
        resume(run, steps=9)


FURTHER = '''
"""Sets a parameter before step 0, reports figures, and changes what is reconstructed from snapshots."""
import torch
from debiasctl.api import Extension, UsageError, PluginOptions

CALLS = []


class Fill(Extension):
    """A filled parameter."""

    class Options(PluginOptions):
        """Options."""

        refuse: bool = False

    def __init__(self, options):
        super().__init__(options)
        self.steps = 0

    def _norm(self, context):
        return torch.cat([one.grad.flatten() for one in context.model.parameters()]).norm().item()

    def on_init(self, context):
        if self.options.refuse:
            raise UsageError("not with me")
        CALLS.append(("on_init", context))
        with torch.no_grad():
            list(context.model.parameters())[-1].fill_(0.25)

    def before_clipping(self, context):
        CALLS.append(("before_clipping", self._norm(context)))
        for parameter in context.model.parameters():
            parameter.grad.mul_(0.5)

    def after_backward(self, context):
        CALLS.append(("after_backward", self._norm(context)))

    def after_step(self, context):
        self.steps += 1

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"]

    def summary(self):
        return {"half of the steps": self.steps // 2, "what": "a test"}

    def reconstructed(self, name, average, newest):
        return torch.full_like(average, 2.0) if newest.numel() > 100 else average
'''


@pytest.fixture
def fill(tmp_path, monkeypatch) -> list:
    points = {"debiasctl.extensions": {"fill": "fill_extension:Fill"}}
    write_distribution(tmp_path, name="fill", version="0.1", entry_points=points, modules={"fill_extension": FURTHER})
    monkeypatch.syspath_prepend(tmp_path)
    import fill_extension  # type: ignore[import-not-found]

    fill_extension.CALLS.clear()
    return fill_extension.CALLS


POWER = {"ema__kind": "power", "ema__lengths": [0.05, 0.1]}


def test_step_0_and_its_averages_are_as_the_extension_leaves_the_network(fill: list) -> None:
    run = train("run", make_spec(extensions=["fill"], training__keep_last=9, training__seed=3, **POWER))
    for weights in ("model", "ema", "ema-0.1"):
        start = load_file(run.checkpoint_path(0) / f"{weights}.safetensors")
        assert sum(bool((value == 0.25).all()) for value in start.values()) == 1
    (what, context), *_ = fill
    assert (what, context.step, context.num_steps, context.seed) == ("on_init", 0, 6, 3)
    assert (context.shape.in_channels, context.shape.image_size, context.num_classes) == (1, 8, 10)
    assert len(context.averages) == 2


def test_what_it_changes_before_clipping_is_what_is_clipped_and_logged(fill: list) -> None:
    run = train("run", make_spec(extensions=["fill"], optimizer__clip_grad_norm=1e-3))
    before = [norm for what, norm in fill if what == "before_clipping"]
    after = [norm for what, norm in fill if what == "after_backward"]
    assert after == pytest.approx([1e-3] * 6, rel=1e-3)
    logged = [record.grad_norm for record in read_metrics(run) if record.kind == "train"]
    assert logged == pytest.approx([norm / 2 for norm in before], rel=1e-5)


def test_what_it_reports_is_recorded_where_it_changes_and_shown(fill: list) -> None:
    train("run", make_spec(extensions=["fill"]))
    run = find_run("run")
    records = [record for record in read_metrics(run) if record.kind == "extensions"]
    assert [(one.step, one.extensions[0].figures["half of the steps"]) for one in records] == [
        (0, 0), (2, 1), (4, 2), (6, 3),
    ]  # fmt: skip
    assert records[-1].scalars() == {"fill/half of the steps": 3}
    shown = succeed("runs", "show", "run").out
    assert "half of the steps 3, what a test" in shown
    last = json.loads(succeed("runs", "show", "run", "--json").out)["metrics"]["extensions"]
    assert last["extensions"] == [{"name": "fill", "figures": {"half of the steps": 3, "what": "a test"}}]
    assert resume(run, steps=7) == [7]
    assert len([record for record in read_metrics(run) if record.kind == "extensions"]) == 4  # nothing has changed


def test_an_average_from_snapshots_is_as_it_returns_it(fill: list, monkeypatch) -> None:
    run = train("run", make_spec(extensions=["fill"], ema__snapshot_every=1, **POWER))
    stored = load_file(store_average(run, 0.08).path)
    assert {bool((value == 2).all()) for value in stored.values() if value.numel() > 100} == {True}
    assert not any(bool((value == 2).all()) for value in stored.values() if value.numel() <= 100)
    monkeypatch.setattr(registry, "create", missing)
    with pytest.raises(RunError, match=r"extension 'fill' of fill 0\.1, which is not installed here.*pip install fill"):
        store_average(run, 0.09)


def missing(*_: object) -> object:
    raise UnknownPluginError("unknown")


def test_a_refusal_leaves_no_run(fill: list) -> None:
    with pytest.raises(UsageError, match="not with me"):
        train("run", make_spec(extensions=["fill:refuse=true"]))
    assert not (runs_dir() / "run").exists()


def test_the_option_names_extensions_and_none(fill: list) -> None:
    plan = ("train", "digits", *OPTIONS, "--dry-run", "--json", "--steps", "3")
    assert json.loads(succeed(*plan, "--extension", "fill").out)["spec"]["extensions"][0]["name"] == "fill"
    assert json.loads(succeed(*plan, "--extension", "none").out)["spec"]["extensions"] == []
    assert "none stands for no extension" in error_of(*plan, "--extension", "fill", "--extension", "none", code=2)
    assert "unknown extension 'fil'. Did you mean 'fill'?" in error_of(*plan, "--extension", "fil", code=2)


@pytest.mark.parametrize(
    ("written", "named"), [("none", []), ("[none]", []), ("[]", []), ("fill", ["fill"]), ("[fill]", ["fill"])]
)
def test_a_spec_file_names_extensions_as_the_option_does(
    fill: list, written: str, named: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(f"data: {{dataset: digits}}\nextensions: {written}\n")
    plan = ("train", "--spec", str(file), *OPTIONS, "--dry-run", "--json", "--steps", "3")
    found = json.loads(succeed(*plan).out)["spec"]["extensions"]
    assert [one["name"] for one in found] == named
    assert json.loads(succeed(*plan, "--extension", "none").out)["spec"]["extensions"] == []


def test_none_stands_alone_in_a_spec_file(fill: list, tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text("data: {dataset: digits}\nextensions: [none, fill]\n")
    assert "none stands for no extension" in error_of("train", "--spec", str(file), "--dry-run", code=2)


@pytest.mark.parametrize(
    ("given", "arms"),
    [
        (["none,fill,fill:refuse=true"], {"none": [], "fill": ["fill"], "fill-refusetrue": ["fill:refuse=true"]}),
        (
            ["none,fill", "none,fill:refuse=true"],
            {
                "none": [],
                "fill-refusetrue": ["fill:refuse=true"],
                "fill": ["fill"],
                "fill-fill-refusetrue": ["fill", "fill:refuse=true"],
            },
        ),
    ],
)
def test_the_arms_of_a_sweep_may_differ_in_extensions(fill: list, given: list, arms: dict) -> None:
    words = [word for text in given for word in ("--extension", text)]
    found = json.loads(succeed("sweep", "digits", *OPTIONS, "--steps", "3", *words, "--dry-run", "--json").out)
    found = found["sweep"]["arms"]
    assert [(one["name"], one["settings"].get("extensions")) for one in found] == list(arms.items())


def test_compare_names_arms_by_their_extensions_and_says_what_these_report(fill: list) -> None:
    for name, extensions in (("plain", []), ("filled", ["fill"])):
        for seed in (0, 1):
            run = train(f"{name}-{seed}", make_spec(extensions=extensions, training__seed=seed))
            succeed("evaluate", run.name, "--num", "8", "--steps", "2", "--features", "pixels")
    compared = succeed("compare", "plain-0", "plain-1", "filled-0", "filled-1")
    assert "'fill' was trained with extension fill, which reports half of the steps 3, what a test" in compared.err
    study = json.loads(succeed("compare", "plain-0", "plain-1", "filled-0", "filled-1", "--json").out)
    assert [arm["name"] for arm in study["arms"]] == ["none", "fill"]
    differs = succeed("compare", "plain-0", "filled-0").out
    assert re.search(r"^extensions\.fill\.refuse +- +false$", differs, re.MULTILINE)
