"""The runs that names, patterns and a filter choose together."""

import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from debiasctl import paths
from debiasctl.errors import RunError, RunNameError
from debiasctl.runs.filters import WILDCARDS, Facts, Filter
from debiasctl.runs.listing import list_runs, summarize
from debiasctl.runs.overview import Overview
from debiasctl.runs.parts import SPEC, STATUS
from debiasctl.runs.store import Run, find_run, run_names
from debiasctl.wording import did_you_mean, quoted


def matching_runs(patterns: Sequence[str], where: Filter | None = None, *, exact: bool = False) -> list[Run]:
    """The runs that match a pattern, of those the ones that the filter takes; without a pattern, of all in the store.

    A pattern is a run's name, the beginning of one name alone, or a path, as `find_run` takes them; or, over the names
    in the store, one with `*`, `?` or `[...]`. Runs come in the order of the patterns, and of their names, each once.
    With `exact`, a name has to be whole.

    Raises:
        RunNameError: if a pattern matches no run, or the filter takes none of them.
        RunError: if a damaged run keeps the filter from an answer.
        UsageError: if the filter names an option that no plugin of theirs has.
    """
    runs = stored_runs() if not patterns or any(map(is_pattern, patterns)) else []
    if patterns:
        there = [run.path for run in runs]
        runs = [
            Run(path)
            for path in dict.fromkeys(one for pattern in patterns for one in _paths(pattern, there, exact=exact))
        ]
    if where is None:
        return runs
    asked = [Facts(run) for run in runs]
    found, unclear = [], {}
    for facts in asked:
        try:
            if where.matches(facts):
                found.append(facts.run)
        except RunError as error:
            unclear[facts.run.name] = str(error)
    if unclear:
        name, problem = next(iter(unclear.items()))
        others = f", and of {len(unclear) - 1} more," if len(unclear) > 1 else ""
        raise RunError(
            f"whether run '{name}'{others} matches `where` {quoted(where.text)} cannot be said: {problem}. "
            f"To leave it out, add: and name!={name}"
        )
    where.check_names(asked)
    if not found:
        raise RunNameError(none_match(where, asked))
    return found


def overviews(patterns: Sequence[str], where: Filter | None = None) -> tuple[list[Overview], list[str]]:
    """What `matching_runs` chooses, as a listing shows it, damaged runs among them; and what a reader has to know.

    That is whether nothing matches the filter, and of which runs it cannot be said.

    Raises:
        RunNameError: if a pattern matches no run; UsageError: if `matching_runs` raises it.
    """
    listed = {summary.path: summary for summary in list_runs()}
    if patterns:
        paths_of = dict.fromkeys(path for pattern in patterns for path in _paths(pattern, list(listed)))
        found = [summary for path in paths_of if (summary := listed.get(path) or summarize(Run(path)))]
    else:
        found = list(listed.values())
    shown = [Overview(summary) for summary in found]
    if where is None:
        return shown, []
    matching, notes = [], []
    for one in shown:
        try:
            if where.matches(one):
                matching.append(one)
        except RunError as error:
            notes.append(f"whether run '{one.run.name}' matches cannot be said: {error}")
    sound = [one for one in shown if not one.is_damaged]
    where.check_names(sound)
    if not matching and sound:
        notes.insert(0, none_match(where, sound))
    return matching, notes


def _paths(pattern: str, listed: Sequence[Path], *, exact: bool = False) -> list[Path]:
    if not is_pattern(pattern):
        return [find_run(pattern, exact=exact).path]
    return _named(pattern, listed)


def _named(pattern: str, listed: Sequence[Path]) -> list[Path]:
    """The paths whose last part matches a pattern."""
    found = [path for path in listed if fnmatchcase(path.name, pattern)]
    if not found:
        hint = did_you_mean(WILDCARDS.sub("", pattern), [path.name for path in listed])
        raise RunNameError(f"no run's name matches {quoted(pattern)}.{hint} See: debiasctl runs list")
    return found


def stored_runs() -> list[Run]:
    """All runs in the store, by name; of each it is only looked whether it is one."""
    store = paths.runs_dir()
    return [Run(store / name) for name in run_names() if _is_run(f"{store}/{name}")]


def none_match(where: Filter, asked: Sequence[Facts]) -> str:
    """That no run matches, with what the runs have instead where that is little to say."""
    has = []
    for field, _ in where.tests:
        if field.kind in ("plugin", "choice"):
            values = {str(getattr(value, "name", value)) for one in asked for value in one.values(field)}
            if 0 < len(values) <= 20:
                has.append(f"{field.name} is {', '.join(sorted(values))}")
    runs = f"none of the {len(asked)} runs matches" if len(asked) > 1 else "no run matches"
    return f"{runs} `where` {quoted(where.text)}." + (f" In them, {'; '.join(has)}." if has else "")


def is_pattern(text: str) -> bool:
    """Whether a text is a pattern over the names in the store, and no name or path."""
    return WILDCARDS.search(text) is not None and os.sep not in text and "/" not in text


def _is_run(path: str) -> bool:
    return os.path.isfile(f"{path}/{STATUS}") or os.path.isfile(f"{path}/{SPEC}")
