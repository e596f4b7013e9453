"""Metrics as JSON lines, each append one write; a last line that a kill left partial is ignored."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from debiasctl.errors import RunError
from debiasctl.files import write_bytes, writing
from debiasctl.reading.documents import parse_json
from debiasctl.reading.regular import read_bytes
from debiasctl.registry.messages import damage

if TYPE_CHECKING:
    from debiasctl.runs.records import MetricsRecord


_LIMIT = 2**30  # bytes: a line takes a few kB, and a long training writes 10,000 of them
_TAIL = 2**17  # bytes, of which a line takes a few thousand


def append(path: Path, records: "Sequence[MetricsRecord]", *, run: str | None) -> None:
    """Append records in one write, each with the identity `run`, if there is one; a partial last line is cut off first.

    Raises:
        DebiasctlError: if the disk is full or the file cannot be written.
        ValueError: if a record holds a number that is not finite, which JSON cannot represent.
    """
    stated = {} if run is None else {"run": run}
    data = "".join(json.dumps(record.to_json() | stated, allow_nan=False) + "\n" for record in records).encode()
    with writing(path), open(path, "a+b", buffering=0) as stream:
        _cut_partial_line(stream)
        while data:
            data = data[stream.write(data) :]
        os.fsync(stream.fileno())


def read(path: Path) -> "tuple[list[MetricsRecord], set[str]]":
    """All records in the order of their writing, none where there is no file; and the runs that they state.

    Raises:
        RunError: if a line other than a partial last one cannot be read.
    """
    from debiasctl.runs.records import parse_record  # late, because a listing does without pydantic

    records, runs = [], set()
    for number, (raw, _) in enumerate(_lines(path), start=1):
        try:
            if "run" in raw:  # those of older versions state none
                runs.add(str(raw.pop("run")))
            records.append(parse_record(raw))
        except ValueError as error:
            raise RunError(_damaged(path, number, damage(error))) from error
    return records, runs


def truncate(path: Path, step: int) -> None:
    """Drop, atomically, the records of steps after `step`; the others stay as they are, byte for byte.

    Raises:
        RunError: if a line other than a partial last one is not an object with a step; nothing is changed then.
    """
    lines = list(_lines(path))
    kept = [line for record, line in lines if record["step"] <= step]
    if len(kept) < len(lines):
        write_bytes(path, b"".join(kept))


def _lines(path: Path) -> Iterator[tuple[dict[str, Any], bytes]]:
    try:
        data = read_bytes(path, limit=_LIMIT)
    except FileNotFoundError:
        return
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise RunError(f"{path} cannot be read: {error}. Restore it from a copy") from error
    *complete, _partial = data.split(b"\n")
    for number, line in enumerate(complete, start=1):
        try:
            record = parse_json(line)
            if not isinstance(record, dict) or type(record.get("step")) is not int:
                raise ValueError("it is not an object with an integer step")
        except ValueError as error:
            raise RunError(_damaged(path, number, str(error))) from error
        yield record, line + b"\n"


def _damaged(path: Path, number: int, cause: str) -> str:
    return f"{path} is damaged in line {number}: {cause}. Restore it from a copy, or delete the line"


def _cut_partial_line(stream: IO[bytes]) -> None:
    """Shorten the file to end after its last newline."""
    end = position = stream.seek(0, os.SEEK_END)
    while position > 0:
        start = max(0, position - 4096)
        stream.seek(start)
        newline = stream.read(position - start).rfind(b"\n")
        if newline >= 0:
            position = start + newline + 1
            break
        position = start
    if position < end:
        stream.truncate(position)


def latest_speed(path: Path) -> tuple[int, float] | None:
    """The step and the images per second of the last line that training logged, read from the file's end alone.

    None if there is none yet, or it cannot be read: it is for display.
    """
    try:
        with open(path, "rb") as stream:
            end = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, end - _TAIL))
            lines = stream.read().split(b"\n")[:-1]
        for line in reversed(lines):
            if b'"kind": "train"' in line:
                record = parse_json(line)
                return int(record["step"]), float(record["images_per_second"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None
