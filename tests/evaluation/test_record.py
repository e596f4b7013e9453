"""Records of evaluations as they are read: stored ones of older versions, and what is none."""

import json
from pathlib import Path
from typing import Any

import pytest
from records import figure_json, interval_json, record_json

from debiasctl.errors import EvaluationError
from debiasctl.evaluation.record import EvaluationRecord, LikelihoodRecord, read_record

RECORDED = Path(__file__).parent / "recorded"  # as older versions stored them
WAY_ON = "Remove it"


def read(path: Path) -> EvaluationRecord | LikelihoodRecord:
    return read_record(path, way_on=WAY_ON)


def written(folder: Path, value: Any) -> Path:
    path = folder / "record.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_a_record_of_version_1_is_read_key_for_key() -> None:
    stored = json.loads((RECORDED / "version-1.json").read_text())
    record = read(RECORDED / "version-1.json")
    assert isinstance(record, EvaluationRecord)
    expected = json.loads(json.dumps(stored).replace('"residual"', '"fit_residual"')) | {"schema_version": 3}
    assert record.to_json() == expected
    assert list(record.to_json()) == list(stored)
    assert record.key == "10bfe7a049b9c8f6"  # the name of the file: measured again, it takes the same place
    assert record.metrics["fd_pixels"].extrapolated is not None
    assert record.metrics["fd_pixels"].extrapolated.value == stored["metrics"]["fd_pixels"]["extrapolated"]["value"]


def test_what_the_first_records_did_not_hold_is_not_known() -> None:
    stored = json.loads((RECORDED / "version-1-first.json").read_text())
    record = read(RECORDED / "version-1-first.json")
    assert isinstance(record, EvaluationRecord)
    figure, kept = record.metrics["fd_pixels"], stored["metrics"]["fd_pixels"]
    assert (figure.value, figure.floor, figure.num) == (kept["value"], kept["floor"], 8)
    assert (figure.corrected, figure.interval) == (None, None)
    assert figure.interval_reason == "it was measured before there were intervals"
    assert (record.measured.class_counts, record.measured.precision, record.measured.label) == (None, None, None)
    assert (record.checkpoint, record.nfe, record.images_seen) == (4, 2, None)
    assert {key: value for key, value in record.measured.to_json().items() if key in stored["measured"]} == stored[
        "measured"
    ]


@pytest.mark.parametrize("name", ["bound", "ode"])
def test_a_likelihood_is_read_key_for_key(name: str) -> None:
    stored = json.loads((RECORDED / f"{name}.json").read_text())
    record = read(RECORDED / f"{name}.json")
    assert isinstance(record, LikelihoodRecord)
    assert record.to_json() == stored
    assert list(record.to_json()) == list(stored)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    curve = {"cycles_per_image": [1], "power": [0.5], "real_power": [0.25]}
    figures = {
        "fd_local": figure_json(1.0, interval=interval_json([0.0, 1.0]), extrapolated=None, extrapolated_reason="few"),
        "spectrum_distance": figure_json(2.0, curve=curve),
    }
    value = record_json(figures, samples_sha256="ab")
    record = read(written(tmp_path, value))
    assert record.to_json() == value
    assert EvaluationRecord.model_validate(value) == record


GOOD = record_json({"fd_local": figure_json(1.0, interval=interval_json([0.0, 1.0]))})


def changed(path: str, value: Any) -> dict[str, Any]:
    """GOOD with another value at `path`; without one there where it is ...."""
    copy: dict[str, Any] = json.loads(json.dumps(GOOD))
    *way, last = path.split(".")
    place = copy
    for key in way:
        place = place[key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return copy


@pytest.mark.parametrize(
    "value, reason",
    [
        ("{", "property name"),
        ("[]", "it is not a JSON object"),
        ('"a"', "it is not a JSON object"),
        ("[" * 100_000, "it is nested too deeply"),
        (json.dumps(GOOD).replace("0.5", "NaN"), "NaN is not JSON"),
        (json.dumps(GOOD).replace("0.5", "1e999"), "the number 1e999 is beyond the range of numbers"),
        (changed("schema_version", ...), "its schema_version is None"),
        (changed("schema_version", True), "its schema_version is True"),
        (changed("schema_version", "2"), "its schema_version is '2'"),
        (changed("schema_version", 0), "its schema_version is 0"),
        (changed("checkpoint", "6"), "checkpoint: "),
        (changed("checkpoint", 6.5), "checkpoint: "),
        (changed("measured", []), "measured: "),
        (changed("measured.num", None), "measured.num: "),
        (changed("measured.class_counts", "guessed"), "measured.class_counts: "),
        (changed("metrics", []), "metrics: "),
        (changed("metrics.fd_local", 1.0), "metrics.fd_local: "),
        (changed("metrics.fd_local.value", "1.0"), "metrics.fd_local.value: "),
        (changed("metrics.fd_local.value", None), "metrics.fd_local.value: "),
        (changed("metrics.fd_local.floor", ...), "metrics.fd_local.floor: "),
        (changed("metrics.fd_local.better", "best"), "metrics.fd_local.better: "),
        (changed("metrics.fd_local.more", 1), "metrics.fd_local.more: "),
        (changed("metrics.fd_local.interval.jackknife.pseudo_values", [0.0]), "pseudo_values: "),
        (changed("metrics.fd_local.interval.jackknife.interactions", [0.0]), "must have the same number of groups"),
        (
            changed("metrics.fd_local.value", -1.0),
            "fd_local.value: -1.0 is not possible, it must be at least 0",
        ),
        (changed("metrics.fd_local.floor", -0.1), "metrics.fd_local.floor: -0.1 is not possible"),
        (changed("metrics.fd_local.interval.ones", "xy"), "metrics.fd_local.interval.ones: "),
        (changed("metrics.fd_local.interval.reach", [0.1, 1.5]), "metrics.fd_local.interval.reach.1: "),
        (
            changed("metrics.fd_local.interval.ones", "ff"),
            "interval.ones: 1 bytes hold no bit for each of 100",
        ),
        (changed("measured.steps", 0), "measured.steps: "),
        (changed("notes", "none"), "notes: "),
        (changed("checkpoint", -1), "checkpoint: "),
        (changed("measured.num", 0), "measured.num: "),
        (changed("metrics.fd_local.num", -8), "metrics.fd_local.num: "),
        (changed("metrics.fd_local.floor_num", -1), "metrics.fd_local.floor_num: "),
        (changed("metrics.fd_local.interval.level", 1.5), "metrics.fd_local.interval.level: "),
        (changed("metrics.fd_local.interval.low", 1e6), "low must not lie above high"),
        (changed("schema_version", 1) | {"measured": 1}, "measured: "),
        (changed("schema_version", 1) | {"metrics": {"fd_local": []}}, "metrics.fd_local: "),
        (GOOD | {"schema_version": 1, "terms": []}, "measured.features: "),
    ],
)
def test_what_is_no_record_is_named_and_left_alone(tmp_path: Path, value: Any, reason: str) -> None:
    path = written(tmp_path, value)
    before = path.read_bytes()
    with pytest.raises(EvaluationError, match="is damaged") as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path} is damaged (")
    assert message.endswith(f"). {WAY_ON}")
    assert reason in message
    assert "\n" not in message
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "name, good, bad",
    [
        ("precision", 1.0, 1.01), ("recall", 0.0, -0.01), ("coverage", 0.5, 2.0), ("memorised_share", 0.01, -1.0),
        ("density", 3.2, -0.1), ("nearest_train_gap", -1.0, -1.1), ("mean_shift_grey", -2.0, 2.1),
        ("std_shift_b", -0.5, 1.1), ("mean_shift_squared", 12.0, 12.1), ("colour_fd", 0.0, -1e-5),
        ("spectrum_distance", 3.0, -0.1), ("fid", 300.0, -1.0), ("sfd_local", 0.1, -1.0), ("is_local", 1.0, 0.9),
    ],
)  # fmt: skip
def test_a_figure_that_cannot_be_is_damage(tmp_path: Path, name: str, good: float, bad: float) -> None:
    records = [record_json({name: figure_json(value, floor=None)}) for value in (good, bad)]
    read(written(tmp_path, records[0]))
    with pytest.raises(EvaluationError, match=f"metrics.{name}.value: .* is not possible"):
        read(written(tmp_path, records[1]))


def test_kernel_distances_may_be_below_0(tmp_path: Path) -> None:
    read(written(tmp_path, record_json({"kd_local": figure_json(-0.1, floor=-0.2)})))


def test_the_residual_of_version_2_is_no_error(tmp_path: Path) -> None:
    fit = {"value": 1.0, "residual": 0.25, "nums": [10, 20]}
    value = record_json({"fd_local": figure_json(1.0, extrapolated=fit)}, schema_version=2)
    found = read(written(tmp_path, value)).metrics["fd_local"]
    assert found.extrapolated.se is None
    assert found.extrapolated.fit_residual == 0.25


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"metrics": {}}, "metrics: "),
        ({"prior": None}, "terms and prior are parts of a bound"),
        ({"terms": []}, "terms and prior are parts of a bound"),
    ],
)
def test_half_of_a_likelihood_is_none(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    value = json.loads((RECORDED / "bound.json").read_text()) | change
    with pytest.raises(EvaluationError, match="is damaged") as caught:
        read(written(tmp_path, value))
    assert reason in str(caught.value)


@pytest.mark.parametrize("name, known", [("version-1.json", 3), ("bound.json", 1)])
def test_a_newer_versions_record_is_not_called_damaged(tmp_path: Path, name: str, known: int) -> None:
    value = json.loads((RECORDED / name).read_text()) | {"schema_version": known + 1}
    path = written(tmp_path, value)
    with pytest.raises(EvaluationError) as caught:
        read(path)
    assert str(caught.value) == (
        f"{path} was written by a newer version of debiasctl (schema version {known + 1}, known up to {known}). "
        "Upgrade it: pip install --upgrade debiasctl"
    )


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="No such file"):
        read(tmp_path / "none.json")
