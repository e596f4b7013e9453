"""Cache folders of tensors with a manifest, made once and verified by checksum at every read."""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock
from safetensors.torch import load, save
from torch import Tensor

from debiasctl.api import write_bytes, write_json, writing

_LOG = logging.getLogger(__name__)
_TENSORS, _MANIFEST = "tensors.safetensors", "manifest.json"


def cached_tensors(
    folder: Path, make: Callable[[], tuple[Mapping[str, Tensor], Mapping[str, Any]]]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and the manifest in `folder`, made by `make` (tensors, details for the manifest) if missing.

    The manifest holds the details and `sha256` of the tensors' file. One process makes them; others wait for it.
    Damaged files are made again, with a warning. A complete folder is only read.
    """
    whole = _read(folder, warn=False)
    if whole is not None:
        return whole
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(folder.name + ".lock"))
        lock.acquire()
    try:
        found = _read(folder, warn=True)  # another process may have made them in the meantime
        if found is None:
            tensors, details = make()
            data = save({name: tensor.contiguous() for name, tensor in tensors.items()})
            manifest = {**details, "sha256": hashlib.sha256(data).hexdigest()}
            write_bytes(folder / _TENSORS, data)
            write_json(folder / _MANIFEST, manifest)
            found = load(data), manifest
    finally:
        lock.release()
    return found


def _read(folder: Path, *, warn: bool) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    if not (folder / _MANIFEST).exists():
        return None
    try:
        manifest = json.loads((folder / _MANIFEST).read_text())
        data = (folder / _TENSORS).read_bytes()
        if hashlib.sha256(data).hexdigest() == manifest["sha256"]:
            return load(data), manifest
        reason = f"{_TENSORS} does not match the manifest's checksum"
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
    if warn:
        _LOG.warning("the cached feature extractor in %s is damaged (%s); making it again", folder, reason)
    return None
