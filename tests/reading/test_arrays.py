"""Archives and arrays are bounded by what they state and by what they hold."""

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from debiasctl.builtin.datasets._support import image_decoding, image_files
from debiasctl.builtin.datasets._support.idx import read_idx
from debiasctl.builtin.datasets._support.image_decoding import UnreadableImageError, read_header
from debiasctl.builtin.datasets._support.image_files import ZipSource
from debiasctl.builtin.datasets._support.image_reading import Unreadable, each_file
from debiasctl.builtin.datasets._support.npz_images import read_npz
from debiasctl.errors import ArchiveError, DataError, EvaluationError
from debiasctl.evaluation.reference.statistics_file import read_statistics
from debiasctl.reading import zips
from debiasctl.reading.arrays import UNREADABLE, open_npz
from debiasctl.runs.archive import import_run
from debiasctl.sampling.image_files import count_images


def npy(shape: Any, descr: Any = "|u1", data: bytes = b"", *, fortran: Any = False) -> bytes:
    """An array's file with any header."""
    header = repr({"descr": descr, "fortran_order": fortran, "shape": shape}).encode("latin-1") + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def npz(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return path


HOSTILE_ARRAYS = {
    "10^12 images": npy((10**12, 8, 8, 3)),
    "huge in every dimension": npy((2**40, 2**40, 2**40)),
    "a negative size": npy((-1, 8, 8, 3)),
    "a size that is no number": npy(("x", 8)),
    "true for a size": npy((True, 8)),
    "no tuple": npy(5),
    "40 dimensions": npy((1,) * 40, data=b"\0"),
    "objects": npy((2,), descr="|O", data=b"cos\nsystem\n(S'true'\ntR." * 2),
    "a structure with objects": npy((1,), descr=[("a", "|O")]),
    "a structure": npy((1,), descr=[("a", "<i4"), ("b", "<i4")], data=bytes(8)),
    "an unknown type": npy((1,), descr="<zz9"),
    "a type without size": npy((10**9,), descr="|V0"),
    "an order that is none": npy((1,), data=b"\0", fortran="yes"),
    "a header that is no literal": b"\x93NUMPY\x01\x00" + struct.pack("<H", 12) + b"__import__()",
    "a deep header": b"\x93NUMPY\x01\x00" + struct.pack("<H", 9_000) + b"(" * 9_000,
    "a header of escapes": b"\x93NUMPY\x01\x00" + struct.pack("<H", 20) + b"{'descr':'\\N{', }\n\n\n",
    "a header of 4 GB": b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1),
    "another version": b"\x93NUMPY\x09\x00" + bytes(100),
    "too few bytes": npy((2, 8, 8), data=bytes(100)),
    "too many bytes": npy((2, 8, 8), data=bytes(200)),
    "text": b"no array at all",
    "nothing": b"",
}


@pytest.mark.parametrize("what", HOSTILE_ARRAYS)
def test_hostile_arrays_are_refused_by_every_reader(tmp_path: Path, what: str) -> None:
    array = HOSTILE_ARRAYS[what]
    with pytest.raises(UNREADABLE), open_npz(npz(tmp_path / "a.npz", x=array)) as archive:
        archive.read("x")
    with pytest.raises(DataError, match=r"^[^\n]{1,500}$"):
        read_npz(npz(tmp_path / "b.npz", images=array))
    with pytest.raises(EvaluationError, match=r"^[^\n]{1,500}$"):
        read_statistics(npz(tmp_path / "c.npz", mu=array, sigma=array))
    with pytest.raises(UNREADABLE):
        count_images(npz(tmp_path / "d.npz", images=array))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["u1", "<i8", ">f4", "<f8", "?", "<U3", "S2"])
def test_honest_arrays_are_read_as_numpy_reads_them(tmp_path: Path, order: Any, dtype: str) -> None:
    written = np.asarray(np.arange(24).reshape(2, 3, 4), dtype=dtype, order=order)
    np.savez_compressed(tmp_path / "x.npz", a=written, b=np.array(7), c=np.zeros((0, 5)))
    with open_npz(tmp_path / "x.npz") as archive:
        assert archive.names == ["a", "b", "c"]
        np.testing.assert_array_equal(archive.read("a"), written)
        assert archive.read("a").dtype == written.dtype
        assert archive.read("b") == 7
        assert archive.read("c").shape == (0, 5)


def test_an_array_that_unpacks_to_far_more_than_it_takes_is_a_bomb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(tmp_path / "x.npz", images=np.zeros((1000, 8, 8, 1), np.uint8))
    assert len(read_npz(tmp_path / "x.npz")[0]) == 1000
    monkeypatch.setattr(zips, "PACKED_LIMIT", 10_000)
    with pytest.raises(DataError, match=r"unpacks to 0\.1 MB, as no images do"):
        read_npz(tmp_path / "x.npz")


def test_a_member_that_states_less_than_it_holds_is_not_unpacked_beyond_that(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, images=np.zeros((100, 8, 8, 1), np.uint8))
    data = bytearray(path.read_bytes())
    for marker, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):  # the size when unpacked
        place = data.index(marker) + offset
        data[place : place + 4] = struct.pack("<I", 200)
    path.write_bytes(data)
    with pytest.raises(DataError, match="cannot be read as an npz"):
        read_npz(path)


def encrypt(data: bytes) -> bytes:
    changed = bytearray(data)
    for marker, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        changed[changed.index(marker) + offset] |= 1
    return bytes(changed)


@pytest.mark.parametrize(
    "method, change, message",
    [
        (zipfile.ZIP_BZIP2, bytes, "packed by method 12"),
        (zipfile.ZIP_LZMA, bytes, "packed by method 14"),
        (zipfile.ZIP_STORED, encrypt, "is encrypted"),
        (zipfile.ZIP_STORED, lambda data: data[:-30], "cannot be read as an npz"),
    ],
)
def test_members_that_are_not_read(tmp_path: Path, method: int, change: Callable[[bytes], bytes], message: str) -> None:
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("images.npy", npy((1, 8, 8, 1), data=bytes(64)))
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=message):
        read_npz(path)


def test_an_image_of_a_zip_has_a_largest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(100_000))
    monkeypatch.setattr(image_files, "LARGEST", 50_000)
    source = ZipSource(tmp_path / "x.zip")
    (found,) = each_file(source, source.files, lambda stream: stream.read())
    assert isinstance(found, Unreadable)
    assert "at most 0.1 MB are read" in found.reason


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
def test_an_image_of_too_many_pixels_is_refused_by_its_header(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    from PIL import Image

    file = io.BytesIO()
    Image.new("L", (40, 30)).save(file, kind)
    assert read_header(file).width == 40
    monkeypatch.setattr(image_decoding, "MAX_PIXELS", 1_199)
    with pytest.raises(UnreadableImageError, match="it has 40 x 30 pixels, and at most 1,199"):
        read_header(file)


def test_a_format_that_pillow_hands_to_a_program_is_no_image() -> None:
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(UnreadableImageError, match="not an image that can be read"):
        read_header(io.BytesIO(program))


@pytest.mark.parametrize("packed", [False, True])
def test_an_idx_file_is_read_up_to_what_it_states(tmp_path: Path, packed: bool) -> None:
    header = struct.pack(">4B3I", 0, 0, 8, 3, 2**31, 2**31, 2**31)
    path = tmp_path / "x-idx3-ubyte"
    path.write_bytes(gzip.compress(header) if packed else header)
    with pytest.raises(DataError, match="its header states 9,903,520,314,283,042,199,192,993,792 bytes"):
        read_idx(path, ndim=3)
    longer = struct.pack(">4B3I", 0, 0, 8, 3, 1, 2, 2) + bytes(10_000)
    path.write_bytes(gzip.compress(longer) if packed else longer)
    with pytest.raises(DataError, match="states 1x2x2 bytes, but more than 4 follow"):
        read_idx(path, ndim=3)


# ---------------------------------------------------------------- statistics


def statistics(**changes: Any) -> dict[str, Any]:
    return {"mu": np.zeros(3), "sigma": np.eye(3)} | changes


@pytest.mark.parametrize(
    "arrays, message",
    [
        (statistics(debiasctl=np.array("[]")), "debiasctl is not a JSON object"),
        (statistics(debiasctl=np.array("[" * 5_000)), "nested too deeply"),
        (statistics(debiasctl=np.array(3)), "not text"),
        (statistics(debiasctl=np.array(["{}", "{}"])), "not text"),
        (statistics(mu=np.full(3, 1e200)), "values of size 1e\\+200"),
        (statistics(sigma=np.eye(3) * 1e40), "values of size 1e\\+20"),
        (statistics(mu=np.array([0, np.nan, 0])), "NaN or infinity"),
        (statistics(sigma=np.eye(3) + np.triu(np.ones((3, 3)), 1)), "not symmetric"),
        (statistics(sigma=np.diag([1.0, 1.0, -1.0])), "has the eigenvalue -1"),
        (statistics(sigma=-np.eye(3)), "has the eigenvalue -1"),
        (statistics(sigma=np.eye(4)), "are not a mean"),
        (statistics(mu=np.zeros((3, 1))), "are not a mean"),
        (statistics(mu=np.zeros(3, complex)), "not real numbers"),
        (statistics(sigma=np.eye(3, dtype=bool)), "not real numbers"),
        (statistics(mu_s=np.zeros(2), sigma_s=-np.eye(2)), "sigma_s has the eigenvalue"),
    ],
)
def test_statistics_that_are_none(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(EvaluationError, match=message):
        read_statistics(tmp_path / "x.npz")


def test_a_covariance_without_variance_is_one(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **statistics(sigma=np.zeros((3, 3))))
    assert read_statistics(tmp_path / "x.npz").covariance.sum() == 0


# ---------------------------------------------------------------- tars


def header(name: str, size: int, kind: bytes) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "data",
    [
        header("a", 2**40, tarfile.GNUTYPE_LONGNAME),
        header("a", 2**40, tarfile.XHDTYPE),
        header("a", 2**40, tarfile.XGLTYPE),
        header("a/spec.json", 2**40, tarfile.REGTYPE),
        b"".join(header("a", 512, tarfile.GNUTYPE_LONGNAME) + b"b" * 511 + b"\0" for _ in range(2_000)),
        header("a", 512, tarfile.XHDTYPE) + b"99999999999999999999 path=b\n".ljust(512, b"\0"),
        header("a", -1 & 0o77777777777, tarfile.REGTYPE),
        b"\xff" * 512,
    ],
)
def test_headers_of_a_tar_are_not_believed(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "run.tar").write_bytes(data + bytes(1024))
    with pytest.raises(ArchiveError, match=r"^[^\n]{1,600}$"):
        import_run(tmp_path / "run.tar")
