"""Specs that runs stored under earlier schema versions: `stored/` holds them as they were written."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import LOCATION, make_spec, resume, succeed, train

from debiasctl.comparison.arms import settings_of
from debiasctl.errors import RunError, SpecError, UsageError
from debiasctl.specs.files import read_spec_file
from debiasctl.specs.resolve import load_stored_spec, resolve_spec, validate_spec
from debiasctl.specs.sections import DecayEMA, MonitorSection, PowerEMA, RunSpec

STORED = Path(__file__).parent / "stored"


def raw(kind: str) -> dict[str, Any]:
    return dict(json.loads((STORED / f"version-1-{kind}.json").read_text()))


def read(content: dict[str, Any]) -> RunSpec:
    return load_stored_spec(json.dumps(content), "spec.json")


def test_version_1_wrote_out_what_had_no_effect() -> None:
    decay, power = read(raw("decay")), read(raw("power"))
    assert (decay.schema_version, decay.ema, decay.monitor) == (4, DecayEMA(decay=0.99), None)
    assert power.ema == PowerEMA(lengths=(0.05, 0.1))
    assert isinstance(power.monitor, MonitorSection)
    stored = power.monitor.model_dump(mode="json")
    assert stored == raw("power")["monitor"]
    for spec, kind in ((decay, "decay"), (power, "power")):
        for section in set(RunSpec.model_fields) - {"schema_version", "ema", "imported", "monitor"}:
            before = raw(kind)[section]
            if section == "provenance":
                before |= {"run": None}  # runs had no identity
            if section == "loss":
                before |= {"metric": "mse", "huber_c": 0.1, "huber_schedule": "snr"}  # all errors were squared
            assert spec.model_dump(mode="json")[section] == before
        assert read(spec.model_dump(mode="json")) == spec


def test_it_is_read_whatever_had_no_effect_in_it() -> None:
    content = raw("decay")
    content["ema"] |= {"kind": "power", "decay": 0.5}
    content["monitor"] |= {"num": 8, "sampler": {"name": "gone", "options": {}, "distribution": "x", "version": "1"}}
    assert (read(content).ema, read(content).monitor) == (PowerEMA(), None)


def test_it_can_be_given_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    plain, power = (read_spec_file(STORED / f"version-1-{kind}.json") for kind in ("decay", "power"))
    spec, _ = resolve_spec([], LOCATION, file=plain)
    assert (spec.ema, spec.monitor) == (DecayEMA(decay=0.99), None)
    watched, _ = resolve_spec([{"ema": {"kind": "half-life"}}], LOCATION, file=power)
    assert (watched.ema.kind, watched.monitor and watched.monitor.num) == ("half-life", 8)
    assert caplog.records == []  # all that is left out has the default's value
    plain["monitor"]["num"] = 8
    assert resolve_spec([], LOCATION, file=plain)[0] == spec
    assert [record.message.rpartition(": ")[2] for record in caplog.records] == ["monitor.num"]
    asked = resolve_spec([{"monitor": {"every": 9}}], LOCATION, file=plain)[0].monitor
    assert asked is not None
    assert (asked.num, asked.grid) == (8, 8)


def test_a_run_that_stored_it_can_be_resumed(tmp_path: Path) -> None:
    text = (STORED / "version-1-decay.json").read_text()
    run = train("run", load_stored_spec(text, "spec.json"))
    (run.path / "spec.json").write_text(text)
    for manifest in run.path.glob("checkpoints/*/manifest.json"):  # neither the run nor its parts stated an identity
        content = json.loads(manifest.read_text())
        manifest.write_text(json.dumps({"step": content["step"], "sha256": content["sha256"]}))
    for file in (run.path / "status.json", run.path / "metrics.jsonl"):
        lines = [json.loads(line) for line in file.read_text().splitlines()] if file.suffix == ".jsonl" else None
        stated = [json.loads(file.read_text())] if lines is None else lines
        file.write_text("".join(json.dumps({k: v for k, v in one.items() if k != "run"}) + "\n" for one in stated))
    with pytest.raises(UsageError, match="there is nothing to do"):
        resume(run)
    (run.checkpoint_path(2) / "manifest.json").unlink()
    run.update_status(state="interrupted")
    assert resume(run) == [1, 2]
    assert json.loads(succeed("runs", "show", "run", "--json").out)["spec"]["schema_version"] == 4
    assert (run.path / "spec.json").read_text() == text  # reading writes nothing
    assert resume(run, steps=4) == [3, 4]
    assert json.loads((run.path / "spec.json").read_text())["schema_version"] == 4
    assert run.spec().ema == DecayEMA(decay=0.99)


@pytest.mark.parametrize("version", ["2", True, 1.0, 0, -1, None])
def test_a_version_is_a_whole_number(version: object) -> None:
    with pytest.raises(SpecError, match=r"schema_version is .*, and must be a whole number from 1 to 4"):
        validate_spec({"schema_version": version, "data": {"dataset": "digits"}})


def test_an_option_of_another_kind_is_told_from_those_of_the_kind_chosen() -> None:
    with pytest.raises(SpecError) as caught:
        validate_spec({"data": {"dataset": "digits"}, "ema": {"kind": "power", "decay": 0.3}})
    assert str(caught.value) == "spec: unknown option 'ema.decay'. Known: kind, lengths, snapshot_every."


# ---------------------------------------------------------------- version 2


def test_a_folder_of_version_2_keeps_its_classes_and_its_split(tmp_path: Path) -> None:
    """What was stored before sub-folders were told from storage, and before each class kept a training image."""
    from PIL import Image

    names = [f"{number:05}/{index}.png" for number in range(3) for index in range(4)] + ["99999/0.png"]
    for value, name in enumerate(names):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), value).save(tmp_path / "set" / name)
    before = {
        "path": str(tmp_path / "set"),
        "image_size": None,
        "mode": "auto",
        "heldout": 0.4,
        "skip_unreadable": False,
    }
    rules = {"classes": "folders", "split": "by-name"}
    for dataset in ({"name": "folder", "options": before}, f"folder:path={tmp_path}/set,heldout=0.4"):
        old = {"schema_version": 2, "data": {"dataset": dataset}}
        assert validate_spec(old).data.dataset.options.items() >= rules.items()
        spec, info = resolve_spec([], LOCATION, file=old)
        assert spec.data.dataset.options.items() >= rules.items()
        assert info.classes == ("00000", "00001", "00002", "99999")
    with pytest.raises(UsageError, match="may store images"):
        resolve_spec([], LOCATION, file={"data": {"dataset": {"name": "folder", "options": before}}})
    # another folder than the file's is read by the rules of today
    other = [{"data": {"dataset": {"name": "folder", "options": {"path": str(tmp_path / "set")}}}}]
    with pytest.raises(UsageError, match="may store images"):
        resolve_spec(other, LOCATION, file=old)
    assert validate_spec({"schema_version": 2, "data": {"dataset": "digits"}}).data.dataset.options == {}


@pytest.mark.parametrize("monitor", [{"zzz": 1}, {"every": None, "zzz": 1}, {"num": 256, "zzz": 1}])
def test_an_unknown_setting_of_a_monitor_without_every_is_not_lost(monitor: dict[str, Any]) -> None:
    with pytest.raises(RunError, match=r"unknown option 'monitor\.zzz'"):
        read(raw("decay") | {"monitor": monitor})


# ---------------------------------------------------------------- version 3


def test_a_logit_normal_of_version_3_is_of_time_and_its_run_of_the_arm_of_todays() -> None:
    stored = {"name": "logit-normal", "options": {"mean": 0.0, "std": 1.0}, "distribution": "debiasctl", "version": "1"}
    nested = {"name": "stratified", "options": {"base": stored}, "distribution": "debiasctl", "version": "1"}
    for timesteps, today in ((stored, "logit-normal"), (nested, "stratified:base=logit-normal")):
        old = validate_spec({"schema_version": 3, "data": {"dataset": "digits"}, "loss": {"timesteps": timesteps}})
        new = make_spec(loss__timesteps=today)
        assert settings_of(old)["loss.timesteps"] == settings_of(new)["loss.timesteps"]
        assert read(new.model_dump(mode="json")) == new
    assert stored["options"] == {"mean": 0.0, "std": 1.0}
