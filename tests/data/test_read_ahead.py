import weakref
from concurrent.futures import Future

import pytest
import torch

from debiasctl.data import read_ahead
from debiasctl.data.read_ahead import ReadAhead
from debiasctl.errors import DataError

CPU = torch.device("cpu")


class Now:
    """An executor that does at once what it is given."""

    def __init__(self, workers: int, **options) -> None:
        assert workers == 1

    def submit(self, function, *arguments) -> Future:
        future: Future = Future()
        try:
            future.set_result(function(*arguments))
        except DataError as error:
            future.set_exception(error)
        return future


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_a_bounded_number_of_steps_is_read_ahead(ahead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_ahead, "ThreadPoolExecutor", Now)
    read: list[int] = []
    results: weakref.WeakSet = weakref.WeakSet()

    def note(step: int) -> torch.Tensor:
        read.append(step)
        result = torch.tensor(step)
        results.add(result)
        return result

    reader = ReadAhead(note, ahead=ahead, device=CPU)
    for step in (0, 1, 2):
        assert int(reader(step)) == step
        assert read == list(range(step + ahead + 1))  # each once
        assert len(results) <= ahead + 1
    read.clear()
    assert int(reader(50)) == 50
    assert read == list(range(50, 50 + ahead + 1))
    assert len(results) == ahead  # nothing is kept of the steps that were left


def test_what_cannot_be_read_is_told_of_at_its_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_ahead, "ThreadPoolExecutor", Now)

    def read(step: int) -> int:
        if step == 2:
            raise DataError("step 2")
        return step

    reader = ReadAhead(read, ahead=2, device=CPU)
    assert [reader(0), reader(1)] == [0, 1]
    for _ in range(2):
        with pytest.raises(DataError, match="step 2"):
            reader(2)
    assert reader(3) == 3
