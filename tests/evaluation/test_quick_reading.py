import json
from pathlib import Path
from typing import Any

import pytest
from records import figure_json, interval_json, record_json

from debiasctl.evaluation.quick_reading import quick_record
from debiasctl.evaluation.record import read_record

STORED = record_json({"fd_local": figure_json(1.0, interval=interval_json([0.5, 1.5]))})
TEXT = json.dumps(STORED)


def with_details(details: str) -> str:
    return TEXT.replace('"feature_details": {"classes": ["0", "1"]}', f'"feature_details": {details}')


@pytest.mark.parametrize("text", [TEXT, json.dumps(STORED, indent=2), json.dumps(STORED, separators=(",", ":")),
                                  with_details('{"a": [1.5, {"b": null}]}'), with_details("{}")])  # fmt: skip
def test_a_whole_record_is_read_as_the_careful_reader_does(text: str, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text(text)
    assert quick_record(file) == read_record(file, way_on="")


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "\x00", TEXT[:-1],
        TEXT.replace('"value": 1.0', '"value": 1.0, "value": 1.0'),
        TEXT.replace('"value": 1.0', '"value" : 2.0, "value": 1.0'),
        TEXT.replace('"value": 1.0', '"value": -1.0'),
        TEXT.replace('"value": 1.0', '"value": NaN'),
        with_details('{"a": NaN}'), with_details('{"a": [-Infinity]}'), with_details('{"a": [1e999]}'),
        with_details('{"a": 1, "a": 2}'), with_details('{"a\\u0022:": 1, "b": 1, "b": 2}'),
        TEXT.replace('"schema_version": 3', '"schema_version": 2'),
        TEXT.replace('"schema_version": 3', '"schema_version": 4'),
    ],
)  # fmt: skip
def test_whatever_needs_care_is_left_to_the_careful_reader(text: str, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    assert text != TEXT
    file.write_text(text)
    assert quick_record(file) is None


def test_records_of_other_kinds_and_versions_are_left_to_the_careful_reader() -> None:
    for file in (Path(__file__).parent / "recorded").glob("*.json"):
        found: Any = quick_record(file)
        assert found is None
        read_record(file, way_on="")
    assert quick_record(Path("not-there.json")) is None
