"""A folder that diffusers saved: its configurations and its tensors, of which nothing is run."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from debiasctl.api import ModelError, UsageError, read_state_dict
from debiasctl.api.files import one_line, quoted, read_text

CONFIG, SCHEDULER, INDEX = "config.json", "scheduler_config.json", "model_index.json"
_WEIGHTS = "diffusion_pytorch_model"
_ENDINGS = (".safetensors", ".bin")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_VARIANT = re.compile(
    rf"{_WEIGHTS}\.(?:(\w+)\.(?:safetensors|bin)(?:\.index\.json)?|(?:safetensors|bin)\.index\.(\w+)\.json)"
)
# attention before diffusers 0.18
_OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD = re.compile(r"(.*attentions\.\d+\.)(query|key|value|proj_attn)(\.(?:weight|bias))")


def check_folder(path: Path, given: str) -> None:
    """Check that there is such a folder.

    Raises:
        UsageError: if there is none, which a name on the Hugging Face Hub would be; nothing is downloaded.
    """
    if path.is_dir():
        return
    if path.exists():
        raise UsageError(f"diffusers: path={path} is a file. Give the folder that diffusers' save_pretrained wrote")
    if _HUB_NAME.fullmatch(given):
        raise UsageError(
            f"diffusers: there is no folder {path}. Nothing is downloaded: if {given} is a name on the Hugging Face "
            f"Hub, fetch it first (hf download {given} --local-dir FOLDER), and give path=FOLDER"
        )
    raise UsageError(f"diffusers: there is no folder {path}. Give the folder that diffusers' save_pretrained wrote")


def read_config(path: Path) -> dict[str, Any]:
    """Read a configuration, which is a mapping.

    Raises:
        ModelError: if it is missing or damaged.
    """
    try:
        found = json.loads(read_text(path))  # diffusers writes -Infinity, which JSON itself does not have
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or one_line(error)}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is damaged: {one_line(error)}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} is damaged: it holds no mapping of names to settings")
    return found


def check_components(folder: Path) -> Mapping[str, Any]:
    """The pipeline's index, empty without one, once it is known to draw images with a network and a scheduler alone.

    Raises:
        ModelError: if a part of it is custom code, or something that no run has.
    """
    if not (folder / INDEX).exists():
        return {}
    index = read_config(folder / INDEX)
    pipeline = index.get("_class_name")
    if not isinstance(pipeline, str):
        raise ModelError(
            f"{folder / INDEX} names a pipeline of custom code ({quoted(str(pipeline))}), which is never run. Add the "
            "folder of its network, if that is one of diffusers' own"
        )
    parts = {name: value for name, value in index.items() if not name.startswith("_") and isinstance(value, list)}
    for name, value in parts.items():
        library = value[0] if value else None
        if library not in (None, "diffusers", "transformers") and name in ("unet", "transformer", "scheduler", "vae"):
            raise ModelError(
                f"{folder / INDEX}: {name} is custom code ({quoted(str(library))}), which is never run. Only classes "
                "of diffusers itself are read"
            )
    for name in ("text_encoder", "tokenizer", "image_encoder", "prior", "movq", "controlnet"):
        if parts.get(name) not in (None, [None, None]):
            raise ModelError(
                f"{folder} holds a {pipeline} with {name}: its network is conditional on text or images, and runs are "
                "on classes or nothing"
            )
    for name in ("vqvae", "vqmodel", "bert"):
        if parts.get(name) not in (None, [None, None]):
            raise ModelError(
                f"{folder} holds a {pipeline} with {name}: its network draws latents of an autoencoder that is not "
                "supported; that of an AutoencoderKL is (diffusers-vae)"
            )
    return index


def read_weights(folder: Path, variant: str | None) -> tuple[dict[str, Tensor], str]:
    """The tensors in a network's folder, by today's names, and what was read.

    Without a `variant`, it is the file without one, or else the only one that there is.

    Raises:
        ModelError: if there are none, or one is damaged; UsageError: if the variant is not there, or has to be chosen.
    """
    names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    variants = sorted({found[1] or found[2] for name in names if (found := _VARIANT.fullmatch(name))})
    plain = any(f"{_WEIGHTS}{ending}{index}" in names for ending in _ENDINGS for index in ("", ".index.json"))
    if variant is None and not plain and len(variants) == 1:
        variant = variants[0]
    if variant is None and not plain and variants:
        raise UsageError(f"diffusers: {folder} holds the variants {', '.join(variants)}. Choose one: variant=NAME")
    stem = _WEIGHTS if variant is None else f"{_WEIGHTS}.{variant}"
    for ending in _ENDINGS:
        if (folder / f"{stem}{ending}").is_file():
            return _renamed(read_state_dict(folder / f"{stem}{ending}")), f"{stem}{ending}"
        for index in (f"{stem}{ending}.index.json", f"{_WEIGHTS}{ending}.index.{variant}.json"):
            if (folder / index).is_file():
                return _renamed(_sharded(folder, index)), index
    if variant is not None and (plain or variants):
        has = ", ".join([*(["none (leave variant out)"] if plain else []), *variants])
        raise UsageError(f"diffusers: {folder} holds no variant '{variant}' of its weights. It has: {has}")
    held = f"It holds {', '.join(names[:6])}" if names else "It is empty"
    raise ModelError(f"{folder} holds no {stem}.safetensors or {stem}.bin, which are the network's tensors. {held}")


def _sharded(folder: Path, index: str) -> dict[str, Tensor]:
    table = read_config(folder / index).get("weight_map")
    if not isinstance(table, dict) or not all(isinstance(name, str) for name in table.values()):
        raise ModelError(f"{folder / index} is damaged: it has no weight_map of names to files")
    found: dict[str, Tensor] = {}
    for file in sorted(set(table.values())):
        if Path(file).name != file:
            raise ModelError(f"{folder / index} names a file outside of its folder, {quoted(file)}")
        if not (folder / file).is_file():
            raise ModelError(f"{folder / file} is missing, which {index} names")
        found |= read_state_dict(folder / file)
    return found


def _renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by the names that attention has today; a position embedding, which is made again, is left out."""
    return {_today(name): tensor for name, tensor in state.items() if name != "pos_embed.pos_embed"}


def _today(name: str) -> str:
    old = _OLD.fullmatch(name)
    return name if old is None else f"{old[1]}{_OLD_NAMES[old[2]]}{old[3]}"
