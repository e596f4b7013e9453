import os

import pytest

from debiasctl.api import num_cores


def test_the_cores_are_those_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 5, 7}, raising=False)
    assert (num_cores(), num_cores(at_most=2), num_cores(at_most=16)) == (3, 2, 3)
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert (num_cores(), num_cores(at_most=4)) == (6, 4)
    monkeypatch.setattr(os, "cpu_count", lambda: None)  # it cannot be told
    assert num_cores() == 1
