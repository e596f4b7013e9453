import dataclasses
import hashlib
import json
import os
from pathlib import Path

import pytest
from tiny import debiasctl, succeed, write_distribution

from debiasctl.builtin.features import inception
from debiasctl.builtin.features.dinov2 import DinoV2
from debiasctl.builtin.features.inception import Inception
from debiasctl.errors import EvaluationError
from debiasctl.evaluation.reference.clean_fid import parse_statistics


def report(code: int = 0) -> dict:
    outcome = debiasctl("doctor", "--json")
    assert outcome.code == code, outcome
    return json.loads(outcome.out)


def state(found: dict, features: str) -> dict:
    (entry,) = [one for one in found["weights"] if one["features"] == features]
    return entry


def test_what_is_only_missing_is_said_with_its_place(debiasctl_home: Path) -> None:
    found = report()
    entry = state(found, "inception")
    assert entry["state"] == "missing"
    assert entry["path"] == str(debiasctl_home / "cache" / "features" / "inception" / inception.FILE_NAME)
    assert entry["sha256_expected"] == inception.WEIGHTS.sha256
    assert found["problems"] == []
    assert {one["what"]: one["exists"] for one in found["folders"]}["cache"] is False
    assert not list(debiasctl_home.iterdir()), "looking writes nothing"
    out = succeed("doctor").out
    assert entry["path"] in out
    assert entry["url"] in out
    assert out.endswith("nothing is broken\n")


def test_versions_devices_and_sizes(debiasctl_home: Path) -> None:
    import torch

    path = debiasctl_home / "cache" / "references" / "some.npz"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * 1234)
    found = report()
    assert torch.__version__.startswith(found["versions"]["torch"])
    assert found["devices"][0]["device"] == "cpu"
    sizes = {one["what"]: one["bytes"] for one in found["folders"]}
    assert sizes == {
        "runs": 0, "evaluations": 0, "cache": 1234, "cache: datasets": 0, "cache: features": 0,
        "cache: latents": 0, "cache: references": 1234, "cache: clean-fid": 0,
    }  # fmt: skip


def test_the_published_statistics_that_are_there_are_named_as_references(debiasctl_home: Path) -> None:
    assert (report()["statistics"], "--reference" in succeed("doctor").out) == ([], False)
    folder = debiasctl_home / "cache" / "clean-fid"
    folder.mkdir(parents=True)
    for name in ("cifar10_clean_train_32", "lsun_cat_legacy_tensorflow_trainfull_256", "other"):
        (folder / f"{name}.npz").write_bytes(b"x")
    named = [
        "clean-fid:name=cifar10,resolution=32,split=train",
        "clean-fid:name=lsun_cat,resolution=256,split=trainfull,mode=legacy_tensorflow",
    ]
    found = report()
    assert found["statistics"] == named
    assert {one["what"]: one["bytes"] for one in found["folders"]}["cache: clean-fid"] == 3
    assert all(parse_statistics(reference).reference == reference for reference in named)
    out = succeed("doctor").out
    assert all(reference in out for reference in named)


@pytest.mark.parametrize("count, text", [(1, "1 thread"), (3, "3 threads")])
def test_one_thread_and_several(monkeypatch: pytest.MonkeyPatch, count: int, text: str) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: count)
    assert report()["devices"][0]["name"] == text


@pytest.mark.parametrize("what, message", [("folder", "a folder lies there"), ("link", "a link to nothing lies there")])
def test_what_is_no_file_of_weights_is_not_called_missing(debiasctl_home: Path, what: str, message: str) -> None:
    path = debiasctl_home / "cache" / "features" / "inception" / inception.FILE_NAME
    path.parent.mkdir(parents=True)
    if what == "folder":
        path.mkdir()
    else:
        path.symlink_to(debiasctl_home / "gone")
    found = report(code=1)
    assert state(found, "inception")["state"] == "blocked"
    assert found["problems"] == [f"{path}: {message}, where {inception.FILE_NAME} should be. Move it away"]
    with pytest.raises(EvaluationError, match=message):
        inception.WEIGHTS.obtain(debiasctl_home / "cache", None)


def test_weights_that_cannot_be_read(debiasctl_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = debiasctl_home / "cache" / "features" / "inception" / inception.FILE_NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")

    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("debiasctl.api.weights_file.sha256_file", refuse)
    found = report(code=1)
    assert state(found, "inception")["state"] == "unreadable"
    assert found["problems"] == [f"{path} cannot be read. Change its permissions, or replace it"]


@pytest.mark.parametrize("link", [False, True])
def test_a_cache_that_is_no_folder(debiasctl_home: Path, link: bool) -> None:
    path = debiasctl_home / "cache"
    if link:
        path.symlink_to(debiasctl_home / "gone")
    else:
        path.write_text("x")
    found = report(code=1)
    reason = f"{path} is {'a link to nothing' if link else 'not a folder'}"
    assert f"{path} cannot be written (cache): {reason}" in found["problems"]
    assert {one["what"]: one["writable"] for one in found["folders"]} == {
        "runs": True, "evaluations": True, "cache": False, "cache: datasets": False, "cache: features": False,
        "cache: latents": False, "cache: references": False, "cache: clean-fid": False,
    }  # fmt: skip


@pytest.mark.parametrize("right", [True, False])
def test_the_checksum_of_what_is_there(debiasctl_home: Path, monkeypatch: pytest.MonkeyPatch, right: bool) -> None:
    path = debiasctl_home / "cache" / "features" / "inception" / inception.FILE_NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    sha256 = hashlib.sha256(b"weights").hexdigest()
    if right:
        changed = dataclasses.replace(inception.WEIGHTS, sha256=sha256)
        monkeypatch.setattr(Inception, "weights_files", (changed,))
    found = report(code=0 if right else 1)
    entry = state(found, "inception")
    assert (entry["state"], entry["sha256"]) == ("present" if right else "wrong", sha256)
    assert len(found["problems"]) == (0 if right else 1)
    outcome = debiasctl("doctor")
    assert (f"broken: {path} is not" in outcome.out) is not right
    assert (sha256 in outcome.out) is not right
    assert path.read_bytes() == b"weights"


def test_a_file_that_nothing_is_published_to_check_by(debiasctl_home: Path) -> None:
    file, _ = DinoV2.weights_files
    path = file.cached(debiasctl_home / "cache")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    found = [one for one in report()["weights"] if one["features"] == "dinov2"]
    assert [(one["network"], one["state"]) for one in found] == [
        ("DINOv2 ViT-B/14", "unverified"),
        ("DINOv2 ViT-L/14", "missing"),
    ]
    assert hashlib.sha256(b"weights").hexdigest() in succeed("doctor").out


def test_a_folder_that_cannot_be_written(debiasctl_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != debiasctl_home and real(path, mode))
    found = report(code=1)
    assert len(found["problems"]) == len(found["folders"]) == 8
    assert f"{debiasctl_home / 'runs'} cannot be written" in found["problems"][0]


def test_a_plugin_that_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_distribution(
        tmp_path,
        name="broken-features",
        version="1",
        entry_points={"debiasctl.features": {"broken": "broken_features:Broken"}},
        modules={"broken_features": "raise RuntimeError('it is broken')"},
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    found = report(code=1)
    assert len(found["problems"]) == 1
    assert "it is broken" in found["problems"][0]
    assert state(found, "inception")["state"] == "missing"
