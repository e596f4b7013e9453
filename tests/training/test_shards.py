"""Two processes that train on shards, are killed and resumed, see each image of an epoch once."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from tiny import make_spec, write_distribution

from debiasctl.runs.store import Run

NOTED = '''
import json, os
from dataclasses import dataclass, replace
from debiasctl.builtin.datasets.webdataset import WebDataset

@dataclass(frozen=True)
class NotedSplit:
    split: object
    def __len__(self):
        return len(self.split)
    def labels(self, indices):
        return self.split.labels(indices)
    def images(self, indices):
        line = json.dumps([os.getpid(), int(os.environ["RANK"]), indices.tolist()]) + "\\n"
        log = os.open(os.environ["NOTED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(log, line.encode())
        os.close(log)
        return self.split.images(indices)

class Noted(WebDataset):
    """Shards that note which images are read."""
    def load(self, location):
        data = super().load(location)
        return replace(data, train=NotedSplit(data.train))
'''
BATCH, STEPS = 8, 300


def shards(root: Path, *, num: int, per: int) -> str:
    import webdataset

    for shard in range(num):
        with webdataset.TarWriter(f"{root}/{shard:02}.tar") as writer:
            for number in range(per):
                key = f"{shard:02}{number:03}"
                image = Image.new("L", (8, 8), (per * shard + number) % 256)
                writer.write({"__key__": key, "png": image, "cls": number % 3})
    return f"{root}/{{00..{num - 1:02}}}.tar"


def reads(log: Path) -> dict[int, list[tuple[int, list[int]]]]:
    """The images of each batch that a process read, by its rank; the first image alone is read for its format."""
    found: dict[int, list[tuple[int, list[int]]]] = {0: [], 1: []}
    for line in log.read_text().splitlines() if log.exists() else []:
        pid, rank, indices = json.loads(line)
        if indices != [0]:
            found[rank].append((pid, indices))
    return found


def steps_of(found: dict[int, list[tuple[int, list[int]]]], first: int) -> dict[int, list[int]]:
    """The images of both processes' parts of each step; a launch reads its steps in order, from `first` on."""
    steps: dict[int, list[int]] = {}
    for rank in (0, 1):
        for step, (_, indices) in enumerate(found[rank], start=first):
            assert len(indices) == BATCH // 2  # its part alone
            steps.setdefault(step, []).extend(indices)
    return steps


@pytest.mark.slow
def test_two_processes_killed_and_resumed_see_each_image_once_an_epoch(tmp_path: Path, debiasctl_home: Path) -> None:
    points = {"debiasctl.datasets": {"noted": "noted_shards:Noted"}}
    site = tmp_path / "site"
    write_distribution(site, name="noted", version="1.0", entry_points=points, modules={"noted_shards": NOTED})
    raw = make_spec(training__log_every=1, training__checkpoint_every=5).model_dump(mode="json")
    options = {"urls": shards(tmp_path, num=3, per=400), "identify": "files"}
    raw["data"]["dataset"] = {"name": "noted", "options": options}
    raw["training"]["steps"] = STEPS
    file = tmp_path / "spec.json"
    file.write_text(json.dumps(raw))
    environment = {**os.environ, "PYTHONPATH": str(site), "DEBIASCTL_HOME": str(debiasctl_home)}
    train = [sys.executable, "-m", "debiasctl", "train"]
    common = ["--processes", "2", "--device", "cpu"]

    first = tmp_path / "first"
    command = [*train, "--spec", str(file), "--name", "run", *common]
    with subprocess.Popen(
        command, env=environment | {"NOTED": str(first)}, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 300
        while len(reads(first)[1]) < 40 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert process.poll() is None, process.communicate()[1]
        pids = {pid for parts in reads(first).values() for pid, _ in parts}
        for pid in [process.pid, *pids]:
            os.kill(pid, signal.SIGKILL)
    assert len(pids) == 2
    run = Run(debiasctl_home / "runs" / "run")
    resumed = run.checkpoint_steps()[-1]
    assert 0 < resumed < STEPS

    second = tmp_path / "second"
    command = [*train, "--resume", "run", *common]
    done = subprocess.run(
        command, env=environment | {"NOTED": str(second)}, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert run.checkpoint_steps()[-1] == STEPS
    before, after = steps_of(reads(first), 0), steps_of(reads(second), resumed)
    history = [before[step] if step < resumed else after[step] for step in range(STEPS)]
    num = run.spec().content.num_train
    drawn = [index for images in history for index in images]
    epochs = [drawn[at : at + num] for at in range(0, len(drawn) - num + 1, num)]
    assert len(epochs) == 2
    for epoch in epochs:
        assert sorted(epoch) == list(range(num))
    assert [before[step] for step in before if step >= resumed] == [after[step] for step in before if step >= resumed]
