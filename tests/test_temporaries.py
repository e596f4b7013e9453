"""Temporary files and folders: those of living writers stay, those of dead ones go with the next write."""

import threading
from pathlib import Path

import pytest

from debiasctl import claims, temporaries
from debiasctl.files import atomic_file, atomic_folder, write_bytes

DEAD = ".b.12345.0123abcd.tmp"


def leave(folder: Path, name: str = DEAD) -> Path:
    left = folder / name
    left.mkdir()
    (left / "half.safetensors").write_bytes(b"half")
    return left


def test_a_write_removes_what_dead_writers_of_the_same_file_left(tmp_path: Path) -> None:
    left, other = leave(tmp_path), leave(tmp_path, ".c.12345.0123abcd.tmp")
    write_bytes(tmp_path / "b", b"whole")
    assert not left.exists()
    assert other.exists()
    temporaries.remove_stale(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b"]


@pytest.mark.parametrize("writer", [atomic_file, atomic_folder])
def test_what_a_living_writer_writes_stays(tmp_path: Path, writer) -> None:
    with writer(tmp_path / "b"):
        assert temporaries.stale(tmp_path) == []
        temporaries.remove_stale(tmp_path)
        write_bytes(tmp_path / "other", b"")
        assert len(list(tmp_path.glob(".b.*.tmp"))) == 1
    assert (tmp_path / "b").exists()
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize("name", [".b.tmp", "b.1.0123abcd.tmp", ".b.1.0123abcd", ".b.1.nothexad.tmp"])
def test_other_names_are_left_alone(tmp_path: Path, name: str) -> None:
    leave(tmp_path, name)
    assert temporaries.stale(tmp_path) == []


def test_links_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / DEAD).symlink_to(tmp_path / "precious")
    temporaries.remove_stale(tmp_path)
    assert (tmp_path / DEAD).is_symlink()


def test_a_writer_whose_new_file_was_taken_for_stale_makes_another(tmp_path: Path) -> None:
    """Between the making of a temporary and its lock, another process may remove it."""
    made: list[Path] = []

    def make(path: Path) -> None:
        path.touch()
        made.append(path)
        if len(made) < 3:
            temporaries.remove_stale(tmp_path)

    with temporaries.claimed(tmp_path / "b", make) as (temporary, _):
        assert made[-1] == temporary
        assert temporary.exists()
    assert len(made) == 3


def test_locks_exclude_and_share(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with claims.held(file, shared=True), claims.held(file, shared=True):
        assert not claims.is_held(file)
        with pytest.raises(BlockingIOError), claims.held(file):
            pass
    with claims.held(file):
        assert claims.is_held(file)
        seen: list[bool] = []
        thread = threading.Thread(target=lambda: seen.append(claims.is_held(file)))
        thread.start()
        thread.join()
        assert seen == [True]
    assert not claims.is_held(file)
