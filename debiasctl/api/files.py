"""Writing files so that a reader sees the old content or the new, never a part; and hashing them."""

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

__all__ = [
    "atomic_file",
    "atomic_folder",
    "content_key",
    "made_once",
    "sha256_file",
    "write_bytes",
    "write_json",
    "writing",
]
