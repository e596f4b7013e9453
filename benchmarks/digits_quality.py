"""How far samples of `debiasctl train digits` can be told from real ones: python benchmarks/digits_quality.py RUN...

Draws 1,000 samples by `ddim` at 50 steps, puts them on the 17 grey levels, and prints: leave-one-out
1-nearest-neighbour accuracy against 1,000 real images (0.5: indistinguishable, 1: all told apart), the median distance
to the nearest training image beside that of held-out real images (smaller: memorised), and the share of each class.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Levels = NDArray[np.float64]  # [N, 64], grey levels 0 … 16


def samples_of(run: str, *, num: int = 1000) -> Levels:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "samples.npz")
        command = [sys.executable, "-m", "debiasctl", "sample", run, "--num", str(num), "--steps", "50", "--seed", "1"]
        subprocess.run([*command, "--out", str(out)], check=True, stdout=subprocess.DEVNULL)
        with np.load(out) as arrays:
            return to_levels(arrays["images"])


def to_levels(images: NDArray[np.uint8]) -> Levels:
    return np.round(images.reshape(len(images), -1).astype(np.float64) * 16 / 255)


def squared_distances(one: Levels, other: Levels) -> Levels:
    return np.maximum((one**2).sum(1)[:, None] + (other**2).sum(1)[None] - 2 * one @ other.T, 0)


def nearest_neighbour_accuracy(samples: Levels, real: Levels) -> float:
    """Leave-one-out accuracy of telling the two sets, of equal size, apart by the nearest neighbour."""
    both = np.concatenate([samples, real])
    is_real = np.arange(len(both)) >= len(samples)
    distances = squared_distances(both, both)
    np.fill_diagonal(distances, np.inf)
    return float((is_real[distances.argmin(axis=1)] == is_real).mean())


def report(samples: Levels) -> dict[str, object]:
    from sklearn.datasets import load_digits
    from sklearn.svm import SVC

    from debiasctl import paths, registry
    from debiasctl.api import DataLocation

    digits = load_digits()
    real = digits.data[np.random.default_rng(0).permutation(len(digits.data))[: len(samples)]]
    data = registry.create("datasets", "digits").load(DataLocation(None, paths.cache_dir()))
    train, heldout = to_levels(data.train.array.numpy()), to_levels(data.heldout.array.numpy())
    shares = np.bincount(SVC(gamma=0.001).fit(digits.data, digits.target).predict(samples), minlength=10)
    return {
        "accuracy": nearest_neighbour_accuracy(samples, real),
        "nearest_training": float(np.median(squared_distances(samples, train).min(axis=1) ** 0.5)),
        "nearest_training_heldout": float(np.median(squared_distances(heldout, train).min(axis=1) ** 0.5)),
        "shares": (shares / len(samples)).round(3).tolist(),
    }


def main() -> None:
    for run in sys.argv[1:]:
        print(run, report(samples_of(run)))


if __name__ == "__main__":
    main()
