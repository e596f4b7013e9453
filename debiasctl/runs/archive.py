"""A run as one file: a plain tar (weights hardly compress), checked member by member before anything is unpacked."""

import os
import re
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import IO

from debiasctl import paths
from debiasctl.errors import ArchiveError, RunBusyError, RunError, UsageError
from debiasctl.files import atomic_file, sha256_file
from debiasctl.reading.regular import open_regular, read_text
from debiasctl.runs.manifest import Manifest
from debiasctl.runs.parts import CHECKPOINTS, MANIFEST, PARTS, SPEC, STATUS, is_exported
from debiasctl.runs.pins import pin_all
from debiasctl.runs.status import parse_status
from debiasctl.runs.store import Run, claim_folder, validate_run_name
from debiasctl.wording import format_bytes, one_line, quoted

_BLOCK = 512  # a tar's unit; two blocks of zeros end it
_JSON_LIMIT = 16 * 2**20  # bytes of spec.json or status.json, which are read whole
_CHUNK = 2**20


def export_run(run: Run, out: Path, *, force: bool = False) -> Path:
    """Write a run to `out`, a `.tar` file that `import_run` takes anywhere; returns its absolute path.

    The parts that `left_behind` names are not in it.

    Raises:
        UsageError: if `out` exists (without `force`), is inside the run, or does not end in .tar.
        RunBusyError: if the run is being trained.
        RunError: if its spec or status is damaged.
        ArchiveError: if its folder holds something that is not part of a run.
    """
    out = Path(os.path.abspath(out))
    if out.suffix != ".tar":
        raise UsageError(f"'{out.name}' does not end in .tar, as exported runs do. For example: {run.name}.tar")
    check_export_place(run, out, force=force)
    validate_run_name(run.name)
    run.spec()
    _refuse_training(run)
    run.status()
    files = list(_run_files(run))
    with ExitStack() as pins, atomic_file(out) as stream, tarfile.open(fileobj=stream, mode="w") as tar:
        pin_all(run, [str(step) for step in run.checkpoint_steps()], pins)  # against the run's removal
        for file in files:
            _add(tar, file, f"{run.name}/{file.relative_to(run.path).as_posix()}")
        _refuse_training(run)
    return out


def check_export_place(run: Run, out: Path, *, force: bool) -> None:
    """Check that what is exported of a run can be written to the absolute path `out`.

    Raises:
        UsageError: if `out` exists (without `force`) or is inside the run.
    """
    if os.path.lexists(out) and (not force or out.is_dir()):
        raise UsageError(f"{out} already exists. Choose another name{'' if out.is_dir() else ', or give `force=True`'}")
    if run.path.resolve() in out.resolve().parents:
        raise UsageError(f"{out} is inside the run's own folder. Choose a place outside of it")


def left_behind(run: Run) -> list[str]:
    """The parts of a run's folder that an archive leaves out, but for hidden ones."""
    unexported = [name for name, part in PARTS.items() if not part.exported and not name.startswith(".")]
    return [name for name in unexported if os.path.lexists(run.path / name)]


def _refuse_training(run: Run) -> None:
    if run.is_training():
        raise RunBusyError(
            f"run '{run.name}' is being trained, and would change while it is exported. Export it when training has "
            "ended, or stop training with Ctrl-C first (it writes a checkpoint)"
        )


def _run_files(run: Run) -> Iterator[Path]:
    """The files of a run that an archive takes, sorted; hidden ones are locks and unfinished writes."""
    left = {run.path / name for name in left_behind(run)}
    for folder, subfolders, names in os.walk(run.path, onerror=_raise):
        subfolders[:] = sorted(
            name for name in subfolders if not name.startswith(".") and Path(folder, name) not in left
        )
        for name in sorted([*subfolders, *(name for name in names if not name.startswith("."))]):
            path = Path(folder, name)
            relative = path.relative_to(run.path).as_posix()
            is_folder = name in subfolders
            if path.is_symlink() or not is_exported(relative, folder=is_folder):
                what = "a link" if path.is_symlink() else "not part of a run"
                raise ArchiveError(f"{path} is {what}, so the archive could not be imported. Move it away first")
            if not is_folder:
                yield path


def _raise(error: OSError) -> None:
    raise ArchiveError(f"{error.filename} cannot be read: {error.strerror}") from error


def _add(tar: tarfile.TarFile, file: Path, name: str) -> None:
    try:
        with open_regular(file) as stream:
            stat = os.fstat(stream.fileno())
            member = tarfile.TarInfo(name)
            member.size, member.mtime = stat.st_size, int(stat.st_mtime)
            tar.addfile(member, stream)
    except OSError as error:
        if error.errno is not None and error.filename is None:
            raise  # a refusal to write the archive, which atomic_file explains
        raise ArchiveError(f"{file} cannot be read: {error.strerror or error}. Correct that, and try again") from error


def import_run(archive: Path, *, name: str | None = None) -> Run:
    """Unpack an exported run into the store, under its own name or `name`; whole, or nothing.

    Raises:
        ArchiveError: if it is not a run's archive, is cut short, would write outside the run's folder, holds links,
            special files or anything else that is not a run's, or does not fit on the disk.
        UsageError: if there is no such file; RunNameError: if the name is not allowed or taken.
    """
    if name is not None:
        validate_run_name(name)
    if not os.path.exists(archive) or archive.is_dir():
        raise UsageError(f"there is no file {archive}. Give a .tar file written by 'debiasctl runs export'")
    try:
        with open_regular(archive) as stream:
            top, members = _checked_members(stream, archive)
            if name is None:
                validate_run_name(top)
            path = paths.runs_dir() / (name or top)
            with claim_folder(path, taken="Import it under another name: `name=NAME`") as folder:
                _refuse_without_space(archive, members, folder)
                for relative, member in members.items():
                    _unpack(stream, member, folder / relative)
                _check_run(Run(folder), archive)
                _check_checkpoints(Run(folder), archive)
    except OSError as error:  # of the archive: claim_folder reports the store's
        raise ArchiveError(
            f"{archive} cannot be read: {error.strerror}. Give a .tar file written by 'debiasctl runs export'"
        ) from error
    return Run(path)


def _check_checkpoints(run: Run, archive: Path) -> None:
    """Raise ArchiveError unless every checkpoint's files are those of its manifest; those of one content become one."""
    for manifest in sorted(run.path.glob(f"{CHECKPOINTS}/*/{MANIFEST}")):
        stated, found, owner = None, {}, run.identity()
        with suppress(ValueError, OSError):
            read = Manifest.read(manifest.parent)
            stated, owner = read.sha256, read.run
            found = {file.name: sha256_file(file) for file in manifest.parent.iterdir() if file != manifest}
        if stated == found and owner != run.identity():
            raise ArchiveError(
                f"{archive} is not imported: its checkpoint {int(manifest.parent.name)} is that of another run. Export "
                "the run again, without it"
            )
        if stated != found:
            raise ArchiveError(
                f"{archive} is not imported: its checkpoint {int(manifest.parent.name)} is damaged: its files "
                "differ from the checksums in its manifest. Export the run again"
            )
        _keep_once(manifest.parent, found)


def _keep_once(folder: Path, sums: Mapping[str, str]) -> None:
    """Make files of equal content one file with several names, as they are where a model from elsewhere is added."""
    first: dict[str, str] = {}
    for name, checksum in sorted(sums.items()):
        same = first.setdefault(checksum, name)
        if same != name:
            with suppress(OSError):  # the file system knows no such names
                os.link(folder / same, folder / f"{name}.link")
                os.replace(folder / f"{name}.link", folder / name)


def _checked_members(stream: IO[bytes], archive: Path) -> tuple[str, dict[str, tarfile.TarInfo]]:
    """The top folder's name, and the files by their path in it; raises ArchiveError for anything not allowed there."""
    refuse = f"{archive} is not imported: it "
    size = os.fstat(stream.fileno()).st_size
    files: dict[str, tarfile.TarInfo] = {}
    seen: set[str] = set()
    tops: set[str] = set()
    end = 0
    for member in _headers(stream, archive):
        end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
        if member.size < 0 or end > size:
            raise ArchiveError(
                f"{archive} is cut short or damaged: {quoted(member.name)} reaches beyond its end. Copy it again"
            )
        top, relative = _safe_path(member, refuse)
        tops.add(top)
        if len(tops) > 1:
            raise ArchiveError(f"{refuse}holds more than one folder ({', '.join(sorted(map(quoted, tops)))})")
        if relative.lower() in seen:
            raise ArchiveError(f"{refuse}holds {quoted(member.name)} twice (names that differ in case only are one)")
        seen.add(relative.lower())
        if member.isreg():
            files[relative] = member
    stream.seek(end)
    if stream.read(2 * _BLOCK) != bytes(2 * _BLOCK):
        raise ArchiveError(f"{archive} is cut short or damaged: the mark of its end is missing. Copy it again")
    for required in (SPEC, STATUS):
        if required not in files:
            raise ArchiveError(f"{refuse}holds no {required}, so it is not a run's")
        if files[required].size > _JSON_LIMIT:
            raise ArchiveError(f"{refuse}holds a {required} of {format_bytes(files[required].size)}, which no run has")
    return tops.pop(), files


def _headers(stream: IO[bytes], archive: Path) -> Iterator[tarfile.TarInfo]:
    try:
        with tarfile.open(fileobj=_Headers(stream), mode="r:") as tar:  # type: ignore[call-overload]  # it only reads
            yield from tar
    except (tarfile.TarError, ValueError, OverflowError, EOFError, RecursionError, IndexError) as error:
        raise ArchiveError(
            f"{archive} is not a run's archive, or is damaged ({one_line(error)}). Import a .tar file that "
            "'debiasctl runs export' wrote"
        ) from error


class _Headers:
    """A tar's file for reading headers alone: tarfile would allocate whatever size a header states for a name."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.name = getattr(stream, "name", None)

    def read(self, size: int = -1) -> bytes:
        """Read at most `_CHUNK` bytes, which no header of a run's archive exceeds."""
        if not 0 <= size <= _CHUNK:
            raise ValueError(f"a header states {format_bytes(size)} for a name or for attributes")
        return self._stream.read(size)

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        """Seek in the file."""
        return self._stream.seek(position, whence)

    def tell(self) -> int:
        """The position in the file."""
        return self._stream.tell()


def _safe_path(member: tarfile.TarInfo, refuse: str) -> tuple[str, str]:
    """A member's top folder and its path in it ("" for the folder itself)."""
    name = member.name
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or re.match("[A-Za-z]:", name):
        raise ArchiveError(f"{refuse}would write outside the run's folder ({quoted(name)})")
    if member.issym() or member.islnk():
        raise ArchiveError(f"{refuse}holds a link ({quoted(name)})")
    if not (member.isdir() or member.isreg()) or member.issparse():
        raise ArchiveError(f"{refuse}holds a device, pipe or other special file ({quoted(name)})")
    relative = "/".join(parts[1:])
    is_top = not relative and member.isdir()
    if not is_top and not is_exported(relative, folder=member.isdir()):
        raise ArchiveError(f"{refuse}holds {quoted(name)}, which is not part of a run")
    return parts[0], relative


def _refuse_without_space(archive: Path, members: dict[str, tarfile.TarInfo], folder: Path) -> None:
    needed, free = sum(member.size for member in members.values()), shutil.disk_usage(folder).free
    if needed > free:
        raise ArchiveError(
            f"{archive} needs {format_bytes(needed)}, and {folder.parent} has {format_bytes(free)} left. Free some "
            "space (debiasctl runs rm NAME removes a run)"
        )


def _unpack(stream: IO[bytes], member: tarfile.TarInfo, path: Path) -> None:
    """Copy a member's bytes into a new file of plain permissions, whatever the archive says of owner and mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stream.seek(member.offset_data)
    left = member.size
    with open(path, "xb") as out:
        while left:
            chunk = stream.read(min(_CHUNK, left))
            if not chunk:
                raise ArchiveError(f"'{member.name}' ends too early: the archive changed while it was read. Try again")
            out.write(chunk)
            left -= len(chunk)


def _check_run(run: Run, archive: Path) -> None:
    """Refuse a spec or status that cannot be read; a run that was being trained elsewhere is interrupted here."""
    from debiasctl.specs.resolve import load_stored_spec

    try:
        load_stored_spec(read_text(run.path / SPEC), "its spec.json")
        status = parse_status(read_text(run.path / STATUS), "its status.json")
    except (RunError, ValueError) as error:
        raise ArchiveError(f"{archive} is not imported: {error}") from error
    if status.state == "training":
        run.write_status(replace(status, state="interrupted"))
