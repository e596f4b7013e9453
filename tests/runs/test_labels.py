"""Tags and notes of a run."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from debiasctl import paths
from debiasctl.errors import ForeignPartError, RunError, UsageError
from debiasctl.runs.archive import export_run, import_run
from debiasctl.runs.labels import Labels, change_labels, read_labels
from debiasctl.runs.parts import disk_use
from debiasctl.runs.removal import remove_run
from debiasctl.runs.status import new_status
from debiasctl.runs.store import Run, create_run
from debiasctl.specs.resolve import validate_spec


def make_run(name: str, identity: str | None = None) -> Run:
    spec = validate_spec({"data": {"dataset": "digits"}, "provenance": {"run": identity}})
    return create_run(name, spec, status=new_status(num_steps=9, dataset="digits", weighting="debiased", seed=0))


def test_tags_and_notes_are_added_and_removed() -> None:
    run = make_run("a", "0a")
    assert read_labels(run) == Labels()
    assert change_labels(run, remove=["none"]) == Labels()
    assert not (run.path / "labels.json").exists()  # nothing changed, and nothing is written
    assert change_labels(run, add=["b", "a", "b"], note="x\ny") == Labels(("a", "b"), "x\ny")
    assert change_labels(run, add=["é/ü:1"], remove=["a"]).tags == ("b", "é/ü:1")
    assert read_labels(run) == Labels(("b", "é/ü:1"), "x\ny")
    assert change_labels(run, note="").note == ""
    assert "labels.json" in disk_use(run.path)


@pytest.mark.parametrize(
    "tag", ["", "-a", "+a", "a b", "a,b", "a=b", "a'", "a*", "\x1b[31m", "a\u202eb", "a" * 61, "\udcff"]
)
def test_what_is_no_tag_is_refused(tag: str) -> None:
    run = make_run("a")
    with pytest.raises(UsageError, match="is no tag") as caught:
        change_labels(run, add=["good", tag])
    assert str(caught.value).isprintable()
    assert read_labels(run) == Labels()


def test_labels_have_bounds() -> None:
    run = make_run("a")
    with pytest.raises(UsageError, match="at most 50"):
        change_labels(run, add=map(str, range(51)))
    with pytest.raises(UsageError, match="at most 4,000"):
        change_labels(run, note="x" * 4001)
    with pytest.raises(UsageError, match="not UTF-8"):
        change_labels(run, note="\udcff")
    change_labels(run, add=map(str, range(50)), note="\U0001f600" * 4000)
    assert len(read_labels(run).note) == 4000


def test_labels_go_with_their_run_and_with_no_other(tmp_path: Path) -> None:
    run, other = make_run("a", "0a"), make_run("b", "0b")
    change_labels(run, add=["x"])
    imported = import_run(export_run(run, tmp_path / "a.tar"), name="c")
    assert read_labels(imported) == Labels(("x",))
    (other.path / "labels.json").write_bytes((run.path / "labels.json").read_bytes())
    with pytest.raises(ForeignPartError, match="Remove it"):
        read_labels(other)
    with pytest.raises(ForeignPartError):
        change_labels(other, add=["y"])
    remove_run(run)
    assert not run.path.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"\xff", b'{"schema_version": 1, "tags": []}',
        b'{"schema_version": 1, "tags": ["a b"], "note": ""}', b'{"schema_version": 1, "tags": "a", "note": ""}',
        b'{"schema_version": 1, "tags": [], "note": 3}', b'{"schema_version": 1, "tags": [], "note": "", "more": 1}',
        b'{"schema_version": 1, "tags": [], "note": "", "run": 5}', b'{"schema_version": "1", "tags": [], "note": ""}',
        b'{"schema_version": 1, "tags": [], "note": "' + b"x" * 300_000 + b'"}',
    ],
)  # fmt: skip
def test_damaged_labels_are_named_and_not_overwritten(content: bytes) -> None:
    run = make_run("a")
    file = run.path / "labels.json"
    file.write_bytes(content)
    for act in (read_labels, lambda run: change_labels(run, add=["x"])):
        with pytest.raises(RunError, match=r"labels\.json is damaged: .*remove it"):
            act(run)
    assert file.read_bytes() == content


def test_labels_of_a_newer_version_are_neither_overwritten_nor_called_damaged() -> None:
    run = make_run("a")
    file = run.path / "labels.json"
    file.write_text('{"schema_version": 2, "tags": [], "note": "", "more": 1}')
    for act in (read_labels, lambda run: change_labels(run, add=["x"])):
        with pytest.raises(
            RunError, match=r"newer version of debiasctl .* Upgrade it: pip install --upgrade debiasctl$"
        ):
            act(run)
    assert '"schema_version": 2' in file.read_text()


@pytest.mark.parametrize("spec", [None, "[]", "{"])
def test_where_the_spec_is_damaged_labels_are_not_blamed(spec: str | None) -> None:
    run = make_run("a", "0a")
    change_labels(run, note="x")
    (run.path / "spec.json").unlink()
    if spec is not None:
        (run.path / "spec.json").write_text(spec)
    with pytest.raises(RunError, match=r"spec\.json") as caught:
        read_labels(run)
    assert "labels.json" not in str(caught.value)


def test_several_at_once_lose_no_tag() -> None:
    make_run("a")
    run = Run(paths.runs_dir() / "a")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda tag: change_labels(run, add=[tag]), map(str, range(24))))
    assert len(json.loads((run.path / "labels.json").read_text())["tags"]) == 24
