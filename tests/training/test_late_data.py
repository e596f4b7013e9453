"""Training on images that are known by their files until all of them have been read."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from records import add_evaluation, make_arm, make_run, plain_spec
from tiny import make_spec

from debiasctl.api import DataLocation
from debiasctl.comparison.study import study_of
from debiasctl.data.load import load_data
from debiasctl.errors import DataError
from debiasctl.runs.store import Run
from debiasctl.training import session
from debiasctl.training.conduct import Conduct

FILES = {"name": "folder", "options": {"identify": "files", "heldout": 0.2}}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(80):
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(folder / f"{number:02}.png")
    return folder


def start(name: str, root: Path, location: DataLocation, *, steps: int) -> Run:
    dataset = {"name": "folder", "options": FILES["options"] | {"path": str(root)}}
    spec = make_spec(data__dataset=dataset, training__steps=steps, optimizer__warmup_steps=0, optimizer__decay="none")
    return session.start(spec, location, name=name, conduct=Conduct(device="cpu"))


def test_a_run_is_known_by_its_files_and_then_by_its_images(root: Path, tmp_path: Path) -> None:
    location = DataLocation(None, tmp_path / "cache")
    first = start("first", root, location, steps=2)
    files_hash = first.spec().content.content_hash
    assert files_hash.startswith("files:")
    assert load_data(first.spec(), location).content_hash == files_hash  # for evaluations
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    session.resume(first, location, steps=3, conduct=Conduct(device="cpu"), data_path=copy)
    assert first.spec().content.content_hash == files_hash

    touched = copy / "03.png"
    content, status = touched.read_bytes(), touched.stat()
    touched.write_bytes(content)
    with pytest.raises(DataError, match=r"hash of files .* must keep the times"):
        session.resume(first, location, steps=17, conduct=Conduct(device="cpu"))
    os.utime(touched, ns=(status.st_atime_ns, status.st_mtime_ns))
    session.resume(first, location, steps=17, conduct=Conduct(device="cpu"))
    found = first.spec().content
    assert found.has_been_read
    assert found.files_hash == files_hash

    # a second run knows the images at once, and a machine that has never seen them reads them to tell
    second = start("second", copy, location, steps=2)
    assert second.spec().content == found
    touched.write_bytes(content)
    elsewhere = DataLocation(None, tmp_path / "elsewhere")
    assert load_data(second.spec(), elsewhere).content_hash == found.content_hash
    Image.new("L", (8, 8), 7).save(touched)
    with pytest.raises(DataError, match="not those that this spec was made for"):
        load_data(second.spec(), elsewhere)


def test_a_first_epoch_ends_with_the_hash_of_the_images(root: Path, tmp_path: Path) -> None:
    run = start("run", root, DataLocation(None, tmp_path / "cache"), steps=12)
    content = run.spec().content  # for which the held-out images were read that were not measured
    assert content.num_heldout > run.spec().training.heldout_images
    assert content.has_been_read
    assert content.files_hash.startswith("files:")


def test_runs_before_and_after_all_images_were_read_are_compared() -> None:
    content = plain_spec().content
    of_files = {"content": content.model_dump() | {"content_hash": "files:1"}}
    both = {"content": content.model_dump() | {"content_hash": "ab", "files_hash": "files:1"}}
    runs = []
    for seed, sections in enumerate((of_files, both)):
        for weighting, value in (("constant", 1.0), ("debiased", 0.8)):
            run = make_run(f"{weighting}-{seed}", plain_spec(weighting, seed, **sections))
            known = sections["content"]["content_hash"]
            add_evaluation(run, {"fd_local": value + seed / 100}, dataset_hash=known)
            runs.append(run)
    study = study_of(runs)
    assert [(arm.name, arm.seeds) for arm in study.arms] == [("constant", [0, 1]), ("debiased", [0, 1])]
    assert [len(arm.figures) for arm in study.cells[0].arms] == [2, 2]
    other = make_arm("debiased", [0.8], first=7, content=content.model_dump() | {"content_hash": "files:2"})
    assert "content.content_hash" in study_of([*runs, *other]).differing


@pytest.mark.parametrize(
    "one, other, same",
    [
        (("a", None), ("a", None), True),
        (("a", None), ("b", None), False),
        (("files:1", None), ("a", "files:1"), True),
        (("files:1", None), ("files:1", None), True),
        (("files:1", None), ("a", None), False),
        (("a", "files:1"), ("b", "files:1"), False),  # a file changed, but for its size and time
        (("a", "files:1"), ("a", "files:2"), True),  # another machine's copy
    ],
)
def test_the_same_images(one: tuple[str, str | None], other: tuple[str, str | None], same: bool) -> None:
    content = plain_spec().content
    first, second = (content.model_copy(update={"content_hash": c, "files_hash": f}) for c, f in (one, other))
    assert first.same_images(second) is second.same_images(first) is same


def test_what_is_made_of_images_is_kept_when_all_of_them_have_been_read() -> None:
    content = plain_spec().content
    before = content.model_copy(update={"content_hash": "files:1"})
    after = content.model_copy(update={"content_hash": "a", "files_hash": "files:1"})
    assert before.lasting_hash == after.lasting_hash == "files:1"
    assert content.lasting_hash == content.content_hash
