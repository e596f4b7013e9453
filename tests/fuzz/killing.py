"""Kill train, sample, evaluate, import and sweep with SIGKILL at random moments, and check that nothing is lost.

    python tests/fuzz/killing.py --trials 40 --seed 1

A trial starts a command, kills it at moments drawn over its duration, gives the same command again until it ends, and
compares what is stored with what a command that was never killed stores. After every kill the store must be readable.
Commands run in forks of this process, which has imported torch already and computed nothing.
"""

import argparse
import contextlib
import hashlib
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

BACKBONE = "dit:hidden_size=16,depth=1,num_heads=2,dropout=0.3"
TRAIN = ("train", "digits", "--backbone", BACKBONE, "--batch-size", "8", "--steps", "40", "--name", "r",
    "--device", "cpu", "--set", "training.heldout_images=4", "--set", "training.checkpoint_every=4", "--set",
    "training.heldout_every=10")  # fmt: skip
SAMPLE = ("sample", "r", "--num", "48", "--steps", "5", "--batch-size", "8", "--device", "cpu")
EVALUATE = (
    "evaluate",
    "r",
    "--num",
    "32",
    "--steps",
    "4",
    "--batch-size",
    "8",
    "--features",
    "pixels:dimension=4",
    "--device",
    "cpu",
)
SWEEP = ("sweep", "digits", "--weighting", "constant,p2", "--seeds", "2", "--name", "s", "--jobs", "2", *TRAIN[2:8],
    *TRAIN[10:], "--num", "16", "--evaluate-steps", "3", "--features", "pixels:dimension=4")  # fmt: skip
KINDS = ("train", "sample", "evaluate", "import", "sweep")
MOST_KILLS = 6  # in a trial; then the command is let to its end
_OWN = ("created", "updated", "run", "run_identity")  # times, and what a run is given by lot


class Lost(Exception):
    """A killed command lost or spoilt something."""


@dataclass
class House:
    """A user folder, and how commands run in it."""

    home: Path
    log: Path
    kills: int = 0
    workers_killed: int = 0  # among the kills
    checkpoints: dict[Path, tuple[int, int]] = field(default_factory=dict)  # that were seen after kills
    durations: dict[str, float] = field(default_factory=dict)

    def start(self, *arguments: str) -> int:
        """Start a command in a fork, and return its process number."""
        child = os.fork()
        if child:
            return child
        os.setsid()
        os.environ["DEBIASCTL_HOME"] = str(self.home)
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(log, stream)
        os.chdir(self.home.parent)
        sys.argv = ["debiasctl", *arguments]
        from debiasctl.cli.app import main

        try:
            main()
        except SystemExit as end:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(int(end.code or 0))
        finally:
            os._exit(99)

    def finish(self, *arguments: str) -> int:
        """Let a command end, and return its exit code."""
        begun = time.monotonic()
        _, status = os.waitpid(self.start(*arguments), 0)
        self.durations[arguments[0]] = time.monotonic() - begun
        return os.waitstatus_to_exitcode(status)

    def succeed(self, *arguments: str) -> None:
        """Let a command end well.

        Raises:
            Lost: if it does not.
        """
        if (code := self.finish(*arguments)) != 0:
            raise Lost(f"debiasctl {' '.join(arguments)} ended with {code}: {self.log.read_text()[-2000:]}")

    def kill(self, *arguments: str, after: float) -> bool:
        """Start a command and kill it after some seconds; whether it still ran."""
        child = self.start(*arguments)
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status)
        if not killed and (code := os.waitstatus_to_exitcode(status)) != 0:
            raise Lost(
                f"debiasctl {' '.join(arguments)} ended with {code} after a kill: {self.log.read_text()[-2000:]}"
            )
        self.kills += killed
        return killed

    def kill_worker(self, *arguments: str, after: float, rng: random.Random) -> bool:
        """Start a sweep and kill one of its workers after some seconds; the sweep has to end well by itself."""
        child = self.start(*arguments)
        time.sleep(after)
        workers = [] if (status := os.waitpid(child, os.WNOHANG))[0] else psutil.Process(child).children()
        if workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                rng.choice(workers).kill()
                self.kills += 1
                self.workers_killed += 1
                self.see_checkpoints()
        status = status if status[0] else os.waitpid(child, 0)
        if (code := os.waitstatus_to_exitcode(status[1])) != 0:
            raise Lost(f"a sweep whose worker was killed ended with {code}: {self.log.read_text()[-2000:]}")
        return bool(workers)

    def see_checkpoints(self) -> None:
        """Remember the weights that are stored, of which none may be trained again.

        Raises:
            Lost: if weights that were seen before are there once more, in another file.
        """
        for weights in self.home.glob("runs/[!.]*/checkpoints/[!.]*/model.safetensors"):
            with contextlib.suppress(FileNotFoundError):  # a later checkpoint took its place
                entry = weights.stat()
                found = (entry.st_ino, entry.st_mtime_ns)
                if self.checkpoints.setdefault(weights, found) != found:
                    raise Lost(f"sweep: {weights.relative_to(self.home)} was trained twice")


def _content(folder: Path, pattern: str) -> dict[str, str]:
    """The hashes of a run's files, without hidden ones, and without times and what the machine did."""
    found = {}
    for file in sorted(folder.glob(pattern)):
        if file.is_file() and not file.name.startswith("."):
            name = str(file.relative_to(folder))
            found[name] = hashlib.sha256(_without_times(file)).hexdigest()
    return found


def _without_times(file: Path) -> bytes:
    if file.suffix not in (".json", ".jsonl"):
        return file.read_bytes()
    records = (
        [json.loads(line) for line in file.read_text().splitlines()]
        if file.suffix == ".jsonl"
        else [json.loads(file.read_text())]
    )
    return json.dumps([_strip(record) for record in records], sort_keys=True).encode()


def _strip(value: object) -> object:
    if isinstance(value, dict):
        from debiasctl.training.meters import MACHINE_FIELDS

        return {key: _strip(inner) for key, inner in value.items() if key not in (*MACHINE_FIELDS, *_OWN)}
    return [_strip(inner) for inner in value] if isinstance(value, list) else value


def _compare(kind: str, found: dict[str, str], expected: dict[str, str]) -> None:
    differing = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    if differing:
        raise Lost(f"{kind}: after kills these differ from a command that was never killed: {differing[:5]}")


def _until_done(
    house: House,
    command: tuple[str, ...],
    again: Callable[[], tuple[str, ...] | None],
    rng: random.Random,
    *,
    duration: float,
) -> None:
    """Kill a command again and again, looking at the store each time; then let it end.

    `again` is the command after a kill, or None if what was killed had all been done and only its process was left.
    """
    for _ in range(rng.randint(1, MOST_KILLS)):
        if not house.kill(*command, after=rng.uniform(0, duration)):
            return
        house.succeed("runs", "list", "--json")
        following = again()
        if following is None:
            return
        command = following
    house.succeed(*command)


def _resumption(run: Path) -> tuple[str, ...] | None:
    """The command that trains a run to its end, which one that is finished refuses."""
    if not run.exists():
        return TRAIN
    finished = json.loads((run / "status.json").read_text())["state"] == "finished"
    return None if finished else ("train", "--resume", "r", "--device", "cpu")


def trial(kind: str, reference: Path, rng: random.Random, *, duration: float, folder: Path) -> int:
    """Run one trial of a kind, and return the number of kills.

    Raises:
        Lost: if something was lost, spoilt or left behind.
    """
    house = House(folder / "home", folder / "log")
    runs = house.home / "runs"
    run, whole = runs / "r", reference / kind / "runs" / "r"
    if kind == "train":
        _until_done(house, TRAIN, lambda: _resumption(run), rng, duration=duration)
        patterns = ("checkpoints/*/*.safetensors", "metrics.jsonl", "spec.json")
    elif kind == "import":
        runs.mkdir(parents=True)
        command = ("runs", "import", str(reference / "r.tar"))
        for _ in range(rng.randint(1, MOST_KILLS)):
            if house.kill(*command, after=rng.uniform(0, duration)) and not run.exists():
                house.succeed("runs", "list", "--json")
                continue
            break
        if not run.exists():
            house.succeed(*command)
        patterns = ("**/*",)
    else:
        shutil.copytree(reference / "train", house.home)
        command = SAMPLE if kind == "sample" else EVALUATE
        _until_done(house, command, lambda: command, rng, duration=duration)
        patterns = ("samples/**/*.png", "samples/**/*.npz", "evaluations/*.json")
    for pattern in patterns:
        _compare(kind, _content(run, pattern), _content(whole, pattern))
    house.succeed("runs", "show", "r")
    house.succeed("runs", "export", "r", "--out", str(folder / "after.tar"))
    if left := [str(path.relative_to(runs)) for path in runs.rglob("*.tmp")]:
        raise Lost(f"{kind}: these temporary files stay: {left[:5]}")
    return house.kills


def sweep_trial(reference: Path, rng: random.Random, *, duration: float, folder: Path) -> tuple[int, int]:
    """Kill a sweep or one of its workers, again and again; returns the number of kills, and of workers among them.

    Raises:
        Lost: if a run was lost, trained twice, or ended with other weights.
    """
    house = House(folder / "home", folder / "log")
    for _ in range(rng.randint(1, MOST_KILLS)):
        after = rng.uniform(0, duration)
        if rng.random() < 0.5:
            house.kill_worker(*SWEEP, after=after, rng=rng)
            break  # it has ended
        if not house.kill(*SWEEP, after=after):
            break
        house.see_checkpoints()
        house.succeed("runs", "list", "--json")
        house.succeed("sweep", "list", "--json")
    house.succeed(*SWEEP)
    house.see_checkpoints()
    runs, whole = house.home / "runs", reference / "sweep" / "runs"
    names = [sorted(path.name for path in place.iterdir() if path.name[0] != ".") for place in (runs, whole)]
    if names[0] != names[1]:
        raise Lost(f"sweep: the runs are {names[0]}, not {names[1]}")
    for name in names[0]:
        for pattern in ("checkpoints/*/*.safetensors", "metrics.jsonl", "spec.json"):
            _compare(f"run {name} of a sweep", _content(runs / name, pattern), _content(whole / name, pattern))
        if len(list((runs / name / "evaluations").glob("[!.]*.json"))) != 1:
            raise Lost(f"sweep: run {name} was not measured once")
    if left := [str(path.relative_to(runs)) for path in runs.rglob("*.tmp")]:
        raise Lost(f"sweep: these temporary files stay: {left[:5]}")
    return house.kills, house.workers_killed


def prepare(folder: Path) -> dict[str, float]:
    """Make what trials are compared with, below `folder`; returns the seconds that each command takes."""
    house = House(folder / "train", folder / "log")
    house.succeed(*TRAIN)
    durations = dict(house.durations)
    for kind, command in (("sample", SAMPLE), ("evaluate", EVALUATE)):
        shutil.copytree(folder / "train", folder / kind)
        house = House(folder / kind, folder / "log")
        house.succeed(*command)
        durations |= house.durations
    house.succeed("runs", "export", "r", "--out", str(folder / "r.tar"))
    house = House(folder / "import", folder / "log")
    house.succeed("runs", "import", str(folder / "r.tar"))
    durations["import"] = house.durations["runs"]
    house = House(folder / "sweep", folder / "log")
    house.succeed(*SWEEP)
    return durations | house.durations


def main() -> None:
    """Run the trials that the command line asks for, and print their counts."""
    importlib.import_module("debiasctl.training.session")  # imports torch, so that a fork starts at once

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=4, help="trials of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(KINDS))
    asked = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "120"}
    with tempfile.TemporaryDirectory() as scratch:
        durations = prepare(Path(scratch))
        for kind in asked.kinds.split(","):
            kills = workers = 0
            for number in range(asked.trials):
                folder = Path(scratch) / f"{kind}-{number}"
                folder.mkdir()
                rng = random.Random(f"{asked.seed}/{kind}/{number}")
                try:
                    if kind == "sweep":
                        found = sweep_trial(Path(scratch), rng, duration=durations[kind], folder=folder)
                        kills, workers = kills + found[0], workers + found[1]
                    else:
                        kills += trial(kind, Path(scratch), rng, duration=durations[kind], folder=folder)
                except Lost as error:
                    sys.exit(f"trial {number} of {kind} with seed {asked.seed}: {error}")
                shutil.rmtree(folder)
            of_workers = f" ({workers} of a worker)" if kind == "sweep" else ""
            print(f"{kind}: {asked.trials} trials, {kills} kills{of_workers}, nothing lost", flush=True)


if __name__ == "__main__":
    main()
