"""Which parts of an analysis are made of which runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from debiasctl.analysis.parts.part import Part
from debiasctl.comparison.arms import Arms, arms_of
from debiasctl.errors import UsageError
from debiasctl.runs.store import Run
from debiasctl.specs.sections import NO_IMAGES, RunSpec
from debiasctl.wording import did_you_mean, quoted


@dataclass(frozen=True)
class Member:
    """A run with its spec, its training seed and its arm."""

    run: Run
    spec: RunSpec
    arm: str
    seed: int


@dataclass(frozen=True)
class Job:
    """A part that is made of a run, or of a run beside others."""

    part: Part
    member: Member
    others: tuple[Member, ...] = ()

    @property
    def text(self) -> str:
        """What it is in words."""
        beside = f" with {', '.join(one.run.name for one in self.others)}" if len(self.others) == 1 else ""
        several = f" and {len(self.others)} more" if len(self.others) > 1 else ""
        return f"{self.part.name} of {self.member.run.name}{beside}{several}"


def chosen_parts(
    parts: Mapping[str, Part], only: Sequence[str] | None, *, validation: bool = False
) -> list[Part]:  # fmt: skip
    """The parts that are asked for by name, or without names all that are not optional, in their own order.

    Raises:
        UsageError: if a name is unknown.
    """
    asked = {name: part.asked_as or part.name for name, part in parts.items()}
    known = list(dict.fromkeys(asked.values()))
    for name in only or ():
        if name not in known:
            raise UsageError(
                f"`only`: {quoted(name)} is no part of an analysis.{did_you_mean(name, known)} "
                f"Choose from {', '.join(known)}"
            )
    wanted = set(known if only is None else only)
    if only is None:
        wanted -= {asked[name] for name, part in parts.items() if part.optional}
    if validation:
        wanted.add("validation")
    return [part for name, part in parts.items() if asked[name] in wanted]


def members_of(arms: Arms, specs: Mapping[Run, RunSpec]) -> list[Member]:
    """The runs that count, arm by arm and by ascending seed."""
    return [
        Member(run, specs[run], arm.name, seed)
        for arm in arms.arms
        for run, seed in zip(arm.runs, arm.seeds, strict=True)
    ]


def arms_in(runs: Sequence[Run], specs: Sequence[RunSpec], *, reference: str | None) -> Arms:
    """The runs' arms, with the one first that the others are compared with.

    Raises:
        UsageError: if no arm, or several, have a name that begins with `reference`, or a run has no images.
    """
    for run, spec in zip(runs, specs, strict=True):
        if spec.data.dataset.name == NO_IMAGES:
            raise UsageError(
                f"run '{run.name}' was added without a data set, and an analysis is one of images that the network was "
                "trained on. Add the model again, by another name, with these: `dataset=digits`"
            )
    found = arms_of(runs, specs)
    if reference is None:
        return found
    names = [arm.name for arm in found.arms]
    chosen = [name for name in names if name == reference] or [name for name in names if name.startswith(reference)]
    if len(chosen) != 1:
        problem = "is the beginning of several arms' names" if chosen else "is no arm"
        raise UsageError(
            f"`reference`: {quoted(reference)} {problem}.{did_you_mean(reference, names)} "
            f"The arms are: {', '.join(names)}"
        )
    ordered = sorted(found.arms, key=lambda arm: arm.name != chosen[0])
    return Arms(tuple(ordered), found.differing, found.warnings, found.notes)


def jobs_of(parts: Sequence[Part], members: Sequence[Member]) -> tuple[list[Job], list[str]]:
    """What is to be made, run by run, then of pairs of equal seed of the first arm and another, then of all runs.

    With it comes what is left out, and why.
    """
    jobs = [
        Job(part, member) for member in members for part in parts if not (part.needs_other or part.needs_all)
    ]  # fmt: skip
    skipped = []
    pairs = list(_pairs(members))
    of_two = [part for part in parts if part.needs_other]
    jobs += [Job(part, first, (other,)) for first, other in pairs for part in of_two]
    if of_two and not pairs:
        skipped += [f"{part.name}: {_no_pair(members)}" for part in of_two]
    for part in (part for part in parts if part.needs_all):
        jobs.append(Job(part, members[0], tuple(members[1:])))
    return jobs, skipped


def _pairs(members: Sequence[Member]) -> list[tuple[Member, Member]]:
    first = {one.seed: one for one in members if one.arm == members[0].arm}
    return [(first[one.seed], one) for one in members if one.arm != members[0].arm and one.seed in first]


def _no_pair(members: Sequence[Member]) -> str:
    if len({one.arm for one in members}) > 1:
        return "it is made of two runs of equal training seed, and no other arm shares one with the first"
    return "it is made of two runs that differ in more than the seed: debiasctl analyze RUN OTHER"
