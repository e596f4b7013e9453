"""How busy others keep the cores of this process."""

from collections import namedtuple

import pytest

from debiasctl.compute.others import Others

Times = namedtuple("Times", "user system idle iowait guest")


def test_cores_that_others_keep_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = {"wall": 10.0, "own": 1.0}
    cores = [Times(5.0, 1.0, 50.0, 3.0, 2.0), Times(1.0, 0.0, 50.0, 0.0, 0.0), Times(9.0, 9.0, 9.0, 0.0, 0.0)]
    monkeypatch.setattr("debiasctl.compute.others._SHORTEST", 0.5)
    monkeypatch.setattr("debiasctl.compute.others.time.monotonic", lambda: clocks["wall"])
    monkeypatch.setattr("debiasctl.compute.others.time.process_time", lambda: clocks["own"])
    monkeypatch.setattr("psutil.cpu_times", lambda percpu: list(cores))
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1}, raising=False)
    others = Others()
    assert others.num_cores() == 0  # nothing can be said at once
    clocks.update(wall=12.0, own=2.0)
    cores[0] = Times(7.0, 1.0, 50.0, 4.0, 3.0)  # a guest's time is in the user's
    cores[1] = Times(1.5, 0.5, 51.0, 0.0, 0.0)
    cores[2] = Times(99.0, 9.0, 9.0, 0.0, 0.0)  # not this process's
    assert others.num_cores() == pytest.approx((2.0 + 1.0 - 1.0) / 2)
    clocks["own"] = 9.0
    assert others.num_cores() == 0
