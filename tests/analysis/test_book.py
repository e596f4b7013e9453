"""The units of an analysis."""

from pathlib import Path

import numpy as np

from debiasctl.analysis.book import Arrays, Book


def test_a_unit_that_was_computed_is_read_and_one_of_another_analysis_is_not(tmp_path: Path) -> None:
    calls: list[str] = []

    def unit(name: str) -> Arrays:
        calls.append(name)
        return {"value": np.array([float(len(calls))])}

    units = {name: (lambda name=name: unit(name)) for name in ("a", "b")}
    first = Book(tmp_path / "units", identity="one").all(units, text="x", begin=0, end=1)
    again = Book(tmp_path / "units", identity="one").all(units, text="x", begin=0, end=1)
    assert calls == ["a", "b"]
    assert {name: found["value"].tolist() for name, found in again.items()} == {"a": [1.0], "b": [2.0]}
    assert list(first) == ["a", "b"]
    Book(tmp_path / "units", identity="two").all(units, text="x", begin=0, end=1)
    assert calls == ["a", "b", "a", "b"]


def test_a_damaged_unit_is_computed_again(tmp_path: Path) -> None:
    units = {"a": lambda: {"value": np.array([1.0])}}
    book = Book(tmp_path / "units", identity="one")
    book.all(units, text="x", begin=0, end=1)
    (tmp_path / "units" / "a.npz").write_bytes(b"PK\x03\x04 cut off")
    assert book.all(units, text="x", begin=0, end=1)["a"]["value"].tolist() == [1.0]


def test_progress_runs_from_begin_towards_end(tmp_path: Path) -> None:
    seen: list[float] = []
    book = Book(tmp_path / "units", identity="one", on_progress=lambda done, text: seen.append(done))
    book.all({name: (lambda: {"value": np.zeros(1)}) for name in "abcd"}, text="x", begin=0.5, end=1)
    assert seen == [0.5, 0.625, 0.75, 0.875]
