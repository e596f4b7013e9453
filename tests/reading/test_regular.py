"""Only regular files are opened, wherever something is read, and a pipe never blocks."""

import os
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from debiasctl.api import WeightsFile
from debiasctl.builtin.datasets._support.idx import read_idx
from debiasctl.builtin.datasets._support.image_files import FolderSource, ZipSource
from debiasctl.builtin.datasets._support.image_reading import Unreadable, each_file
from debiasctl.builtin.datasets._support.npz_images import read_npz
from debiasctl.builtin.weightings.table import read_table
from debiasctl.errors import DebiasctlError
from debiasctl.evaluation.record import read_record
from debiasctl.evaluation.reference.statistics_file import holds_statistics, read_statistics
from debiasctl.models.tensor_files import read_state, read_tensors
from debiasctl.reading.regular import open_regular, read_bytes, read_text, sha256_file
from debiasctl.runs.archive import import_run
from debiasctl.runs.labels import read_labels
from debiasctl.runs.manifest import Manifest
from debiasctl.runs.metrics import read as read_metrics
from debiasctl.runs.store import Run
from debiasctl.sampling.description import Description
from debiasctl.sampling.image_files import count_images
from debiasctl.specs.files import read_spec_file

pytestmark = pytest.mark.skipif(os.name != "posix", reason="named pipes are of POSIX systems")


@pytest.fixture(params=["pipe", "socket", "device", "folder", "link to a pipe"])
def irregular(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Makes something that is no regular file, of that name."""
    held: list[socket.socket] = []

    def make(name: str) -> Path:
        path = tmp_path / name
        if request.param == "pipe":
            os.mkfifo(path)
        elif request.param == "socket":
            held.append(socket.socket(socket.AF_UNIX))
            here = os.getcwd()
            os.chdir(tmp_path)  # a socket's path may have 100 characters
            try:
                held[-1].bind(name)
            finally:
                os.chdir(here)
        elif request.param == "device":
            path.symlink_to("/dev/zero")
        elif request.param == "folder":
            path.mkdir()
        else:
            os.mkfifo(tmp_path / "pipe")
            path.symlink_to(tmp_path / "pipe")
        return path

    yield make
    for one in held:
        one.close()


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "open_regular": ("x", open_regular),
    "read_bytes": ("x", read_bytes),
    "read_text": ("x", read_text),
    "sha256_file": ("x", sha256_file),
    "spec": ("spec.yaml", read_spec_file),
    "status": ("status.json", lambda path: Run(path.parent)._stored_status()),
    "stored spec": ("spec.json", lambda path: Run(path.parent).spec()),
    "metrics": ("metrics.jsonl", read_metrics),
    "labels": ("labels.json", lambda path: read_labels(Run(path.parent))),
    "manifest": ("manifest.json", lambda path: Manifest.read(path.parent)),
    "record": ("x.json", lambda path: read_record(path, way_on="")),
    "samples": ("samples.json", lambda path: Description.read(path.parent)),
    "drawn images": ("images.npz", count_images),
    "archive": ("run.tar", import_run),
    "npz of images": ("x.npz", read_npz),
    "is it statistics": ("x.npz", holds_statistics),
    "statistics": ("x.npz", read_statistics),
    "zip": ("x.zip", ZipSource),
    "idx": ("x-idx3-ubyte", lambda path: read_idx(path, ndim=3)),
    "table": ("x.csv", partial(read_table, column="weight")),
    "weights": ("x.safetensors", read_tensors),
    "state": ("state.pt", read_state),
    "feature weights": ("x.pt", lambda path: WeightsFile("net", "f", "x.pt", "https://x", None).obtain(path, path)),
}


@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_regular_file_is_refused(irregular: Callable[[str], Path], reader: str) -> None:
    name, read = READERS[reader]
    with pytest.raises((OSError, ValueError, DebiasctlError)) as caught:
        read(irregular(name))
    assert "Traceback" not in str(caught.value)


def test_a_pipe_among_images_is_one_unreadable_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    source = FolderSource(tmp_path)
    found = list(each_file(source, source.files, lambda stream: stream.read()))
    assert found == [Unreadable("a.png", "it is a named pipe, not a regular file")]


def test_a_folder_of_a_run_with_a_pipe_for_its_status_is_listed_as_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from debiasctl.runs.listing import list_runs

    monkeypatch.setenv("DEBIASCTL_HOME", str(tmp_path))
    (tmp_path / "runs" / "a").mkdir(parents=True)
    os.mkfifo(tmp_path / "runs" / "a" / "status.json")
    (tmp_path / "runs" / "a" / "spec.json").write_text("{}")
    summary = list_runs()[0]
    assert summary.state == "damaged"
    assert "named pipe" in str(summary.problem)


def test_a_file_beyond_the_limit_is_refused_with_its_size(tmp_path: Path) -> None:
    with open(tmp_path / "x", "wb") as stream:
        stream.truncate(10**12)  # a hole: it takes no room
    with pytest.raises(ValueError, match="it has 1,000,000,000,000 bytes, and at most 100 are read"):
        read_bytes(tmp_path / "x", limit=100)


@pytest.mark.parametrize("name", ["spec.json", "spec.yaml", "spec.toml", "table.csv", "status.json"])
def test_a_byte_order_mark_is_accepted(tmp_path: Path, name: str) -> None:
    content = {
        "spec.json": '{"training": {"steps": 3}}',
        "spec.yaml": "training:\n  steps: 3\n",
        "spec.toml": "[training]\nsteps = 3\n",
        "table.csv": "snr,weight\n0.1,1\n1,2\n",
        "status.json": "{}",
    }[name]
    path = tmp_path / name
    path.write_bytes(b"\xef\xbb\xbf" + content.encode())
    if name == "table.csv":
        assert read_table(path, column="weight") == ("snr", [(0.1, 1.0), (1.0, 2.0)])
    elif name == "status.json":
        assert Run(tmp_path)._read(name) == "{}"
    else:
        assert read_spec_file(path) == {"training": {"steps": 3}}


def test_a_spec_that_may_not_be_read_is_made_readable_and_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("debiasctl.runs.store.read_text", refuse)
    with pytest.raises(DebiasctlError, match=r"Permission denied\. Make it readable: chmod") as caught:
        Run(tmp_path).spec()
    assert "runs rm" not in str(caught.value)
