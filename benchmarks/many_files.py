"""Listing, starting and remembering a folder of many small files: python benchmarks/many_files.py [NUM] [FOLDER]."""

import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from debiasctl.builtin.datasets._support.image_source import open_source
from debiasctl.runs.store import Run

_CLASSES = 10
_IMAGES = 256  # different ones
_SIZE = 16
_BACKBONE = "dit:hidden_size=32,depth=1,num_heads=2"
_TRAIN = ["--steps", "1", "--batch-size", "64", "--backbone", _BACKBONE, "--device", "cpu", "--name", "timed"]


def main() -> None:
    num = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        root = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(folder, "images")
        if not root.exists():
            print(f"{_make(root, num):.0f} s to write {num:,} files")
        begin, used = time.perf_counter(), time.process_time()
        source = open_source(root)
        took, used = time.perf_counter() - begin, time.process_time() - used
        print(f"{took:.1f} s ({used:.1f} s of one core) to list {len(source.files):,} files")
        del source
        for what, options in (("as a user would", []), ("size and mode stated", [f"image_size={_SIZE}", "mode=rgb"])):
            home = Path(folder, f"home{len(options)}")
            reference = f"folder:path={root}{''.join(f',{option}' for option in options)}"
            seconds, used, peak = _train(reference, home)
            print(f"{seconds:.1f} s ({used:.1f} s of one core), {peak:.0f} MiB to train one step, {what}")
            (hashes,) = home.rglob("hashes")
            read = np.count_nonzero(np.fromfile(hashes, dtype=np.uint64).reshape(-1, 4)[:, 0])
            print(f"  {read:,} images decoded; known as {_known(home)}")


def _make(root: Path, num: int) -> float:
    begin, rng, contents = time.perf_counter(), np.random.default_rng(0), []
    for _ in range(_IMAGES):
        stream = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (_SIZE, _SIZE, 3), dtype=np.uint8)).save(stream, "PNG")
        contents.append(stream.getvalue())
    for number in range(_CLASSES):
        (root / f"class{number}").mkdir(parents=True)
    for number in range(num):
        (root / f"class{number % _CLASSES}" / f"{number:08}.png").write_bytes(contents[number % _IMAGES])
    return time.perf_counter() - begin


def _train(reference: str, home: Path) -> tuple[float, float, float]:
    """Seconds, those of one core, and the MiB held at most, mapped files left out."""
    begin, peak = time.perf_counter(), 0
    before = os.times()
    environment = {**os.environ, "DEBIASCTL_HOME": str(home)}
    command = [sys.executable, "-m", "debiasctl", "train", reference, *_TRAIN]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
        peak = max(peak, int(found[1]) if found else 0)
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"the training failed: {' '.join(command)}")
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - begin, used, peak / 1024


def _known(home: Path) -> str:
    spec = json.loads((Run(home / "runs/timed").path / "spec.json").read_text())
    return str(spec["content"]["content_hash"])


if __name__ == "__main__":
    main()
