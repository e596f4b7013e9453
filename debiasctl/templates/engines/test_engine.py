"""The engine keeps the contract of its kind, and reports how jobs end."""

from pathlib import Path

from debiasctl.api import Job, JobEvent, Workplace
from debiasctl.testing import check_engine

from my_package.engine import MyEngine


def test_it_keeps_its_contract() -> None:
    check_engine(MyEngine)


def test_it_reports_how_jobs_end(tmp_path: Path) -> None:
    """A job is a function that is given a mapping, and another function, for reports of progress."""
    jobs = [
        Job("prints", "builtins:print", {"text": "hello"}),
        Job("fails", "operator:truediv", {}),  # a mapping cannot be divided
    ]
    events: list[JobEvent] = []
    workplace = Workplace(tmp_path, jobs=1, device="cpu", threads=1)
    engine = MyEngine(MyEngine.Options())
    engine.run(jobs, workplace, on_event=events.append, stopping=lambda: False)
    ends = [("prints", "finished"), ("fails", "failed")]
    expected = [event for job, end in ends for event in ((job, "started"), (job, end))]
    assert [(event.job, event.kind) for event in events] == expected
    assert any("hello" in log.read_text() for log in tmp_path.glob("*.log"))
