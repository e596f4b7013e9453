"""A run's labels, which its user gives it: tags, and a note; a small file of the run's folder."""

import os
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from debiasctl import claims
from debiasctl.errors import RunBusyError, RunError, UsageError
from debiasctl.files import write_json
from debiasctl.reading.documents import parse_json
from debiasctl.reading.regular import read_text
from debiasctl.runs.parts import LABELS, SPEC
from debiasctl.runs.status import RUN
from debiasctl.runs.store import Run
from debiasctl.wording import one_line, quoted

LABELS_VERSION = 1
MOST_TAGS, LONGEST_TAG, LONGEST_NOTE = 50, 60, 4_000  # tags of a run, and characters
_LIMIT = 2**18  # bytes of the file
_TRIES, _SECONDS = 100, 0.02  # of waiting for another process that changes them


@dataclass(frozen=True)
class Labels:
    """Tags, sorted, and a note; both empty where none were given."""

    tags: tuple[str, ...] = ()
    note: str = ""


NONE = Labels()


def read_labels(run: Run, *, identity: Callable[[], str | None] | None = None) -> Labels:
    """The labels of a run; `identity` is that of the run, where it is known already.

    Raises:
        RunError: if their file cannot be read, is damaged, or was written by a newer version; ForeignPartError: if it
            is of another run.
    """
    file = os.path.join(run.path, LABELS)
    try:
        raw = parse_json(read_text(file, limit=_LIMIT))
        stated, labels = _parse(raw, file)
    except (FileNotFoundError, NotADirectoryError):
        return NONE
    except OSError as error:
        raise RunError(f"{file} cannot be read: {error.strerror}. Make it readable, or remove it") from error
    except ValueError as error:
        raise RunError(
            f"{file} is damaged: {one_line(error)}. Correct it, or remove it: the run does without"
        ) from error
    if identity is None or stated != identity():
        run.check_identity(stated, what=file, way_on="Remove it: the run does without")
    return labels


def change_labels(run: Run, *, add: Iterable[str] = (), remove: Iterable[str] = (), note: str | None = None) -> Labels:
    """Add tags, remove tags (those that the run lacks too), and replace the note; returns the labels then.

    A run may be labelled while it is trained.

    Raises:
        UsageError: if a tag or the note is none; RunError: if `read_labels` raises it.
        RunBusyError: if another process does not end changing them.
    """
    added, removed = set(add), set(remove)
    for tag in added:
        check_tag(tag)
    if note is not None:
        _check_note(note)
    with _only_writer(run):
        before = read_labels(run)
        tags = tuple(sorted({*before.tags, *added} - removed))
        if len(tags) > MOST_TAGS:
            raise UsageError(f"run '{run.name}' would have {len(tags)} tags, and at most {MOST_TAGS} are kept")
        after = Labels(tags, before.note if note is None else note)
        if after != before:
            identity = run.identity()
            stated = {} if identity is None else {RUN: identity}
            content = {"schema_version": LABELS_VERSION, **stated, "tags": list(after.tags), "note": after.note}
            write_json(run.path / LABELS, content)
    return after


def check_tag(tag: str) -> None:
    """Raise UsageError if `tag` is none: one word, which neither a shell nor a filter takes for something else."""
    if not _is_tag(tag):
        raise UsageError(
            f"{quoted(tag)} is no tag: use 1 to {LONGEST_TAG} letters, digits, '.', '_', ':', '/' and '-', "
            "starting with a letter or digit"
        )


def _is_tag(tag: str) -> bool:
    return (
        0 < len(tag) <= LONGEST_TAG
        and tag[0].isalnum()
        and all(one.isalnum() or one in "._:/-" or unicodedata.combining(one) for one in tag)
    )


def _check_note(note: str) -> None:
    try:
        note.encode()
    except UnicodeEncodeError as error:
        raise UsageError("the note is not UTF-8 text") from error
    if len(note) > LONGEST_NOTE:
        raise UsageError(f"the note has {len(note):,} characters, and at most {LONGEST_NOTE:,} are kept")


def _parse(raw: Any, file: str) -> tuple[str | None, Labels]:
    """The run that a file states, and its labels."""
    if not isinstance(raw, dict):
        raise ValueError("it is not a JSON object")
    version = raw.get("schema_version")
    if type(version) is not int or version < 1:
        raise ValueError("'schema_version' has to be an integer of at least 1")
    if version > LABELS_VERSION:
        raise RunError(
            f"{file} was written by a newer version of debiasctl (labels version {version}, known up to "
            f"{LABELS_VERSION}). Upgrade it: pip install --upgrade debiasctl"
        )
    wrong = {"schema_version", "tags", "note"} ^ (raw.keys() - {RUN})
    if wrong:
        raise ValueError(f"these are missing or unknown: {', '.join(sorted(wrong))}")
    tags, note, stated = raw["tags"], raw["note"], raw.get(RUN)
    if not isinstance(tags, list) or not all(isinstance(tag, str) and _is_tag(tag) for tag in tags):
        raise ValueError("'tags' has to be a list of tags")
    if len(tags) > MOST_TAGS or not isinstance(note, str) or len(note) > LONGEST_NOTE:
        raise ValueError(
            f"it has more than {MOST_TAGS} tags, or a note that is not text of up to {LONGEST_NOTE:,} characters"
        )
    if not isinstance(stated, str | None):
        raise ValueError(f"'{RUN}' has to be text")
    return stated, Labels(tuple(sorted(set(tags))), note)


@contextmanager
def _only_writer(run: Run) -> Iterator[None]:
    """Keep other processes from changing the labels at the same time, by a lock on the spec: it is never replaced."""
    descriptor = None
    for attempt in range(_TRIES):
        try:
            descriptor = claims.hold(run.path / SPEC)
            break
        except BlockingIOError as error:
            if attempt == _TRIES - 1:
                raise RunBusyError(f"another process is changing the labels of run '{run.name}'. Try again") from error
            time.sleep(_SECONDS)
        except OSError as error:
            raise RunError(f"{run.path / SPEC} cannot be read: {error.strerror}") from error
    try:
        yield
    finally:
        claims.release(descriptor)
