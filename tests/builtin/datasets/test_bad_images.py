"""Every kind of damaged or unusual image is handled as the table in docs/how-to/own-data.md says."""

import io
import json
import os
import re
import shutil
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from tiny import debiasctl

from debiasctl.api import DataLocation, Dataset
from debiasctl.builtin.datasets._support import image_files
from debiasctl.errors import DebiasctlError
from debiasctl.registry.entry_points import create
from debiasctl.registry.refs import PluginRef

PAGE = Path(__file__).parents[3] / "docs/how-to/own-data.md"
SIZE, GOOD = 16, 6
RNG = np.random.default_rng(0)


def picture(mode: str = "RGB", size: tuple[int, int] = (SIZE, SIZE)) -> Image.Image:
    noise = Image.fromarray(RNG.integers(0, 256, (*size[::-1], 3), dtype=np.uint8))
    return noise.quantize(8) if mode == "P" else noise.convert(mode)


def data(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def file(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda root: (root / name).write_bytes(content) and None


def frames(kind: str, ending: str) -> Callable[[Path], None]:
    return file(f"bad.{ending}", data(picture(), kind, save_all=True, append_images=[picture(), picture()]))


def transparent_palette() -> bytes:
    return data(picture("P"), transparency=1)


def deep_grey() -> bytes:
    return data(Image.fromarray(RNG.integers(0, 65536, (SIZE, SIZE), dtype=np.uint16)))


def bomb() -> bytes:
    """A PNG that states more pixels than are decoded, and holds none."""
    return stated_png(9000)


def stated_png(side: int) -> bytes:
    head = struct.pack(">2I5B", side, side, 1, 0, 0, 0, 0)
    parts = [b"\x89PNG\r\n\x1a\n"]
    for name, content in ((b"IHDR", head), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")):
        parts += [struct.pack(">I", len(content)), name, content, struct.pack(">I", zlib.crc32(name + content))]
    return b"".join(parts)


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return data(picture(), "JPEG", exif=exif)


def two_names(first: str, second: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        for name in (first, second):
            (root / name).write_bytes(data(picture()))
        if len(list(root.iterdir())) < GOOD + 2:
            pytest.skip("this file system takes both names for one")

    return make


def no_utf8(root: Path) -> None:
    try:
        (root / os.fsdecode(b"bad\xe9.png")).write_bytes(data(picture()))
    except OSError:
        pytest.skip("this file system takes only UTF-8")


def hidden(root: Path) -> None:
    (root / "__MACOSX").mkdir()
    for name in ("._0.png", ".hidden.png", "Thumbs.db", ".DS_Store", "__MACOSX/0.png"):
        (root / name).write_bytes(b"")


def zipped(root: Path, *, change: Callable[[zipfile.ZipFile], object] = lambda archive: None) -> Path:
    path = root.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for one in sorted(root.iterdir()):
            archive.write(one, one.name)
        change(archive)
    return path


def tarred(root: Path, *, mode: str = "w", link: str = "") -> Path:
    path = root.with_suffix(".tar" + mode[1:].replace(":", "."))
    with tarfile.open(path, mode) as archive:
        for one in sorted(root.iterdir()):
            archive.add(one, one.name)
        if link:
            info = tarfile.TarInfo("bad.png")
            info.type, info.linkname = tarfile.SYMTYPE, link
            archive.addfile(info)
    return path


def corrupt(root: Path) -> Path:
    path = zipped(root, change=lambda archive: archive.writestr("bad.png", data(picture())))
    content = bytearray(path.read_bytes())
    content[content.index(b"bad.png") + 60] ^= 0xFF
    path.write_bytes(bytes(content))
    return path


def encrypted(root: Path) -> Path:
    path = zipped(root)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x03\x04") + 6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(content))
    return path


def cut_off(root: Path) -> Path:
    path = zipped(root)
    path.write_bytes(path.read_bytes()[:-30])
    return path


def by_another_method(archive: zipfile.ZipFile) -> None:
    archive.writestr("bad.png", data(picture()), compress_type=zipfile.ZIP_LZMA)


def one_name_twice(archive: zipfile.ZipFile) -> None:
    archive.writestr("0.png", data(picture()))


def profiled() -> bytes:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ"))
    return data(picture(), icc_profile=profile.tobytes())


E_ACUTE = "caf\u00e9.png"
# the first cell of a row of the page -> what adds such an image to a folder of good ones; an archive's path is returned
MAKERS: dict[str, Callable[[Path], Path | None]] = {
    "truncated JPEG": file("bad.jpg", data(picture(), "JPEG")[:-200]),
    "truncated PNG": file("bad.png", data(picture())[:-200]),
    "zero bytes": file("bad.png", b""),
    "text named `.png`": file("bad.png", b"<html>404 Not Found</html>"),
    "HEIC named `.jpg`": file("bad.jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)),
    "`.heic` and other files": file("bad.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"),
    "CMYK": file("bad.jpg", data(picture("CMYK"), "JPEG")),
    "palette with transparency": file("bad.png", transparent_palette()),
    "RGBA": file("bad.png", data(picture("RGBA"))),
    "LA (grey with alpha)": file("bad.png", data(picture("LA"))),
    "16-bit grey": file("bad.png", deep_grey()),
    "1-bit": file("bad.png", data(picture("1"))),
    "grey among colour": file("bad.png", data(picture("L"))),
    "float TIFF": file("bad.tif", data(picture("F"), "TIFF")),
    "animated GIF": frames("GIF", "gif"),
    "animated WebP": frames("WEBP", "webp"),
    "animated PNG": frames("PNG", "png"),
    "multi-page TIFF": frames("TIFF", "tiff"),
    "EXIF orientation": file("bad.jpg", rotated()),
    "progressive JPEG": file("bad.jpg", data(picture(), "JPEG", progressive=True)),
    "ICC profile other than sRGB": file("bad.png", profiled()),
    "more than 2²⁶ pixels (a bomb)": file("bad.png", bomb()),
    "1×1": file("bad.png", data(picture(size=(1, 1)))),
    "1×N": file("bad.png", data(picture(size=(1, 40)))),
    "not square": file("bad.png", data(picture(size=(16, 24)))),
    "another size": file("bad.png", data(picture(size=(24, 24)))),
    "one colour": file("bad.png", data(Image.new("RGB", (SIZE, SIZE), (1, 2, 3)))),
    "the same image twice": lambda root: shutil.copy(root / "0.png", root / "bad.png") and None,
    "a format that the ending does not say": file("bad.jpg", data(picture())),
    "upper-case ending": file("bad.JPG", data(picture(), "JPEG")),
    "names that differ in case alone": two_names("bad.png", "BAD.png"),
    "names that differ in Unicode form alone": two_names(E_ACUTE, unicodedata.normalize("NFD", E_ACUTE)),
    "name that is not UTF-8": no_utf8,
    "hidden files, `Thumbs.db`, `__MACOSX`": hidden,
    "folder named `x.png`": lambda root: (root / "x.png").mkdir(),
    "link to a folder above": lambda root: (root / "up").symlink_to(".."),
    "link that leads nowhere, or to itself": lambda root: (root / "bad.png").symlink_to("bad.png"),
    "named pipe, socket or device": lambda root: os.mkfifo(root / "bad.png"),
    "file without permission": file("bad.png", data(picture())),  # which the test takes away, from root too
    "corrupt zip member": corrupt,
    "zip member packed by another method than deflate": lambda root: zipped(root, change=by_another_method),
    "name that leads out of a zip or tar": lambda root: zipped(
        root, change=lambda archive: archive.writestr("../bad.png", data(picture()))
    ),
    "link in a zip, or in a tar to what is not in it": lambda root: tarred(root, link="/etc/passwd"),
    "encrypted zip": encrypted,
    "zip with one name twice": lambda root: zipped(root, change=one_name_twice),
    "tar or zip that is cut off": cut_off,
    "compressed tar (`.tar.gz`, `.tar.xz`, …)": lambda root: tarred(root, mode="w:gz"),
}


def documented() -> dict[str, list[str]]:
    lines = PAGE.read_text(encoding="utf-8").partition("## Images that are damaged or unusual")[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines.splitlines() if line.startswith("|")
    ]
    return {name: cells for name, *cells in rows[2:]}


DOCUMENTED = documented()


def dataset(name: str, path: Path, **options: Any) -> Dataset:
    made: Dataset = create("datasets", PluginRef(name, {"path": str(path), **options}))
    return made


def num_read(name: str, path: Path, location: DataLocation, **options: Any) -> int:
    """How many images are read, all of which are decoded."""
    loaded = dataset(name, path, **options).load(location)
    for split in (loaded.train, loaded.heldout):
        split.images(torch.arange(len(split)))
    return len(loaded.train) + len(loaded.heldout)


def test_the_page_has_thirty_kinds_and_more() -> None:
    assert len(DOCUMENTED) >= 30
    assert set(DOCUMENTED) == set(MAKERS)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", MAKERS)
def test_every_kind_is_handled_as_documented(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, location = tmp_path / "set", DataLocation(None, tmp_path / "cache")
    root.mkdir()
    for number in range(GOOD):
        (root / f"{number}.png").write_bytes(data(picture()))
    path = MAKERS[kind](root) or root
    if kind == "file without permission":
        deny(monkeypatch)
    added = len(list(root.iterdir())) - GOOD
    check, train, evaluate = DOCUMENTED[kind]

    if check == "the archive is refused":
        for name in ("folder", "image-files"):
            with pytest.raises(DebiasctlError, match=re.escape(str(path))):
                num_read(name, path, location)
        with pytest.raises(DebiasctlError, match=re.escape(str(path))):
            list(dataset("folder", path).problems(location, progress=lambda done, total: None))
        return
    found = list(dataset("folder", path).problems(location, progress=lambda done, total: None))
    assert {one.kind for one in found} == set(re.findall(r"`([a-z ]+)`", check))
    assert all((one.severity == "error") == ("(error)" in check) for one in found)

    if train.startswith("refused"):
        with pytest.raises(DebiasctlError, match=r"(?s)bad\.\w+.*skip_unreadable=true"):
            num_read("folder", path, location)
        assert num_read("folder", path, location, skip_unreadable=True) == GOOD
    elif train.startswith("asked about"):
        with pytest.raises(DebiasctlError, match=r"(?s)bad\.png.*image_size="):
            num_read("folder", path, location)
        assert num_read("folder", path, location, image_size=8) == GOOD + 1
    else:
        assert num_read("folder", path, location) == GOOD + (added if train.startswith("read") else 0)
    if evaluate == "refused":
        with pytest.raises(DebiasctlError, match=r"bad\.\w+"):
            num_read("image-files", path, location)
    else:
        assert num_read("image-files", path, location) == GOOD + (added if evaluate == "read" else 0)


def oriented(value: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = value
    return data(picture(), "JPEG", exif=exif)


def deep_with_transparency() -> bytes:
    content, chunk = deep_grey(), b"tRNS" + struct.pack(">H", 7)
    at = content.index(b"IDAT") - 4
    return content[:at] + struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[at:]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "name, content, kinds",
    [
        ("bad.png", stated_png(20_000), {"too large"}),  # which Pillow itself refuses
        ("bad.png", stated_png(9_500), {"too large"}),  # of which it warns
        ("bad.jpg", oriented(99), set()),
        ("bad.jpg", oriented(3), {"rotated"}),
        ("bad.png", data(picture(), "PPM"), {"wrong ending"}),
        ("bad.png", deep_with_transparency(), {"mode", "colour"}),
        ("bad.gif", data(picture("P"), "GIF")[:-60], {"truncated"}),
        ("bad.png", data(picture())[:20], {"truncated"}),
    ],
)
def test_rarer_images_are_listed_as_what_they_are(
    name: str, content: bytes, kinds: set[str], tmp_path: Path, location: DataLocation
) -> None:
    for number in range(GOOD):
        (tmp_path / f"{number}.png").write_bytes(data(picture()))
    (tmp_path / name).write_bytes(content)
    made = dataset("folder", tmp_path)
    found = list(made.problems(location, progress=lambda done, total: None))
    assert {one.kind for one in found} == kinds
    if all(one.severity == "warning" for one in found):
        assert num_read("folder", tmp_path, location) == GOOD + 1
    else:
        with pytest.raises(DebiasctlError, match=r"bad\."):
            made.load(location)


def deny(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = image_files.open_regular

    def denied(path: Any) -> Any:
        if str(path).endswith("bad.png"):
            raise PermissionError(13, "Permission denied")
        return opened(path)

    monkeypatch.setattr(image_files, "open_regular", denied)


# ---------------------------------------------------------------- the command


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    root = tmp_path / "set"
    for number in range(8):
        (root / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        (root / "ab"[number % 2] / f"{number}.png").write_bytes(data(picture()))
    shutil.copy(root / "a/0.png", root / "b/copy.png")
    return root


def test_warnings_are_listed_and_the_exit_code_is_0(mixed: Path, tmp_path: Path) -> None:
    outcome = debiasctl("datasets", "check", str(mixed), "--out", str(tmp_path / "found.csv"), "--json")
    assert outcome.code == 0
    report = json.loads(outcome.out)
    assert (report["images"], report["errors"], report["warnings"]) == (9, 0, 1)
    assert report["kinds"] == [{"kind": "duplicate", "severity": "warning", "count": 1, "example": "b/copy.png"}]
    assert (tmp_path / "found.csv").read_text() == (
        'file,severity,kind,detail\nb/copy.png,warning,duplicate,"the same pixels as a/0.png, in another folder"\n'
    )


def test_errors_are_listed_and_the_exit_code_is_1(mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (mixed / "a" / "bad.png").write_bytes(b"text")
    outcome = debiasctl("datasets", "check", "set")
    assert outcome.code == 1
    assert "1 errors" not in outcome.out
    assert "10 images: 1 error, 1 warning; listed in set-problems.csv" in outcome.out
    assert "a/bad.png,error,unreadable" in (tmp_path / "set-problems.csv").read_text()
    listed = debiasctl("datasets", "check", "set", "--out", "found.json")
    assert listed.code == 1
    assert [one["file"] for one in json.loads((tmp_path / "found.json").read_text())] == ["a/bad.png", "b/copy.png"]


def test_an_ambiguous_layout_is_an_error(mixed: Path, tmp_path: Path) -> None:
    (mixed / "direct.png").write_bytes(data(picture()))
    outcome = debiasctl("datasets", "check", str(mixed), "--out", str(tmp_path / "found.csv"))
    assert outcome.code == 1
    assert "both directly (direct.png) and in sub-folders" in (tmp_path / "found.csv").read_text()


def test_a_set_without_image_files_is_checked_by_its_pixels(tmp_path: Path) -> None:
    images = np.stack([np.asarray(picture()) for _ in range(20)])
    images[7], images[9] = images[3], 5
    np.savez(tmp_path / "set.npz", images=images)
    outcome = debiasctl("datasets", "check", str(tmp_path / "set.npz"), "--out", str(tmp_path / "found.csv"))
    assert outcome.code == 0
    text = (tmp_path / "found.csv").read_text()
    assert "07.png,warning,duplicate,the same pixels as 03.png" in text
    assert "09.png,warning,blank" in text
    digits = debiasctl("datasets", "check", "digits", "--out", str(tmp_path / "digits.csv"))
    assert digits.code == 0
    assert "1,797 images: 0 errors, 0 warnings" in digits.out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["check", "nowhere/at/all"], "there is no folder or archive"),
        (["check", "digits", "--out", "x.txt"], "choose one of .csv, .json"),
        (["show", "digits", "--out", "x.gif"], "choose one of .png"),
        (["show", "digits", "--image-size", "16"], "has no option image_size"),
        (["show", "digtis"], "Did you mean 'digits'?"),
    ],
)
def test_misuse(arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = debiasctl("datasets", *arguments)
    assert outcome.code == 2
    assert message in outcome.err
    assert not list(tmp_path.glob("*"))


def test_an_interrupted_check_leaves_no_list(mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from debiasctl.data import checking

    def interrupted(*arguments: Any, **options: Any) -> Any:
        yield from ()
        raise KeyboardInterrupt

    monkeypatch.setattr(checking, "problems_of", interrupted)
    assert debiasctl("datasets", "check", str(mixed), "--out", str(tmp_path / "found.csv")).code == 130
    assert not list(tmp_path.glob("*found*"))


# ---------------------------------------------------------------- show


def test_show_says_what_a_folder_holds(mixed: Path, tmp_path: Path) -> None:
    outcome = debiasctl("datasets", "show", str(mixed), "--out", str(tmp_path / "grid.png"), "--json")
    assert outcome.code == 0
    report = json.loads(outcome.out)
    assert [one["name"] for one in report["classes"]] == ["a", "b"]
    assert sum(one["train"] for one in report["classes"]) == report["num_train"]
    assert report["stored_sizes"] == [{"width": SIZE, "height": SIZE, "images": 9}]
    loaded = dataset("folder", mixed).load(DataLocation(None, tmp_path / "cache"))
    assert report["content_hash"] == loaded.content_hash
    values = loaded.train.images(torch.arange(len(loaded.train))).double() / 255
    assert report["mean"] == pytest.approx(values.mean((0, 2, 3)).tolist(), rel=1e-12)
    assert report["std"] == pytest.approx(values.std((0, 2, 3), correction=0).tolist(), rel=1e-9)
    assert Image.open(tmp_path / "grid.png").width > SIZE


@pytest.mark.parametrize(
    "given",
    [
        (".",),
        ("../set", "--out", "a/x.png"),
        ("folder:path=../link", "--out", "x.png"),
        ("folder:path=~", "--out", "x.png"),
    ],
)
def test_a_picture_is_not_put_among_the_images(
    given: tuple[str, ...], mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to("set")
    monkeypatch.setenv("HOME", str(mixed))
    monkeypatch.chdir(mixed)
    outcome = debiasctl("datasets", "show", *given)
    assert outcome.code == 2
    assert "would lie in the data set's folder, and be one of its images. Give a file elsewhere" in outcome.err
    assert len(list(mixed.rglob("*.png"))) == 9


def test_show_brings_images_of_different_sizes_to_one(mixed: Path, tmp_path: Path) -> None:
    (mixed / "a" / "wide.png").write_bytes(data(picture(size=(30, 20))))
    outcome = debiasctl("datasets", "show", str(mixed), "--out", str(tmp_path / "grid.png"))
    assert outcome.code == 0
    assert "the images are not square and of one size: they are shown at --image-size 16" in outcome.err
    assert "16x16 (9), 30x20 (1)" in outcome.out
