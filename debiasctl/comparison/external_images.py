"""Arms of images made elsewhere, one folder, npz or zip a seed, which `evaluate` measures once."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from glob import glob
from pathlib import Path

from debiasctl import __version__, paths
from debiasctl.api import DataLocation
from debiasctl.comparison.observations import ArmData, Member, given_images
from debiasctl.errors import DebiasctlError, EvaluationError, UsageError
from debiasctl.evaluation.choices import Choices, check_choices
from debiasctl.evaluation.record import EvaluationRecord, read_record
from debiasctl.files import content_key, write_json
from debiasctl.reading.documents import read_json
from debiasctl.reading.user_text import expanded
from debiasctl.wording import quoted

_NUMBER = re.compile(r"[0-9]+")
_ENDINGS = (".npz", ".zip", ".tar")
_MEASURED = "measured"  # folder of what was measured of which files
Measure = Callable[[Path], EvaluationRecord]


@dataclass(frozen=True)
class ArmOfImages:
    """An arm's name and the images of its seeds."""

    name: str
    paths: dict[int, Path]
    note: str | None


def parse_arm(text: str) -> ArmOfImages:
    """An arm from `name=pattern`; the seed of each folder or file is the last number in its name.

    Where names have no number, or one twice, the seeds are counted in the order of the names, which `note` says.

    Raises:
        UsageError: if it has not that form, or nothing matches.
    """
    name, equals, pattern = (part.strip() for part in text.partition("="))
    if not name or not equals or not pattern:
        raise UsageError(f"`arm`: {quoted(text)} is not name=pattern. Write for example a='out_a_seed*' (quoted)")
    if not name.isprintable():
        raise UsageError(f"`arm`: the name {quoted(name)} has a line break or another control character")
    found = [Path(one) for one in sorted(glob(str(expanded(pattern))), key=_natural)]
    found = [one for one in found if one.is_dir() or one.suffix.lower() in _ENDINGS]
    if not found:
        raise UsageError(f"`arm`: no folder, .npz, .zip or .tar matches {quoted(pattern)} of arm {quoted(name)}")
    numbers = [_NUMBER.findall(one.stem if one.is_file() else one.name) for one in found]
    seeds = [int(one[-1]) for one in numbers if one]
    if len(set(seeds)) == len(found):
        return ArmOfImages(name, dict(sorted(zip(seeds, found, strict=True))), None)
    note = None
    if len(found) > 1:
        listed = ", ".join(f"{seed}: {one.name}" for seed, one in enumerate(found))
        note = f"the names of arm '{name}' do not end in different seeds, which are counted in their order ({listed})"
    return ArmOfImages(name, dict(enumerate(found)), note)


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(part) if part.isdigit() else -1, part) for part in re.split(r"([0-9]+)", text)]


def parse_arms(texts: Sequence[str]) -> list[ArmOfImages]:
    """Several arms.

    Raises:
        UsageError: if `parse_arm` raises it, or images stand in two of them.
    """
    arms = [parse_arm(text) for text in texts]
    owner: dict[Path, str] = {}
    for arm in arms:
        for path in arm.paths.values():
            first = owner.setdefault(path.resolve(), arm.name)
            if first != arm.name:
                raise UsageError(
                    f"`arm`: {path} stands in the arms '{first}' and '{arm.name}'. Let patterns not overlap"
                )
    return arms


def measured_arms(
    arms: Sequence[ArmOfImages], choices: Choices, location: DataLocation, measure: Measure
) -> list[ArmData]:
    """The arms with the figures of their images. What was measured of unchanged files before is read instead.

    Raises:
        UsageError: if the reference, features or a metric are unknown; what `measure` raises, which measures a path.
    """
    try:
        check_choices(choices, None)
    except UsageError as error:  # `reference` is here the arm that others are judged against
        raise type(error)(str(error).replace("`reference", "`against")) from error

    def measured(path: Path) -> EvaluationRecord:
        known = paths.evaluations_dir() / _MEASURED / f"{_fingerprint(path, choices, location)}.json"
        record = _known(known)
        if record is None:
            with _named(path):
                record = measure(path)
            write_json(known, {"schema_version": 1, "record": record.key})
        return record

    return [
        ArmData(
            arm.name,
            "images",
            {},
            [
                Member(seed, path.name, None, None, str(path.absolute()), [given_images(measured(path))])
                for seed, path in arm.paths.items()
            ],
        )
        for arm in arms
    ]


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let an error say which images it is of: an arm has several."""
    try:
        yield
    except DebiasctlError as error:
        if error.args and str(path) not in str(error):
            error.args = (f"{path}: {error.args[0]}", *error.args[1:])
        raise


def _known(file: Path) -> EvaluationRecord | None:
    """The record of a measurement that was made before; None if there is none that can be read."""
    try:
        key = read_json(file)["record"]
        found = read_record(paths.evaluations_dir() / f"{key}.json", way_on="")
    except (OSError, ValueError, KeyError, EvaluationError):
        return None
    return found if isinstance(found, EvaluationRecord) and found.key == key else None


def _fingerprint(path: Path, choices: Choices, location: DataLocation) -> str:
    """What a measurement depends on: the files by their sizes and times, the choices, and this version."""
    given = choices.reference or ""
    return content_key(
        {
            "version": __version__,
            "files": _files(path),
            "features": choices.features,
            "metrics": sorted(choices.metrics or []),
            "reference": choices.reference,
            "reference_files": _files(Path(given)) if os.path.exists(given) else [],
            "data_dir": str(location.data_dir),
        }
    )


def _files(path: Path) -> list[list[str | int]]:
    """Path, size and time of change of a file, or of all files in a folder."""
    root = path.absolute()
    files = sorted(one for one in root.rglob("*") if one.is_file()) if root.is_dir() else [root]
    return [[str(one), (about := one.stat()).st_size, about.st_mtime_ns] for one in files]
