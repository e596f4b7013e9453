"""Following the training of a classifier: the time that it takes, and whether its accuracy can still become enough."""

import logging
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from debiasctl.api import ArraySplit, Split, spread_indices, write_json
from debiasctl.api.files import read_json
from debiasctl.builtin.features._support.classifier import Classifier, heldout_accuracy

_LOG = logging.getLogger(__name__)
_FILE = "stopped.json"
_LOOKED_AT = 1000  # held-out images
_FEWEST_STEPS = 75  # before that, an accuracy says nothing of the last one
# share of the steps -> the least share of the errors then that were left at the end, on real data, with room to spare
_ERRORS_LEFT = {0.25: 0.6, 0.5: 0.75, 0.75: 0.9}
_FEW = 10  # steps that do not tell how long the others take, as the first one is slow
_FIRST_REPORT, _REPORT_EVERY, _LONG = 1.0, 10.0, 4.0  # seconds


@dataclass(frozen=True)
class Stopped:
    """A training that was stopped after `step` of `steps`, at this accuracy on `num` held-out images."""

    accuracy: float
    num: int
    step: int
    steps: int

    @property
    def reachable(self) -> float:
        """The highest accuracy that can still be expected at the end, two standard errors included."""
        likely = self.accuracy + 2 * math.sqrt(self.accuracy * (1 - self.accuracy) / self.num)
        done = self.step / self.steps
        left = max((share for share in _ERRORS_LEFT if share <= done), default=None)
        return 1.0 if left is None else 1 - _ERRORS_LEFT[left] * max(1 - likely, 0)


class StoppedTraining(Exception):
    """The training was stopped, since the accuracy needed cannot be expected."""

    def __init__(self, outcome: Stopped) -> None:
        super().__init__()
        self.outcome = outcome


class Watch:
    """Called after every step of a training: reports how long it takes, and stops it if `needed` is out of reach."""

    def __init__(self, heldout: Split, *, needed: float, steps: int, resolution: int) -> None:
        indices = spread_indices(len(heldout), _LOOKED_AT)
        self._heldout = heldout if not len(indices) else ArraySplit(heldout.images(indices), heldout.labels(indices))
        self._needed, self._steps, self._resolution = needed, steps, resolution
        self._checks = {math.ceil(share * steps) for share in _ERRORS_LEFT if share * steps >= _FEWEST_STEPS}
        self._start = time.monotonic()
        self._next = _FIRST_REPORT

    def __call__(self, network: Classifier, step: int) -> None:
        """Report, and check the accuracy when it is due.

        Raises:
            StoppedTraining: if the accuracy needed cannot be expected.
        """
        self._report(step)
        if step not in self._checks or not len(self._heldout):
            return
        accuracy = heldout_accuracy(network, self._heldout, resolution=self._resolution)
        assert accuracy is not None, "there are held-out images"
        outcome = Stopped(accuracy, len(self._heldout), step, self._steps)
        if outcome.reachable < self._needed:
            raise StoppedTraining(outcome)

    def _report(self, step: int) -> None:
        passed = time.monotonic() - self._start
        left = passed / step * (self._steps - step)
        if passed >= self._next and step >= _FEW:
            self._next = passed + _REPORT_EVERY
            if left >= _LONG:
                _LOG.info("step %d of %d, about %.0f s left", step, self._steps, left)


def read_stopped(folder: Path) -> Stopped | None:
    """The outcome of an earlier training that was stopped; None if there was none, or its file is damaged."""
    try:
        found = Stopped(**read_json(folder / _FILE, limit=2**16))
        return found if 0 <= found.accuracy <= 1 and found.num > 0 and 0 < found.step <= found.steps else None
    except (OSError, ValueError, TypeError):
        return None


def write_stopped(folder: Path, outcome: Stopped) -> None:
    """Keep the outcome, so that the same training is not made again for the same accuracy."""
    write_json(folder / _FILE, asdict(outcome))
