"""Sweeps in the store: what is damaged is reported, and one process runs a sweep."""

import json
from pathlib import Path

import pytest
from studies import arms_of

from debiasctl.errors import RunBusyError, RunError, RunNameError
from debiasctl.runs.status import now
from debiasctl.sweeps.store import (
    StoredArm,
    StoredMeasures,
    StoredSweep,
    Sweep,
    create_sweep,
    failed,
    find_sweep,
    measured,
    remove_sweep,
    sweep_names,
)
from debiasctl.sweeps.study import Study


def stored() -> StoredSweep:
    arms = [
        StoredArm(name=arm.name, settings={}, spec=arm.spec.model_dump(mode="json"))
        for arm in arms_of(Study(dataset="digits", grid={"weighting": ["constant", "p2"]}))
    ]
    measures = StoredMeasures(steps=[5], num=8, sampler="ddim", features=None, metrics=None)
    return StoredSweep(
        schema_version=1, created=now(), arms=arms, seeds=[0, 1], evaluate=measures, primary=None,
        reference="constant", margin=0.05, looks=None, engine="local", threads=1,
    )  # fmt: skip


@pytest.fixture
def sweep() -> Sweep:
    return create_sweep("s", stored())


def test_a_sweep_is_read_as_it_was_written(sweep: Sweep) -> None:
    found = find_sweep("s").stored()
    assert found.arm("p2").run_spec() == arms_of(Study(dataset="digits", settings={"weighting": "p2"}))[0].spec
    assert [run.name for _, _, run in sweep.runs(found)] == ["s-constant-s0", "s-p2-s0", "s-constant-s1", "s-p2-s1"]
    assert sweep_names() == ["s"]


def test_a_name_is_given_once(sweep: Sweep) -> None:
    with pytest.raises(RunNameError, match="a sweep named 's' has just been made"):
        create_sweep("s", stored())


@pytest.mark.parametrize("name, message", [("t", "there is no sweep 't'"), ("a/b", "'a/b' is not a sweep's name")])
def test_a_sweep_that_is_not_there(sweep: Sweep, name: str, message: str) -> None:
    with pytest.raises(RunNameError, match=message):
        find_sweep(name)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"schema_version": 2}, r"written by a newer version of debiasctl \(sweep version 2, known up to 1\)"),
        ({"seeds": "0"}, "damaged: seeds: Input should be a valid list"),
        ({"more": 1}, "damaged: more: Extra inputs are not permitted"),
        ({"arms": []}, "damaged: arms: List should have at least 1 item"),
        (
            {"arms": [{"name": "constant", "settings": {}, "spec": {"a": 1}}]},
            "damaged: spec: option 'data'",
        ),
        ({"arms": [{"name": "../x", "settings": {}, "spec": {}}]}, "damaged: .*an arm has a name that is none"),
        ({"arms": [{"name": "constant", "settings": {}, "spec": {}}] * 2}, "damaged: .*two arms have one name"),
        ({"seeds": [0, 0]}, "damaged: .*the seeds are not different whole numbers from 0"),
        ({"seeds": [-1]}, "damaged: .*the seeds are not different whole numbers from 0"),
        ({"reference": "nope"}, "damaged: .*the reference 'nope' is no arm"),
        ({"margin": -3.0}, "damaged: margin: Input should be greater than 0"),
        ({"looks": [3, 2]}, "damaged: .*the looks are not numbers of seeds from 2 that increase"),
        ({"looks": [1, 2]}, "damaged: .*the looks are not numbers of seeds from 2 that increase"),
    ],
)
def test_a_damaged_sweep_is_reported(sweep: Sweep, change: dict, message: str) -> None:
    file = sweep.path / "sweep.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(RunError, match=message):
        sweep.stored()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_what_is_no_json_is_reported(sweep: Sweep, content: bytes) -> None:
    (sweep.path / "sweep.json").write_bytes(content)
    with pytest.raises(RunError, match=r"sweep\.json is damaged: .* debiasctl sweep rm s"):
        sweep.stored()


@pytest.mark.parametrize(
    "line", ["3", "[]", '{"run": ["a"], "kind": "failed", "time": "t"}', '{"run": "a", "kind": "x", "time": "t"}',
             '{"run": "a", "kind": "failed", "time": "t", "reason": 3}'],
)  # fmt: skip
def test_an_event_that_is_none_is_reported_with_its_line(sweep: Sweep, line: str) -> None:
    sweep.note(failed("s-p2-s0", "no memory"))
    with open(sweep.path / "events.jsonl", "a") as stream:
        stream.write(line + "\n")
    with pytest.raises(RunError, match=r"events\.jsonl is damaged in line 2: .*Delete the line"):
        sweep.events()


def test_events_survive_a_kill_amid_a_line(sweep: Sweep) -> None:
    assert sweep.events() == []
    events = [failed("s-p2-s0", "no memory"), measured("s-p2-s0", "abc")]
    sweep.note(events[0])
    with open(sweep.path / "events.jsonl", "a") as stream:
        stream.write('{"run": "s-p2')
    assert sweep.events() == events[:1]
    sweep.note(events[1])
    assert sweep.events() == events


@pytest.mark.parametrize("line", ["{", "[]", '{"run": "a"}', '{"run": "a", "kind": "b", "time": "c", "more": 1}'])
def test_a_damaged_event_is_reported(sweep: Sweep, line: str) -> None:
    (sweep.path / "events.jsonl").write_text(f"{line}\n")
    with pytest.raises(RunError, match=r"events\.jsonl is damaged in line 1"):
        sweep.events()


def test_one_process_runs_a_sweep_and_none_removes_it_then(sweep: Sweep) -> None:
    with sweep.lock():
        assert sweep.is_running()
        for act in (lambda: sweep.lock().__enter__(), lambda: remove_sweep(sweep)):
            with pytest.raises(RunBusyError, match="sweep 's' is run by another process"):
                act()
    assert not sweep.is_running()
    remove_sweep(sweep)
    assert sweep_names() == []


def test_a_link_is_not_removed(sweep: Sweep, debiasctl_home: Path) -> None:
    (debiasctl_home / "sweeps" / "link").symlink_to(sweep.path)
    with pytest.raises(RunError, match="is a link"):
        remove_sweep(find_sweep("link"))
    assert sweep.path.is_dir()
