"""Signals are taken over where that can be undone, and put back."""

import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from debiasctl.compute.signals import StopSignals, handling, stoppable

BLOCKS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "handling": lambda: handling(("SIGTERM",), lambda number, frame: None),
    "collecting": StopSignals,
    "stoppable": stoppable,
}


@pytest.fixture
def own():
    """A handler of ours for SIGTERM, and the number of times that it was called."""
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    yield received
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_a_handler_is_put_back(block, own: list[int]) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    with block():
        assert signal.getsignal(signal.SIGTERM) is not handler
    signal.raise_signal(signal.SIGTERM)
    assert own == [signal.SIGTERM]


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_what_is_ignored_stays_ignored(block, own: list[int]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with block():
        signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_a_thread_leaves_them_alone(block, own: list[int]) -> None:
    """Python lets the main thread alone install handlers."""
    handler, found = signal.getsignal(signal.SIGTERM), []

    def inside() -> None:
        with block():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert found == [handler]


def test_one_of_several_signals_stops() -> None:
    with stoppable():
        with pytest.raises(KeyboardInterrupt) as caught:
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
    assert caught.value.args == (signal.SIGTERM,)
