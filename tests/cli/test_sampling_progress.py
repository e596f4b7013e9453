"""The bar of sampling: images, also begun ones, that goes on from where it was."""

import io
import sys

import pytest

from debiasctl.cli import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_it_shows_images_done_and_begins_at_its_first_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with progress.sampling_progress("run-a, 5 steps") as show:
        assert stream.getvalue() == ""
        show(128.0, 1000)
        show(192.5, 1000)
    assert "run-a, 5 steps" in stream.getvalue()
    assert "192/1000 images" in stream.getvalue()


def test_it_shows_the_job_of_an_analysis_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with progress.analysis_progress() as show:
        show("1/2 existence of run-a", 0.0, "reading the data")
        show("1/2 existence of run-a", 0.25, "errors by noise level")
        show("2/2 existence of run-b", 0.5, "")
    assert "1/2 existence of run-a: errors" in stream.getvalue()
    assert "25 %" in stream.getvalue()
    assert "2/2 existence of run-b" in stream.getvalue()
