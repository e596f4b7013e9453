"""Reading files that others wrote, and writing files so that a reader sees the old content or the new, never a part.

What is read is a regular file, so that a pipe never blocks, and has a largest size.
"""

from debiasctl.files import (
    atomic_file,
    atomic_folder,
    content_key,
    made_once,
    sha256_file,
    write_bytes,
    write_json,
    writing,
)
from debiasctl.reading.documents import parse_json, read_json
from debiasctl.reading.regular import open_regular, read_bytes, read_text
from debiasctl.reading.tables import csv_rows
from debiasctl.reading.user_text import expanded, is_text
from debiasctl.reading.zips import UNREADABLE, check_member, read_member
from debiasctl.wording import one_line, quoted

__all__ = [
    "UNREADABLE",
    "atomic_file",
    "atomic_folder",
    "check_member",
    "content_key",
    "csv_rows",
    "expanded",
    "is_text",
    "made_once",
    "one_line",
    "open_regular",
    "parse_json",
    "quoted",
    "read_bytes",
    "read_json",
    "read_member",
    "read_text",
    "sha256_file",
    "write_bytes",
    "write_json",
    "writing",
]
