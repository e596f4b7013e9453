"""Every test has a user folder of its own and a terminal of known size."""

import gc
import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from debiasctl.compute.threads import wait_briefly

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what it puts in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported: processes at once, each with one thread
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("MKL_NUM_THREADS", "1")
wait_briefly()  # as the command line does


gc.disable()  # while modules are imported, of which nothing is garbage


def pytest_collection_finish() -> None:
    """Searches for circles of references leave out the modules and tests, which are kept to the end."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Iterator[Any]:
    """What a worker reports is sent as UTF-8, and tests print names of files that have none."""
    return _encodable((yield))


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {_encodable(name): _encodable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_encodable(inner) for inner in value)
    return value


@pytest.fixture(scope="session")
def _homes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, "itertools.count[int]"]:
    return tmp_path_factory.mktemp("homes"), itertools.count()


@pytest.fixture(autouse=True)
def debiasctl_home(_homes: tuple[Path, "itertools.count[int]"], monkeypatch: pytest.MonkeyPatch) -> Path:
    folder, numbers = _homes
    home = folder / str(next(numbers))  # pytest's own numbering lists the folder again for each of thousands of tests
    home.mkdir()
    monkeypatch.setenv("DEBIASCTL_HOME", str(home))
    monkeypatch.delenv("DEBIASCTL_DATA", raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("debiasctl.compute.others._SHORTEST", 1e9)  # messages do not depend on how busy the machine is
    return home
