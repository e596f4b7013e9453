import gzip
import hashlib
import io
import json
import os
import tarfile
import zipfile
from collections import namedtuple
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath

import pytest

from debiasctl import paths
from debiasctl.errors import ArchiveError, DebiasctlError, RunBusyError, RunError, RunNameError, UsageError
from debiasctl.runs.archive import export_run, import_run, left_behind
from debiasctl.runs.listing import list_runs
from debiasctl.runs.parts import PARTS, is_exported
from debiasctl.runs.records import HeldoutRecord
from debiasctl.runs.removal import remove_run
from debiasctl.runs.status import new_status
from debiasctl.runs.store import Run, append_metrics, create_run, find_run
from debiasctl.specs.resolve import validate_spec

CHECKPOINT = {"weights.safetensors": bytes(range(256)) * 9, "training_state.pt": b"state"}
SUMS = {name: hashlib.sha256(content).hexdigest() for name, content in CHECKPOINT.items()}
FILES = {
    "metrics.jsonl": b'{"step": 1}\n',
    "labels.json": b"{}",
    **{f"checkpoints/00000000/{name}": content for name, content in CHECKPOINT.items()},
    "checkpoints/00000000/manifest.json": json.dumps({"step": 0, "sha256": SUMS}).encode(),
    "samples/0123456789abcdef/images.npz": b"",
    "samples/0123456789abcdef/00000.png": b"x" * 513,
    "samples/0123456789abcdef/request.json": b"{}",
    "evaluations/0123456789abcdef.json": b"{}",
    "analyses/0123456789abcdef.json": b"{}",
}
STATUS = new_status(num_steps=10, dataset="digits", weighting="debiased", seed=0)
SPEC = json.dumps(validate_spec({"data": {"dataset": "digits"}}).model_dump(mode="json")).encode()


@pytest.fixture
def run() -> Run:
    made = create_run("a", validate_spec({"data": {"dataset": "digits"}}), status=replace(STATUS, state="finished"))
    for name, content in FILES.items():
        file = made.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return made


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def store_entries() -> list[str]:
    return sorted(path.name for path in paths.runs_dir().iterdir()) if paths.runs_dir().exists() else []


Member = tuple[str | tarfile.TarInfo, bytes]
RUN_MEMBERS: list[Member] = [("a/spec.json", SPEC), ("a/status.json", json.dumps(asdict(STATUS)).encode())]


def special(name: str, kind: bytes, link: str = "") -> Member:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member, b""


def write_tar(path: Path, members: list[Member], *, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for given, data in members:
            member = given if isinstance(given, tarfile.TarInfo) else tarfile.TarInfo(given)
            member.size = member.size or len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


# ---------------------------------------------------------------- there and back


@pytest.mark.parametrize("name", [None, "b"])
def test_export_then_import_gives_the_same_run(run: Run, tmp_path: Path, name: str | None) -> None:
    before = contents(run.path)
    archive = export_run(run, tmp_path / "a.tar")
    if name is None:
        remove_run(run)
    imported = import_run(archive, name=name)
    assert imported == find_run(name or "a")
    assert contents(imported.path) == before
    assert imported.path.stat().st_mode & 0o777 == 0o777 & ~current_umask()
    assert {file.stat().st_mode & 0o777 for file in imported.path.rglob("*.*")} == {0o666 & ~current_umask()}


def test_a_monitored_and_tracked_run_goes_there_and_back_without_its_trackers_files(run: Run, tmp_path: Path) -> None:
    run.grids_dir.mkdir()
    for step in (2, 4):
        (run.grids_dir / f"{step:08d}.png").write_bytes(b"grid")
    before = contents(run.path)
    logs = run.path / "trackers" / "debiasctl" / "1764400000.5"
    logs.mkdir(parents=True)
    (logs / "events.out.tfevents.1764400000.host.1.0").write_bytes(b"events")
    (logs.parent / "latest").symlink_to(logs)  # as wandb makes
    imported = import_run(export_run(run, tmp_path / "a.tar"), name="b")
    assert contents(imported.path) == before
    assert left_behind(run) == ["trackers"]
    assert left_behind(imported) == []


def test_every_part_that_an_archive_takes_can_be_named_in_one() -> None:
    examples = {
        **FILES,
        "spec.json": b"",
        "status.json": b"",
        "ema/00000004.json": b"",
        "grids/00000004.png": b"",
        "autoencoder.safetensors": b"",
    }
    assert {name.partition("/")[0] for name in examples} == {name for name, part in PARTS.items() if part.exported}
    for name in examples:
        assert is_exported(name, folder=False)
        folders = PurePosixPath(name).parents
        assert all(is_exported(str(folder), folder=True) for folder in folders if str(folder) != ".")


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_export_holds_neither_locks_nor_unfinished_writes_nor_the_users_name(run: Run, tmp_path: Path) -> None:
    with run.lock():
        pass
    for name in (".trainer.json", ".status.json.123.abc.tmp", "samples/.x.tmp/image.png", "checkpoints/.DS_Store"):
        (run.path / name).parent.mkdir(exist_ok=True)
        (run.path / name).write_bytes(b"")
    with tarfile.open(export_run(run, tmp_path / "a.tar")) as tar:
        assert sorted(tar.getnames()) == sorted(f"a/{name}" for name in ("spec.json", "status.json", *FILES))
        assert {(member.uid, member.gid, member.uname, member.gname) for member in tar} == {(0, 0, "", "")}


def test_interrupted_run_is_imported_as_such(run: Run, tmp_path: Path) -> None:
    run.write_status(replace(STATUS, state="training", step=4))
    imported = import_run(export_run(run, tmp_path / "a.tar"), name="b")
    assert json.loads((imported.path / "status.json").read_text())["state"] == "interrupted"
    assert imported.status().step == 4


def test_archives_of_other_tars_are_taken(run: Run, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        tar.add(run.path, arcname="./b")
    assert contents(import_run(tmp_path / "a.tar").path) == contents(run.path)
    assert store_entries() == ["a", "b"]


# ---------------------------------------------------------------- export


@pytest.mark.parametrize("out", ["a.zip", "a.tar.gz", "a"])
def test_export_to_another_suffix_is_refused(run: Run, tmp_path: Path, out: str) -> None:
    with pytest.raises(UsageError, match=r"does not end in \.tar.*For example: a\.tar"):
        export_run(run, tmp_path / out)
    assert list(tmp_path.iterdir()) == []


def test_export_replaces_only_when_told_to(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "a.tar"
    out.write_text("precious")
    with pytest.raises(UsageError, match=r"already exists.*`force=True`"):
        export_run(run, out)
    assert out.read_text() == "precious"
    export_run(run, out, force=True)
    assert tarfile.is_tarfile(out)
    (tmp_path / "folder.tar").mkdir()
    with pytest.raises(UsageError, match=r"Choose another name$"):
        export_run(run, tmp_path / "folder.tar", force=True)


def test_export_into_the_run_is_refused(run: Run) -> None:
    with pytest.raises(UsageError, match="inside the run's own folder"):
        export_run(run, run.path / "samples" / "a.tar")


def test_export_while_training_is_refused(run: Run, tmp_path: Path) -> None:
    with run.lock(), pytest.raises(RunBusyError, match="is being trained"):
        export_run(run, tmp_path / "a.tar")
    assert list(tmp_path.iterdir()) == []


def test_training_that_begins_during_export_is_noticed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([False, True])
    monkeypatch.setattr(Run, "is_training", lambda self: next(answers))
    with pytest.raises(RunBusyError):
        export_run(run, tmp_path / "a.tar")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["notes.txt", "checkpoints/latest.pt", "samples/x/deep/a.png", "analyses/figure.png"])
def test_export_of_what_cannot_be_imported_is_refused(run: Run, tmp_path: Path, name: str) -> None:
    (run.path / name).parent.mkdir(parents=True, exist_ok=True)
    (run.path / name).write_text("mine")
    with pytest.raises(ArchiveError, match="is not part of a run"):
        export_run(run, tmp_path / "a.tar")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["checkpoints/00000001", "samples/x", "evaluations/x.json"])
def test_export_of_links_is_refused(run: Run, tmp_path: Path, name: str) -> None:
    (run.path / name).symlink_to("/etc/passwd")
    with pytest.raises(ArchiveError, match="is a link"):
        export_run(run, tmp_path / "a.tar")


@pytest.mark.parametrize("name", ["spec.json", "status.json"])
def test_export_of_a_damaged_run_is_refused(run: Run, tmp_path: Path, name: str) -> None:
    (run.path / name).write_text("{")
    with pytest.raises(RunError, match=name):
        export_run(run, tmp_path / "a.tar")
    assert list(tmp_path.iterdir()) == []


def test_file_that_shrinks_during_export_is_noticed(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Grown:
        def __init__(self, real: os.stat_result) -> None:
            self.st_size, self.st_mtime, self.st_mode = real.st_size + 1, real.st_mtime, real.st_mode
            self.st_dev, self.st_ino = real.st_dev, real.st_ino

    real = os.fstat
    monkeypatch.setattr("debiasctl.runs.archive.os.fstat", lambda descriptor: Grown(real(descriptor)))
    with pytest.raises(ArchiveError, match="cannot be read: unexpected end of data"):
        export_run(run, tmp_path / "a.tar")
    assert list(tmp_path.iterdir()) == []


def test_full_disk_during_export_leaves_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(DebiasctlError, match="the disk is full"):
        export_run(run, tmp_path / "a.tar")
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- import refuses


def long_name() -> tarfile.TarInfo:
    member = tarfile.TarInfo("a/samples/x/y.png")
    member.pax_headers = {"path": "../../escaped"}
    return member


def sparse() -> tarfile.TarInfo:
    member = tarfile.TarInfo("a/metrics.jsonl")
    member.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": "1", "GNU.sparse.numblocks": "1"}
    return member


OUTSIDE, LINK, SPECIAL, FOREIGN = "outside the run's folder", "holds a link", "special file", "not part of a run"


@pytest.mark.parametrize(
    "member, message",
    [
        (("/etc/cron.d/x", b""), OUTSIDE),
        (("../x", b""), OUTSIDE),
        (("a/../../x", b""), OUTSIDE),
        (("a/samples/../spec.json", b""), OUTSIDE),
        (("a/samples/k/..", b""), OUTSIDE),
        (("..", b""), OUTSIDE),
        (("C:/x", b""), OUTSIDE),
        (("C:x", b""), OUTSIDE),
        (("a\\..\\x", b""), OUTSIDE),
        ((long_name(), b""), OUTSIDE),
        (special("a/metrics.jsonl", tarfile.SYMTYPE, "/etc/passwd"), LINK),
        (special("a/checkpoints", tarfile.SYMTYPE, "/tmp"), LINK),
        (special("a/metrics.jsonl", tarfile.LNKTYPE, "a/spec.json"), LINK),
        (special("a/metrics.jsonl", tarfile.FIFOTYPE), SPECIAL),
        (special("a/metrics.jsonl", tarfile.CHRTYPE), SPECIAL),
        (special("a/metrics.jsonl", tarfile.BLKTYPE), SPECIAL),
        (special("a/metrics.jsonl", b"Z"), SPECIAL),
        ((sparse(), b"x"), SPECIAL),
        (("a/evil.py", b""), FOREIGN),
        (("a/.lock", b""), FOREIGN),
        (("a/checkpoints/1/evil.py", b""), FOREIGN),
        (("a/checkpoints/1/model.pkl", b""), FOREIGN),
        (("a/checkpoints/latest/model.pt", b""), FOREIGN),
        (("a/checkpoints/1/deep/model.pt", b""), FOREIGN),
        (("a/checkpoints/1/.hidden.json", b""), FOREIGN),
        (("a/checkpoints/\N{ARABIC-INDIC DIGIT ONE}/m.json", b""), FOREIGN),
        (("a/samples/x.png", b""), FOREIGN),
        (("a/samples/k/run.sh", b""), FOREIGN),
        (("a/samples/k/\x1b[2J.png", b""), FOREIGN),
        (("a/evaluations/k.json\n", b""), FOREIGN),
        (("a/checkpoints", b"a file"), FOREIGN),
        (special("a/spec.json.d", tarfile.DIRTYPE), FOREIGN),
        (special("a/tools", tarfile.DIRTYPE), FOREIGN),
        (("a", b"a file"), FOREIGN),
        (("b/metrics.jsonl", b""), "more than one folder"),
        (("A/metrics.jsonl", b""), "more than one folder"),
        (("a/spec.json", SPEC), "twice"),
        (("a/./spec.json", SPEC), "twice"),
    ],
)
def test_unsafe_member_is_refused(tmp_path: Path, member: Member, message: str) -> None:
    for position, members in enumerate([[member, *RUN_MEMBERS], [*RUN_MEMBERS, member]]):
        archive = write_tar(tmp_path / f"{position}.tar", members)
        with pytest.raises(ArchiveError, match=message) as caught:
            import_run(archive)
        assert "\x1b" not in str(caught.value)
        assert store_entries() == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.tar", "1.tar"]
    assert sorted(path.name for path in tmp_path.parent.glob("*escaped*")) == []


@pytest.mark.parametrize("keys", ["Kk", "kK"])
def test_members_that_differ_in_case_only_are_refused(tmp_path: Path, keys: str) -> None:
    members = [*RUN_MEMBERS, *((f"a/evaluations/{key}.json", b"") for key in keys)]
    with pytest.raises(ArchiveError, match="twice"):
        import_run(write_tar(tmp_path / "a.tar", members))


def test_the_plain_archive_of_these_tests_is_taken(tmp_path: Path) -> None:
    assert import_run(write_tar(tmp_path / "a.tar", RUN_MEMBERS)).status() == STATUS


@pytest.mark.parametrize(
    "members, message",
    [
        ([], "holds no spec.json"),
        (RUN_MEMBERS[1:], "holds no spec.json"),
        (RUN_MEMBERS[:1], "holds no status.json"),
        ([("a/spec.json", b"{"), RUN_MEMBERS[1]], "its spec.json"),
        ([("a/spec.json", b"\xff"), RUN_MEMBERS[1]], "not imported"),
        ([("a/spec.json", b"[" * 100_000), RUN_MEMBERS[1]], "not imported"),
        ([("a/spec.json", b'{"schema_version": 999}'), RUN_MEMBERS[1]], "its spec.json"),
        ([RUN_MEMBERS[0], ("a/status.json", b"{}")], "its status.json is damaged"),
        ([("a/spec.json", bytes(2**24 + 1)), RUN_MEMBERS[1]], "which no run has"),
    ],
)
def test_archive_of_no_usable_run_is_refused(tmp_path: Path, members: list[Member], message: str) -> None:
    with pytest.raises(ArchiveError, match=message):
        import_run(write_tar(tmp_path / "a.tar", members))
    assert store_entries() == []


def test_truncated_archive_is_refused_wherever_it_ends(run: Run, tmp_path: Path) -> None:
    whole = export_run(run, tmp_path / "a.tar").read_bytes()
    used = len(whole.rstrip(b"\0"))
    used += -used % 512
    cut = tmp_path / "cut.tar"
    remove_run(run)
    for length in [*range(0, used, 512), used + 512, used - 100, 700]:
        cut.write_bytes(whole[:length])
        with pytest.raises(ArchiveError, match=r"cut short|damaged"):
            import_run(cut)
        assert store_entries() == []
    cut.write_bytes(whole[: used + 1024])
    import_run(cut)


def test_damaged_header_is_refused(run: Run, tmp_path: Path) -> None:
    whole = bytearray(export_run(run, tmp_path / "a.tar").read_bytes())
    with tarfile.open(tmp_path / "a.tar") as tar:
        offsets = [member.offset for member in tar]
    for offset in offsets:
        damaged = whole.copy()
        damaged[offset] ^= 1
        (tmp_path / "damaged.tar").write_bytes(damaged)
        with pytest.raises(ArchiveError, match="damaged"):
            import_run(tmp_path / "damaged.tar", name="b")
    assert store_entries() == ["a"]


def make_gzip(path: Path) -> None:
    with gzip.open(path, "wb") as stream:
        stream.write(bytes(10_000_000))


def make_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/spec.json", SPEC)


@pytest.mark.parametrize(
    "make",
    [make_gzip, make_zip, lambda path: path.write_text("hello"), lambda path: path.write_bytes(os.urandom(5000))],
)
def test_other_files_are_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "a.tar")
    with pytest.raises(ArchiveError, match="is not a run's archive, or is damaged"):
        import_run(tmp_path / "a.tar")
    assert store_entries() == []


def test_missing_archive_and_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.tar", tmp_path):
        with pytest.raises(UsageError, match="there is no file"):
            import_run(path)


@pytest.mark.parametrize("size", [2**33, 2**62])
def test_absurd_declared_size_is_refused(tmp_path: Path, size: int) -> None:
    member = tarfile.TarInfo("a/metrics.jsonl")
    member.size = size
    with open(tmp_path / "a.tar", "wb") as stream:
        stream.write(member.tobuf(tarfile.GNU_FORMAT) + bytes(10_240))
    with pytest.raises(ArchiveError, match="reaches beyond its end"):
        import_run(tmp_path / "a.tar")


def test_archive_larger_than_the_free_space_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = export_run(run, tmp_path / "a.tar")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("debiasctl.runs.archive.shutil.disk_usage", lambda path: usage(10**6, 10**6, 1000))
    with pytest.raises(ArchiveError, match=r"needs 0\.0 MB, and .* has 0\.0 MB left"):
        import_run(archive, name="b")
    assert store_entries() == ["a"]


@pytest.mark.parametrize("top", ["-a", ".a", "x" * 101, "a b"])
def test_archive_of_a_run_with_a_bad_name(tmp_path: Path, top: str) -> None:
    members: list[Member] = [(f"{top}/{str(name)[2:]}", data) for name, data in RUN_MEMBERS]
    archive = write_tar(tmp_path / "a.tar", members)
    with pytest.raises(RunNameError, match="is not a run's name"):
        import_run(archive)
    with pytest.raises(RunNameError, match="is not a run's name"):
        import_run(archive, name="../b")
    assert store_entries() == []
    assert import_run(archive, name="b").name == "b"


def test_taken_name_is_refused(run: Run, tmp_path: Path) -> None:
    append_metrics(run, [HeldoutRecord(step=2, weights="ema", bins=[])])
    archive = export_run(run, tmp_path / "a.tar")
    before = contents(run.path)
    with pytest.raises(RunNameError, match=r"'a' already exists.*`name=NAME`"):
        import_run(archive)
    assert contents(run.path) == before
    assert [summary.name for summary in list_runs()] == store_entries() == ["a"]


@pytest.mark.parametrize(
    "name, content",
    [
        ("weights.safetensors", CHECKPOINT["weights.safetensors"][:-1]),
        ("training_state.pt", b"stats"),
        ("extra.pt", b""),
        ("manifest.json", b"{}"),
        ("manifest.json", b"{"),
        ("manifest.json", json.dumps({"step": "0", "sha256": SUMS}).encode()),
    ],
)
def test_a_checkpoint_that_differs_from_its_checksums_is_refused(run: Run, tmp_path: Path, name, content) -> None:
    (run.path / "checkpoints" / "00000000" / name).write_bytes(content)
    archive = export_run(run, tmp_path / "a.tar")
    with pytest.raises(ArchiveError, match="its checkpoint 0 is damaged: its files differ from the checksums"):
        import_run(archive, name="b")
    assert [found.name for found in list_runs()] == ["a"]
