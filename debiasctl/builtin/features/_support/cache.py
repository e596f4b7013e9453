"""Cache folders of tensors with a manifest, made once and verified by checksum at every read."""

import hashlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from debiasctl.api import made_once, write_bytes, write_json
from debiasctl.api.files import one_line, read_bytes, read_json

_LOG = logging.getLogger(__name__)
_LARGEST = 2**31  # bytes of the tensors
_TENSORS, _MANIFEST = "tensors.safetensors", "manifest.json"


def cached_tensors(
    folder: Path, make: Callable[[], tuple[Mapping[str, Tensor], Mapping[str, Any]]]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and the manifest in `folder`, made by `make` (tensors, details for the manifest) if missing.

    The manifest holds the details and `sha256` of the tensors' file. One process makes them; others wait for it.
    Damaged files are made again, with a warning. A complete folder is only read.
    """
    damage: list[str] = []

    def find() -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        found = _read(folder)
        if isinstance(found, str):
            damage.append(found)
            return None
        return found

    def make_and_write() -> tuple[dict[str, Tensor], dict[str, Any]]:
        if damage:
            _LOG.warning("the cached feature extractor in %s is damaged (%s); making it again", folder, damage[-1])
        tensors, details = make()
        data = save({name: tensor.contiguous() for name, tensor in tensors.items()})
        manifest = {**details, "sha256": hashlib.sha256(data).hexdigest()}
        write_bytes(folder / _TENSORS, data)
        write_json(folder / _MANIFEST, manifest)
        return load(data), manifest

    return made_once(folder, find=find, make=make_and_write)


def _read(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | str | None:
    """What the folder holds; None if that is nothing, or what is wrong with it."""
    if not (folder / _MANIFEST).exists():
        return None
    try:
        manifest = read_json(folder / _MANIFEST)
        data = read_bytes(folder / _TENSORS, limit=_LARGEST)
        if hashlib.sha256(data).hexdigest() == manifest["sha256"]:
            return load(data), manifest
        return f"{_TENSORS} does not match the manifest's checksum"
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        return f"{type(error).__name__}: {one_line(error)}"
