"""One part of an analysis, measured once and stored in the run's folder, resumed where it was interrupted."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from importlib.metadata import version
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from debiasctl.analysis.book import Arrays, Book
from debiasctl.analysis.parts.part import Choices, Found, Part
from debiasctl.analysis.record import AnalysisRecord, Network, key_of, read_record, record_path
from debiasctl.analysis.subject import Subject
from debiasctl.compute import processes
from debiasctl.compute.signals import number_of, stoppable
from debiasctl.errors import EvaluationError, Interrupted
from debiasctl.files import atomic_file, file_lock, write_json
from debiasctl.reading.arrays import UNREADABLE, open_npz
from debiasctl.runs.parts import ANALYSES
from debiasctl.wording import quoted

OnProgress = Callable[[float, str], None]


def network_of(subject: Subject) -> Network:
    """What a record says of a network."""
    request, run = subject.request, subject.run
    return Network(
        run=run.name, run_identity=run.identity(), arm=subject.arm, checkpoint=request.step, weights=request.weights,
        weights_sha256=subject.weights_sha256,
    )  # fmt: skip


def analyze(
    part: Part,
    subject: Subject,
    others: Sequence[Subject],
    choices: Choices,
    *,
    options: Sequence[str] = (),
    on_progress: OnProgress = lambda done, text: None,
) -> AnalysisRecord:
    """Measure a part, or read it if it was measured before; every process of a group calls this.

    `options` are kept in the record: those with which the command analyze makes it again.

    While another command measures the same, this waits for it and reads what it found.

    Raises:
        UsageError: if the run cannot be analysed so; EvaluationError: if a stored record is damaged.
        Interrupted: if a signal stops it; what was measured is kept, and the same call resumes.
    """
    settings = part.settings(subject, others, choices)
    network, with_others = network_of(subject), [network_of(one) for one in others]
    content_hash = subject.content.lasting_hash
    key = key_of(part.name, network, with_others, content_hash=content_hash, settings=settings)
    folder = subject.run.path / ANALYSES
    path, lock = record_path(folder, key), folder / f".{key}.lock"
    is_first = processes.rank() == 0
    waiting = f"another process is measuring {part.name} of run '{subject.run.name}'; waiting for it"
    if not processes.agreed(path.exists()):
        with file_lock(lock, waiting=waiting) if is_first else nullcontext():
            if not processes.agreed(path.exists()):  # else another process has measured it in the meantime
                book = Book(folder / f".{key}.partial", identity=key, on_progress=on_progress)
                found = _measured(part, subject, others, settings, book)
                record = AnalysisRecord(
                    schema_version=1, debiasctl=version("debiasctl"), part=part.name, network=network,
                    others=with_others, content_hash=content_hash, settings=settings, options=list(options),
                    quantities=found.quantities, series=found.series, images=sorted(found.images), notes=found.notes,
                )  # fmt: skip
                if is_first:
                    _store(path, record, found.images)
                    book.remove()
                processes.wait()
        if is_first:
            with suppress(OSError):  # whoever waits for it finds the record
                lock.unlink()
    return read_record(path).model_copy(update={"network": network, "others": with_others})


def _store(path: Path, record: AnalysisRecord, images: Arrays) -> None:
    if images:
        write_images(path.with_suffix(".npz"), images)
    write_json(path, record.to_json())


def _measured(
    part: Part, subject: Subject, others: Sequence[Subject], settings: dict[str, JsonValue], book: Book
) -> Found:
    try:
        with stoppable():
            return part.measure(subject, others, settings, book)
    except KeyboardInterrupt as stop:
        raise Interrupted(
            f"interrupted: what was measured of part '{part.name}' is kept; repeat the command to resume",
            signal_number=number_of(stop),
        ) from stop


def write_images(path: Path, images: Arrays) -> None:
    """Write the arrays of pictures."""
    with atomic_file(path) as stream:
        arrays = {name: np.asarray(image, dtype=np.float32) for name, image in images.items()}
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # numpy's stub


def read_images(folder: Path, record: AnalysisRecord) -> Arrays:
    """Read the arrays of a record's pictures.

    Raises:
        EvaluationError: if they are damaged or gone.
    """
    if not record.images:
        return {}
    path = record_path(folder, record.key).with_suffix(".npz")
    try:
        with open_npz(path) as stored:
            found = {name: stored.read(name) for name in record.images}
            for name, array in found.items():
                if array.dtype != np.float32 or array.ndim != 4:
                    raise ValueError(f"{quoted(name)} is no set of images")
            return found
    except UNREADABLE as error:
        raise EvaluationError(
            f"the pictures of an analysis in {path} are damaged or gone ({error}). Remove {path.stem}.json "
            "beside it to measure it again"
        ) from error
