"""What engines report."""

from collections.abc import Callable, Sequence
from typing import Any

from debiasctl.api import Job, JobEvent
from debiasctl.boundary import ContractError
from debiasctl.registry.contracts.expected import Call, as_json, expect, short

_ENDS = ("finished", "failed", "stopped")


def run(
    call: Call, plugin: Any, jobs: Sequence[Job], *args: Any, on_event: Callable[[JobEvent], None], **kwargs: Any
) -> None:
    """Events of the jobs that were given, and one end of each that was begun."""
    waiting, begun = {job.name for job in jobs}, set[str]()

    def check(event: Any) -> None:
        if not isinstance(event, JobEvent):
            raise ContractError(f"reported {short(event)} in place of a JobEvent")
        if event.kind not in ("started", "progress", *_ENDS):
            raise ContractError(f"reported a job as {event.kind!r:.40}. Allowed: started, progress, {', '.join(_ENDS)}")
        if event.job not in (waiting if event.kind == "started" else begun):
            raise ContractError(f"reported {event.job!r:.80} as {event.kind}, and that is no job that could be")
        if not isinstance(event.reason, str | None) or not isinstance(event.worker, str | None):
            raise ContractError("reported a reason or a worker that is no text")
        as_json(dict(event.progress), "reported progress")
        if event.kind == "started":
            waiting.remove(event.job)
            begun.add(event.job)
        elif event.kind in _ENDS:
            begun.remove(event.job)
        on_event(event)

    expect(call(jobs, *args, on_event=check, **kwargs), type(None), "None")
    if begun:
        raise ContractError(f"returned while it had not reported the end of {', '.join(sorted(begun))[:80]}")
    if waiting and not kwargs["stopping"]():
        raise ContractError(f"returned without having begun {', '.join(sorted(waiting))[:80]}")
