import errno
import hashlib
import json
import os
import threading
import time
from pathlib import Path

import pytest

from debiasctl import files, paths
from debiasctl.errors import DebiasctlError, UsageError


def test_a_file_takes_its_place_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.bin"
    files.write_bytes(path, b"old")
    with files.atomic_file(path) as stream:
        stream.write(b"new")
        stream.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(path.parent) == ["file.bin"]


@pytest.mark.parametrize("linked", [False, True])
def test_what_is_no_file_is_not_replaced(tmp_path: Path, linked: bool) -> None:
    """As the superuser, who may remove it, one would lose /dev/null."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    path = tmp_path / "link" if linked else pipe
    if linked:
        path.symlink_to(pipe)
    for write in (lambda: files.write_bytes(path, b"new"), lambda: files.check_file(path, argument="out")):
        with pytest.raises(UsageError, match="it is a named pipe, and a file would take its place"):
            write()
    assert pipe.is_fifo()
    assert path.is_symlink() == linked


def test_one_makes_while_another_waits_and_finds(tmp_path: Path) -> None:
    path, missed, made = tmp_path / "new" / "file", threading.Event(), []

    def find() -> str | None:
        return path.read_text() if path.exists() else None

    def find_late() -> str | None:
        found = find()
        missed.set()
        return found

    def make() -> str:
        thread.start()
        assert missed.wait(60)
        made.append(1)
        path.write_text("made")
        return "made"

    thread = threading.Thread(target=lambda: made.append(files.made_once(path, find=find_late, make=lambda: "again")))
    assert files.made_once(path, find=find, make=make) == "made"
    thread.join()
    assert made == [1, "made"]


def test_waiting_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def hold_it_too() -> None:
        with files.file_lock(tmp_path / "lock", waiting="waiting for it"):
            pass

    thread = threading.Thread(target=hold_it_too)
    with files.file_lock(tmp_path / "lock", waiting="nobody holds it"):
        thread.start()
        while not caplog.messages:
            assert thread.is_alive()
            time.sleep(0.01)
    thread.join()
    assert caplog.messages == ["waiting for it"]


def test_what_is_found_is_not_made_and_nothing_is_written(tmp_path: Path) -> None:
    assert files.made_once(tmp_path / "new" / "file", find=lambda: 1, make=lambda: 2) == 1
    assert list(tmp_path.iterdir()) == []


def test_after_a_failure_another_may_make_it(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        files.made_once(tmp_path / "file", find=lambda: None, make=lambda: 1 // 0)
    assert files.made_once(tmp_path / "file", find=lambda: None, make=lambda: 3) == 3
    (tmp_path / "file").write_text("x")
    with pytest.raises(DebiasctlError, match="cannot write"):
        files.made_once(tmp_path / "file" / "below", find=lambda: None, make=lambda: 3)


@pytest.mark.parametrize("kind", ["file", "link", "locked", "new"])
def test_a_place_is_checked_without_a_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    place = tmp_path / kind
    access = os.access
    if kind == "file":
        place.write_text("x")
    elif kind == "link":
        place.symlink_to(tmp_path / "gone")
    elif kind == "locked":
        place.mkdir()
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != place and access(path, mode))
    before = sorted(os.listdir(tmp_path))
    reasons = {
        "file": f"{place} is not a folder",
        "link": f"{place} is a link to nothing",
        "locked": f"writing in {place} is not allowed",
    }
    for path in (place / "x.png", place / "deep" / "er" / "x.png"):
        assert files.obstacle(path.parent) == reasons.get(kind)
        if kind == "new":
            files.check_file(path, argument="plot")
        else:
            with pytest.raises(DebiasctlError, match=r"^cannot write .*x\.png: ") as caught:
                files.check_file(path, argument="plot")
            assert reasons[kind] in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == before
    with pytest.raises(UsageError, match=r"`plot=.*` is a folder"):
        files.check_file(tmp_path, argument="plot")


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyboardInterrupt()])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write() -> None:
        with files.atomic_file(path) as stream:
            stream.write(b"half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_file_is_on_the_disk_before_it_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (calls.append("fsync"), fsync(descriptor)))
    monkeypatch.setattr(os, "replace", lambda source, target: (calls.append("replace"), replace(source, target)))
    files.write_bytes(tmp_path / "file", b"x")
    assert calls == ["fsync", "replace", "fsync"]  # the last is the folder's


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "store" / "run"
    with files.atomic_folder(path) as folder:
        (folder / "a").mkdir()
        (folder / "a" / "b").write_text("c")
        assert not path.exists()
    assert (path / "a" / "b").read_text() == "c"
    assert os.listdir(path.parent) == ["run"]


def test_an_error_leaves_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "run"

    def write() -> None:
        with files.atomic_folder(path) as folder:
            (folder / "a").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write()
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.mkdir()
    (path / "old").write_text("old")
    with pytest.raises(DebiasctlError, match="cannot write"), files.atomic_folder(path) as folder:
        (folder / "new").write_text("new")
    assert os.listdir(tmp_path) == ["run"]
    assert os.listdir(path) == ["old"]


def test_a_folder_is_replaced_when_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.mkdir()
    (path / "old").write_text("old")
    with files.atomic_folder(path, replace=True) as folder:
        (folder / "new").write_text("new")
        assert os.listdir(path) == ["old"]
    assert os.listdir(path) == ["new"]
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.parametrize("fails_at", [1, 2])  # moving the old one away, and the new one in
def test_a_folder_that_cannot_be_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int) -> None:
    path = tmp_path / "run"
    path.mkdir()
    (path / "old").write_text("old")
    replace, calls = os.replace, []

    def refuse(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == fails_at:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(DebiasctlError, match="cannot write"), files.atomic_folder(path, replace=True) as folder:
        (folder / "new").write_text("new")
    assert os.listdir(tmp_path) == ["run"]
    assert os.listdir(path) == ["old"]


def test_a_file_is_hashed_on_its_way(tmp_path: Path) -> None:
    with files.hashing_file(tmp_path / "file") as file:
        assert file.write(b"ab") == 2
        file.write(memoryview(b"c"))
    assert (tmp_path / "file").read_bytes() == b"abc"
    assert file.sha256() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(FileExistsError), files.hashing_file(tmp_path / "file"):
        pass


def test_a_refused_write_is_raised_in_the_end_and_nothing_is_written_after_it(tmp_path: Path) -> None:
    written: list[bytes] = []
    taken: list[int] = []

    def write(data: bytes) -> None:
        written.append(data)
        if data == b"refused":
            raise OSError(errno.ENOSPC, "full")

    class Stream:
        def __init__(self, *_: object) -> None:
            self.write = write

        def __enter__(self) -> "Stream":
            return self

        def __exit__(self, *_: object) -> None: ...

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "open", Stream, raising=False)
        with pytest.raises(OSError, match="full"), files.hashing_file(tmp_path / "file") as file:
            taken.extend(map(file.write, (b"taken", b"refused", b"dropped")))
    assert taken == [5, 7, 7]  # as a library that goes on expects
    assert written == [b"taken", b"refused"]


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "the disk is full. Free some space"),
        (errno.EDQUOT, "the disk is full. Free some space"),
        (errno.EROFS, "writing there is not allowed. Choose another place"),
        (errno.EACCES, "writing there is not allowed. Choose another place"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
@pytest.mark.parametrize("writer", ["file", "folder"])
def test_a_disk_that_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str, writer: str
) -> None:
    path = tmp_path / "thing"
    if writer == "file":
        path.write_text("old")

    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    def write() -> None:
        if writer == "file":
            files.write_bytes(path, b"new")
        else:
            with files.atomic_folder(path) as folder:
                (folder / "a").write_text("new")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(DebiasctlError) as caught:
        write()
    assert f"cannot write {path}: {message}" in str(caught.value)
    assert caught.value.exit_code == 1
    assert isinstance(caught.value.__cause__, OSError)
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == (
        [("thing", "old")] if writer == "file" else []
    )


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DebiasctlError, match="cannot write"):
        files.write_bytes(tmp_path / "file" / "below", b"x")


def test_json_is_written_so_that_it_reads_back_and_never_as_nan(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    value = {"a": [1, 2.5, None, "ü"], "b": {"c": True}}
    files.write_json(path, value)
    assert json.loads(path.read_text()) == value
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == value


def test_the_hash_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")  # FIPS 180-2, B.1
    assert files.sha256_file(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_key_is_of_the_content_alone() -> None:
    key = files.content_key({"a": 1, "b": {"c": [1, 2], "d": None}})
    assert key == files.content_key({"b": {"d": None, "c": [1, 2]}, "a": 1})
    assert key == hashlib.sha256(b'{"a":1,"b":{"c":[1,2],"d":null}}').hexdigest()[:16]
    others = [{"a": 1}, {"a": "1", "b": {"c": [1, 2], "d": None}}, {"a": 1, "b": {"c": [2, 1], "d": None}}]
    assert len({key, *map(files.content_key, others)}) == 4
    with pytest.raises(ValueError, match="JSON"):
        files.content_key(float("inf"))


def test_the_users_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEBIASCTL_HOME", str(tmp_path / "h"))
    assert paths.home() == tmp_path / "h"
    assert paths.runs_dir() == tmp_path / "h" / "runs"
    assert paths.cache_dir() == tmp_path / "h" / "cache"
    assert not (tmp_path / "h").exists()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEBIASCTL_HOME", "relative")
    assert paths.home() == tmp_path / "relative"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DEBIASCTL_HOME", "~/below")
    assert paths.home() == tmp_path / "below"


@pytest.mark.skipif(os.name != "posix" or os.uname().sysname != "Linux", reason="the XDG folders are Linux's")
def test_the_platforms_folders_without_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEBIASCTL_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert paths.runs_dir() == tmp_path / "data" / "debiasctl" / "runs"
    assert paths.cache_dir() == tmp_path / "cache" / "debiasctl"


def test_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert paths.data_dir() is None
    monkeypatch.setenv("DEBIASCTL_DATA", str(tmp_path))
    assert paths.data_dir() == tmp_path
    monkeypatch.setenv("DEBIASCTL_DATA", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="is not a folder"):
        paths.data_dir()
