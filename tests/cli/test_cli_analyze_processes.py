"""Several processes, started by debiasctl or by torchrun, analyze as one does."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny import OPTIONS, error_of, succeed

from debiasctl.paths import runs_dir

WHAT = ("analyze", "run", "-n", "24", "--trajectories", "2,4", "--steps", "4", "--counterfactual", "p2",
        "--device", "cpu", "--json")  # fmt: skip
# with -n and not --num, which torchrun would take for the beginning of an option of its own
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
TOLERANCE = 1e-6  # of sums in other numbers of threads


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A home with one run, and what one process finds of it."""
    folder = tmp_path_factory.mktemp("processes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEBIASCTL_HOME", str(folder))
        succeed("train", "digits", *OPTIONS, "--steps", "2", "--name", "run")
        found = json.loads(succeed(*WHAT, "--only", "existence,impact,reasons").out)
        shutil.rmtree(runs_dir() / "run" / "analyses")
    return folder, found


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        (("-m", "debiasctl", *WHAT, "--processes", "2"), "reasons"),
        ((*TORCHRUN, "debiasctl", *WHAT), "existence,impact"),
    ],
    ids=["debiasctl", "torchrun"],
)
def test_two_processes_find_what_one_does(
    alone: tuple[Path, dict[str, Any]], command: tuple[str, ...], parts: str, tmp_path: Path
) -> None:
    folder, expected = alone
    shutil.copytree(folder, tmp_path / "home")
    environment = os.environ | {"DEBIASCTL_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, *command, "--only", parts], capture_output=True, text=True, timeout=300, check=False,
        env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)  # one process speaks
    assert [part["name"] for part in found["parts"]] == parts.split(",")
    references = {part["name"]: part["records"][0] for part in expected["parts"]}
    for part in found["parts"]:
        (record,), reference = part["records"], references[part["name"]]
        assert [one["name"] for one in record["quantities"]] == [one["name"] for one in reference["quantities"]]
        for one, value in zip(record["quantities"], reference["quantities"], strict=True):
            assert one["value"] == pytest.approx(value["value"], rel=TOLERANCE, abs=TOLERANCE), one["name"]
    left = [path.suffix for path in (tmp_path / "home" / "runs" / "run" / "analyses").iterdir()]
    assert left.count(".json") == len(found["parts"])
    assert set(left) <= {".json", ".npz"}  # and no units


def test_a_launched_process_launches_no_more(
    alone: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEBIASCTL_HOME", str(alone[0]))
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    assert "torchrun has started this already" in error_of(*WHAT, "--processes", "2", code=2)
