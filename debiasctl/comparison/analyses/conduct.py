"""Measuring an analysis: job by job, with networks and data loaded when they are needed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from debiasctl.analysis.analyze import analyze
from debiasctl.analysis.parts.part import Choices, Part
from debiasctl.analysis.subject import Subject
from debiasctl.api import DataLocation, LoadedDataset
from debiasctl.comparison.analyses.plan import Job, Member
from debiasctl.comparison.analyses.results import Analysis, ArmInfo, Entry, PartResult
from debiasctl.comparison.arms import Arms
from debiasctl.data.load import load_data
from debiasctl.errors import UsageError
from debiasctl.runs.parts import ANALYSES
from debiasctl.runs.store import Run
from debiasctl.sampling.request import SampleRequest

OnJob = Callable[[str, float, str], None]
_KEPT = 2  # networks in memory: those of a pair


@dataclass
class Subjects:
    """The runs' networks with their data sets, of which the last ones are kept; `requests` are by run."""

    requests: Mapping[Run, SampleRequest]
    location: DataLocation
    device: torch.device
    _subjects: dict[Run, Subject] = field(default_factory=dict)
    _data: dict[str, LoadedDataset] = field(default_factory=dict)

    def of(self, member: Member) -> Subject:
        """The member's subject.

        Raises:
            DataError: if its data set cannot be read; CheckpointError: if its checkpoint is damaged.
        """
        found = self._subjects.pop(member.run, None)
        if found is None:
            while len(self._subjects) >= _KEPT:
                del self._subjects[next(iter(self._subjects))]
            found = Subject.of(
                member.run, member.spec, self.requests[member.run], self._loaded(member), arm=member.arm,
                device=self.device,
            )  # fmt: skip
        self._subjects[member.run] = found
        return found

    def _loaded(self, member: Member) -> LoadedDataset:
        name = f"{member.spec.data.dataset.ref} {member.run.content(member.spec).content_hash}"
        if name not in self._data:
            self._data = {name: load_data(member.spec, self.location)}  # one at a time: they are large
        return self._data[name]


def measure(
    parts: Sequence[Part],
    jobs: Sequence[Job],
    arms: Arms,
    subjects: Subjects,
    choices: Choices,
    *,
    asked: bool,
    options: Sequence[str] = (),
    skipped: Sequence[str] = (),
    on_job: OnJob = lambda what, done, text: None,
) -> Analysis:
    """Measure every job of the parts, or read what was measured before; what a run cannot be analysed by is left out.

    `asked` says that the parts were asked for by name: if the first run cannot be analysed by any part of a name, that
    is refused before anything is measured. `options` are the command's, which records keep. `on_job(what, done, text)`
    gives the share of each job that is done.

    Raises:
        UsageError: if nothing can be measured, or such a part was asked for.
        EvaluationError: if a stored record is damaged; Interrupted: if a signal stops it.
    """
    left_out = list(skipped)
    if asked:
        _check(jobs, subjects, choices)
    entries: dict[str, list[Entry]] = {}
    for number, job in enumerate(jobs):
        what = f"{number + 1}/{len(jobs)} {job.text}"
        if job.part.of_latents and job.member.spec.latents_sha256 != jobs[0].member.spec.latents_sha256:
            left_out.append(
                f"{job.text}: its errors are those of other latents than those of run '{jobs[0].member.run.name}', or "
                "of images, so that they have another unit"
            )
            continue
        on_job(what, 0.0, "reading the data")
        subject, others = subjects.of(job.member), [subjects.of(one) for one in job.others]
        try:
            record = analyze(
                job.part, subject, others, choices, options=options,
                on_progress=lambda done, text, what=what: on_job(what, done, text),  # type: ignore[misc]  # a default
            )  # fmt: skip
        except UsageError as error:
            left_out.append(f"{job.text}: {error}")
            continue
        entries.setdefault(job.part.name, []).append(
            Entry(record, job.member.seed, job.member.run.path / ANALYSES)
        )  # fmt: skip
        on_job(what, 1.0, "")
    if not entries:
        raise UsageError("nothing could be measured. " + "; ".join(dict.fromkeys(left_out)))
    return Analysis(
        [ArmInfo(arm.name, arm.seeds, [run.name for run in arm.runs]) for arm in arms.arms],
        [PartResult(part, entries[part.name]) for part in parts if part.name in entries],
        arms.arms[0].dataset, left_out, arms.warnings, arms.notes,
    )  # fmt: skip


def _check(jobs: Sequence[Job], subjects: Subjects, choices: Choices) -> None:
    """Refuse a name none of whose parts the first run can be analysed by."""
    firsts = {job.part.name: job for job in reversed(jobs)}
    problems: dict[str, list[UsageError | None]] = {}
    for job in firsts.values():
        found = problems.setdefault(job.part.asked_as or job.part.name, [])
        try:
            job.part.settings(subjects.of(job.member), [subjects.of(one) for one in job.others], choices)
            found.append(None)
        except UsageError as error:
            found.append(error)
    for errors in problems.values():
        if errors[0] is not None and None not in errors:
            raise errors[0]
