"""Files that came from elsewhere, or were damaged: archives, arrays, images, checkpoints and records."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import count, fuzz
from guard import Broken, call, command, tree
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save as safetensors_bytes
from sandboxes import Sandbox
from strategies import HOSTILE_TEXTS, changed_bytes, changed_json, json_text, npy_members, values, zip_bytes
from tiny import LOCATION

from debiasctl.builtin.datasets._support.npz_images import read_npz
from debiasctl.builtin.datasets.folder import Folder
from debiasctl.evaluation.reference.statistics_file import read_statistics
from debiasctl.runs.archive import export_run, import_run
from debiasctl.runs.store import Run

# ---------------------------------------------------------------- archives of runs

_MEMBER_NAMES = ("../x", "/tmp/x", "a/../../x", "a/spec.json", "A/spec.json", "b/spec.json", "a", "a/", "", ".",
    "a/checkpoints/4/../../../x", "a/checkpoints/4/model.safetensors", "a\\x", "C:/x", "a/\x1b[31m",
    "a/" + "x" * 300, "a/.lock", "a/evil.py", "a/samples/x/1.png",
    "a/checkpoints/99999999999999/manifest.json")  # fmt: skip
_TYPES = (
    tarfile.REGTYPE,
    tarfile.DIRTYPE,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.FIFOTYPE,
    tarfile.CHRTYPE,
    b"S",
    b"x",
    b"g",
    b"L",
    b"Z",
)
_SIZES = (0, 1, 512, 2**31, 2**40, 2**62)


@st.composite
def _archives(draw: st.DrawFn, sound: bytes) -> bytes:
    """A run's archive: its bytes damaged, or its members changed, added or left out."""
    if draw(st.booleans()):
        return draw(changed_bytes(sound))
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(sound)) as old,
        tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        members = old.getmembers()
        target = draw(st.integers(0, len(members)))
        for number, member in enumerate(members):
            stream = old.extractfile(member)
            data = stream.read() if stream else b""
            if number == target:
                kind = draw(st.sampled_from(("name", "type", "leave", "twice", "json", "data", "size")))
                if kind == "leave":
                    continue
                if kind == "name":
                    member.name = draw(st.sampled_from(_MEMBER_NAMES))
                elif kind == "type":
                    member.type, member.linkname = draw(st.sampled_from(_TYPES)), "../../etc"
                elif kind == "twice":
                    new.addfile(member, io.BytesIO(data))
                elif kind == "json" and member.name.endswith(".json"):
                    data = draw(json_text(json.loads(data))).encode("utf-8", "surrogatepass")
                elif kind == "data":
                    data = draw(changed_bytes(data))
                if kind == "size":
                    member.size = draw(st.sampled_from(_SIZES))
                    out.write(member.tobuf(tarfile.GNU_FORMAT) + data)
                    continue
            member.size = len(data)
            new.addfile(member, io.BytesIO(data))
    return out.getvalue()


@fuzz(0.1, data=st.data())
def test_an_archive_is_imported_whole_or_not_at_all(sandbox: Sandbox, data: st.DataObject) -> None:
    sound = sandbox.work / "sound.tar"
    if not sound.exists():
        export_run(Run(sandbox.home / "runs" / "a"), sound)
    archive = sandbox.work / "fuzzed.tar"
    archive.write_bytes(data.draw(_archives(sound.read_bytes())))
    before = tree(sandbox.home)
    run, message = call(lambda: import_run(archive, name="c"), allowed=sandbox.places)
    count("archives", "refused" if message else "imported")
    if message:
        left = {path for path in tree(sandbox.home).keys() ^ before.keys() if not path.endswith(".lock")}
        if left:
            raise Broken(f"refused ({message[:200]}), and yet it left {sorted(left)[:3]}")
        return
    with tarfile.open(archive) as tar:
        held = {member.name.partition("/")[2]: tar.extractfile(member) for member in tar.getmembers() if member.isreg()}
        for name, stream in held.items():
            if name != "status.json" and stream and (run.path / name).read_bytes() != stream.read():
                raise Broken(f"{name} is not what the archive holds")
    command("runs", "show", "c", allowed=sandbox.places)
    command("runs", "rm", "c", "--yes", allowed=sandbox.places)


# ---------------------------------------------------------------- npz: images and statistics


@st.composite
def _npz(draw: st.DrawFn, names: tuple[str, ...]) -> bytes:
    chosen = draw(st.lists(st.sampled_from(names), min_size=1, max_size=4, unique=True))
    content = zip_bytes({f"{name}.npy": draw(npy_members()) for name in chosen})
    return draw(changed_bytes(content)) if draw(st.integers(0, 3)) == 0 else content


@fuzz(0.1, data=st.data())
def test_an_npz_of_images_is_read_as_numpy_reads_it_or_refused(sandbox: Sandbox, data: st.DataObject) -> None:
    file = sandbox.work / "images.npz"
    file.write_bytes(data.draw(_npz(("images", "arr_0", "labels", "arr_1", "mu", "sigma"))))
    found, message = call(lambda: read_npz(file))
    count("npz of images", "refused" if message else "read")
    if not message:
        images, labels = found
        with np.load(file) as archive:
            raw = archive["images"] if "images" in archive.files else archive["arr_0"]
        raw = raw[..., None] if raw.ndim == 3 else raw
        if raw.dtype != np.uint8 or not np.array_equal(images.permute(0, 2, 3, 1).numpy(), raw):
            raise Broken(f"{raw.dtype} {raw.shape} is read as {list(images.shape)}")
        if labels is not None and (len(labels) != len(images) or int(labels.min()) < 0):
            raise Broken("labels that are no class numbers are read")


_METADATA = (
    "[]",
    "{}",
    "3",
    "null",
    "{",
    '{"features": []}',
    '{"features": {"name": "pixels"}, "num": "many"}',
    "[" * 5_000,
    '{"num": 1e400}',
)


@st.composite
def _statistics(draw: st.DrawFn) -> bytes:
    size = draw(st.integers(1, 6))
    mean, covariance = np.zeros(size), np.eye(size)
    scale = draw(st.sampled_from((1.0, 1.0, 1e-300, 1e150, 1e200, 1e308, np.nan, np.inf, -1.0)))
    kind = draw(st.sampled_from(("plain", "mean", "covariance", "asymmetric", "shape", "complex", "text")))
    members: dict[str, Any] = {"mu": mean + 1, "sigma": covariance}
    if kind == "mean":
        members["mu"] = mean + scale
    elif kind == "covariance":
        members["sigma"] = covariance * scale
    elif kind == "asymmetric" and size > 1:
        covariance[0, 1] = scale
    elif kind == "shape":
        members["sigma"] = np.eye(size + 1)
    elif kind == "complex":
        members["sigma"] = covariance + 1j
    elif kind == "text":
        members["mu"] = np.array(["a"] * size)
    if draw(st.booleans()):
        members["debiasctl"] = np.array(draw(st.sampled_from(_METADATA)))
    buffer = io.BytesIO()
    np.savez(buffer, **members)
    return draw(changed_bytes(buffer.getvalue())) if draw(st.integers(0, 3)) == 0 else buffer.getvalue()


@fuzz(0.06, content=st.one_of(_statistics(), _npz(("mu", "sigma", "mu_s", "debiasctl"))))
def test_statistics_are_finite_and_of_one_size_or_refused(sandbox: Sandbox, content: bytes) -> None:
    file = sandbox.work / "statistics.npz"
    file.write_bytes(content)
    found, message = call(lambda: read_statistics(file))
    count("statistics", "refused" if message else "read")
    if not message:
        size = len(found.mean)
        sound = found.covariance.shape == (size, size) and torch.isfinite(found.covariance).all()
        if not (sound and torch.isfinite(found.mean).all() and isinstance(found.metadata, dict)):
            raise Broken("what is no mean and covariance is read")


@fuzz(0.01, content=st.one_of(_statistics(), _npz(("mu", "sigma", "images", "arr_0"))))
def test_a_run_is_measured_against_any_reference_or_it_is_refused(sandbox: Sandbox, content: bytes) -> None:
    file = sandbox.work / "reference.npz"
    file.write_bytes(content)
    outcome = command("evaluate", "a", "--num", "8", "--steps", "2", "--features", "pixels:dimension=4",
                      "--reference", file, allowed=sandbox.places)  # fmt: skip
    count("references of evaluations", outcome.code)


# ---------------------------------------------------------------- images


def _image(mode: str, form: str, side: int) -> bytes:
    image = Image.new(mode, (side, side), 1 if mode in "1LPI;16F" else None)
    buffer = io.BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()


_IMAGES = [_image(mode, form, 8) for mode, form in (("L", "PNG"), ("RGB", "PNG"), ("RGBA", "PNG"), ("P", "PNG"),
    ("LA", "PNG"), ("1", "PNG"), ("I;16", "PNG"), ("RGB", "JPEG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("RGB",
    "BMP"), ("RGB", "GIF"), ("RGB", "WEBP"), ("RGB", "TIFF"), ("F", "TIFF"))]  # fmt: skip
_ENDINGS = ("png", "jpg", "bmp", "gif", "webp", "tiff", "PNG", "jpeg")


@fuzz(0.12, data=st.data())
def test_a_folder_of_images_is_decoded_or_its_bad_files_are_named(sandbox: Sandbox, data: st.DataObject) -> None:
    folder = sandbox.work / "images"
    for old in folder.glob("*") if folder.exists() else ():
        old.unlink()
    folder.mkdir(exist_ok=True)
    for number in range(4):
        (folder / f"sound{number}.png").write_bytes(_IMAGES[1])
    skip = data.draw(st.booleans())
    for number in range(data.draw(st.integers(1, 3))):
        content = data.draw(st.sampled_from(_IMAGES))
        changed = data.draw(st.one_of(changed_bytes(content), st.binary(max_size=40), st.just(content)))
        (folder / f"bad{number}.{data.draw(st.sampled_from(_ENDINGS))}").write_bytes(changed)
    dataset = Folder(Folder.Options(path=str(folder), image_size=8, skip_unreadable=skip))
    location = type(LOCATION)(data_dir=None, cache_dir=sandbox.work / "cache")

    def load() -> torch.Tensor:
        loaded = dataset.load(location)
        return torch.cat([split.images(torch.arange(len(split))) for split in (loaded.train, loaded.heldout)])

    images, message = call(load, allowed=sandbox.places)
    count("folders of images", "refused" if message else "decoded")
    if not message and (images.dtype != torch.uint8 or images.shape[1:] not in ((3, 8, 8), (1, 8, 8))):
        raise Broken(f"the images are {images.dtype} {list(images.shape)}")


# ---------------------------------------------------------------- checkpoints and the other parts of a run


def _state_values() -> st.SearchStrategy[Any]:
    tensors = st.sampled_from(
        (torch.zeros(3), torch.zeros(0), torch.full((2,), torch.nan), torch.zeros(2, dtype=torch.int8))
    )
    return st.one_of(st.sampled_from(([], None, "text", 3, {}, {"step": "x"})), tensors, values)


def _rewrite_manifest(checkpoint: Path) -> None:
    """Checksums that are right, of whatever the files hold now."""
    manifest = checkpoint / "manifest.json"
    content = json.loads(manifest.read_text())
    content["sha256"] = {
        name: hashlib.sha256((checkpoint / name).read_bytes()).hexdigest() for name in content["sha256"]
    }
    manifest.write_text(json.dumps(content))


def damage_checkpoint(data: st.DataObject, checkpoint: Path) -> None:
    name = data.draw(st.sampled_from(("state.pt", "state.pt", "model.safetensors", "ema.safetensors")))
    file = checkpoint / name
    how = data.draw(st.sampled_from(("bytes", "other", "part")))
    if how == "bytes":
        file.write_bytes(data.draw(changed_bytes(file.read_bytes())))
    elif name == "state.pt":
        state = torch.load(file, weights_only=True)
        if how == "other":
            state = data.draw(_state_values())
        else:
            key = data.draw(st.sampled_from(sorted(state)))
            inner = state[key]
            if isinstance(inner, dict) and inner and data.draw(st.booleans()):
                inner[data.draw(st.sampled_from(sorted(inner, key=str)))] = data.draw(_state_values())
            elif data.draw(st.booleans()):
                state[key] = data.draw(_state_values())
            else:
                del state[key]
        try:
            torch.save(state, file)
        except (UnicodeEncodeError, OverflowError):
            return
    else:
        tensors = {data.draw(st.sampled_from(("x", "net.weight", ""))): torch.zeros(data.draw(st.integers(0, 3)))}
        file.write_bytes(safetensors_bytes(tensors))
    _rewrite_manifest(checkpoint)


@fuzz(0.05, data=st.data())
def test_a_checkpoint_with_right_checksums_and_any_content_is_used_or_refused(
    sandbox: Sandbox, data: st.DataObject
) -> None:
    sandbox.renew()
    damage_checkpoint(data, sandbox.home / "runs" / "a" / "checkpoints" / "00000004")
    line = data.draw(st.sampled_from((("sample", "a", "--num", "2", "--steps", "2"), ("sample", "a", "--num", "2",
        "--steps", "2", "--weights", "raw"), ("train", "--resume", "a", "--steps", "5"), ("evaluate", "a", "--num",
        "8", "--steps", "2", "--features", "pixels:dimension=4", "--seed", "1"))))  # fmt: skip
    outcome = command(*line, allowed=sandbox.places)
    count(f"checkpoints, {line[0]}", outcome.code)


_PARTS = ("spec.json", "status.json", "metrics.jsonl", "labels.json", "checkpoints/*/manifest.json", "samples/*/*.json",
    "evaluations/*.json", "ema/*.json", "ema/*.safetensors", "evaluations/*.npz", "samples/*/*.npz",
    ".trainer.json")  # fmt: skip
READERS = (("runs", "list"), ("runs", "list", "--json"), ("runs", "list", "--all", "--sort", "best"),
    ("runs", "list", "--where", "lr<1 and tag=x"), ("runs", "tag", "a", "--add", "x"), ("runs", "prune", "--dry-run"),
    ("runs", "show", "a"), ("runs", "show", "a", "--json"),
    ("compare", "a", "b"), ("compare", "a", "b", "--json"), ("sample", "a", "--num", "2", "--steps", "2"),
    ("evaluate", "a", "--num", "8", "--steps", "2", "--features", "pixels:dimension=4"), ("train", "--resume", "a",
    "--steps", "5"), ("ema", "a", "--length", "0.1"), ("runs", "export", "a", "--out", "x.tar", "--force"),
    ("likelihood", "a", "--num", "2", "--steps", "2"), ("runs", "rm", "a", "--yes"))  # fmt: skip


def damage_part(data: st.DataObject, run: Path) -> None:
    pattern = data.draw(st.sampled_from(_PARTS))
    files = sorted(run.glob(pattern))
    if not files:
        return
    file = data.draw(st.sampled_from(files))
    content = file.read_bytes()
    if file.suffix == ".jsonl" and data.draw(st.booleans()):
        lines = content.decode().splitlines()
        at = data.draw(st.integers(0, len(lines) - 1))
        lines[at] = json.dumps(data.draw(changed_json(json.loads(lines[at]))))
        content = ("\n".join(lines) + "\n").encode("utf-8", "surrogatepass")
    elif file.suffix == ".json" and data.draw(st.integers(0, 3)):
        content = data.draw(json_text(json.loads(content))).encode("utf-8", "surrogatepass")
    else:
        content = data.draw(changed_bytes(content))
    file.write_bytes(content)


@fuzz(0.08, data=st.data())
def test_a_run_with_a_damaged_part_is_used_or_refused(sandbox: Sandbox, data: st.DataObject) -> None:
    sandbox.renew()
    run = sandbox.home / "runs" / "a"
    damage_part(data, run)
    line = data.draw(st.sampled_from(READERS))
    before = tree(run)
    outcome = command(*line, allowed=sandbox.places)
    count(f"parts of runs, {' '.join(line[:2] if line[0] == 'runs' else line[:1])}", outcome.code)
    if outcome.code and (lost := before.keys() - tree(run).keys()):
        raise Broken(f"{line} was refused, and yet these are gone: {sorted(lost)[:3]}")


# ---------------------------------------------------------------- tables of weights


@fuzz(0.02, data=st.data())
def test_a_table_of_weights_is_used_or_refused(sandbox: Sandbox, data: st.DataObject) -> None:
    sound = b"log_snr,weight\n-5,0.5\n0,1\n5,2\n"
    (sandbox.work / "table.csv").write_bytes(
        data.draw(
            st.one_of(
                changed_bytes(sound),
                st.sampled_from(HOSTILE_TEXTS).map(lambda text: text.encode("utf-8", "surrogatepass")),
            )
        )
    )
    outcome = command("weightings", "table", "table:path=table.csv", "--json", allowed=sandbox.places)
    count("tables of weights", outcome.code)
