"""Extensions from a package of their own."""

import json
import os
import signal

import pytest
from tiny import make_spec, metrics, resume, same_state, stored_state, train, write_distribution

from debiasctl.errors import CheckpointError, Interrupted
from debiasctl.runs.store import find_run

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
