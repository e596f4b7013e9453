"""Members of zips, read up to their stated size, which is checked against what the file and the machine can hold."""

import zipfile
import zlib
from typing import IO

from debiasctl.wording import format_bytes, quoted

# what a damaged zip, or a damaged array in one, makes zipfile and numpy raise
UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    OverflowError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)
PACKED_LIMIT = 512 * 2**20  # bytes from which the ratio of a packed member matters
MAX_RATIO = 200  # of its size to its packed size; photographs reach 2, and a zip bomb 1,000
_ENCRYPTED = 0x1  # bit of a member's flags
BLOCK = 2**20  # bytes unpacked at once
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def check_member(member: zipfile.ZipInfo, *, limit: int | None = None, packed: bool = False) -> None:
    """Check a member before anything of it is unpacked; `packed` allows any size of what is read block by block.

    Raises:
        ValueError: if it is encrypted, packed by another method than deflate, larger than `limit` bytes, or a bomb.
    """
    name = quoted(member.filename)
    if member.flag_bits & _ENCRYPTED:
        raise ValueError(f"{name} in it is encrypted. Unpack it with its password, and pack it again without")
    if member.compress_type not in _METHODS:
        raise ValueError(f"{name} in it is packed by method {member.compress_type}; only deflate and none are read")
    if limit is not None and member.file_size > limit:
        raise ValueError(
            f"{name} in it has {format_bytes(member.file_size)}, and at most {format_bytes(limit)} are read"
        )
    if not packed and member.file_size > max(PACKED_LIMIT, MAX_RATIO * member.compress_size):
        raise ValueError(
            f"{name} in it takes {format_bytes(member.compress_size)} and unpacks to {format_bytes(member.file_size)}, "
            "as no images do"
        )


def packing_problem(stream: IO[bytes]) -> str | None:
    """Why a zip of stored members, as torch.save writes it, would be unpacked to more than the file holds, or None.

    Raises:
        one of UNREADABLE: if it is no whole zip.
    """
    with zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        return "its parts are packed, which torch.save does not do"
    if sum(member.file_size for member in members) > stream.seek(0, 2):
        return "its parts state more bytes than the file has"
    return None


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, *, limit: int) -> bytes:
    """Read a whole member of at most `limit` bytes, whose checksum is verified.

    Raises:
        one of UNREADABLE: if `check_member` refuses it, or it is damaged.
    """
    check_member(member, limit=limit)
    with archive.open(member) as stream:
        return read_exactly(stream, member.file_size, at_end=True)


def read_exactly(stream: IO[bytes], count: int, *, at_end: bool = False) -> bytes:
    """Read `count` bytes in blocks, because zipfile unpacks as much as it is asked for; `at_end`: and nothing follows.

    Raises:
        EOFError: if the stream ends earlier; ValueError: if it should end there and does not.
    """
    parts, left = [], count
    while left:
        part = stream.read(min(BLOCK, left))
        if not part:
            raise EOFError("it ends too early")
        parts.append(part)
        left -= len(part)
    if at_end and stream.read(1):  # at its end, zipfile compares the checksum
        raise ValueError("it is longer than it states")
    return b"".join(parts)
