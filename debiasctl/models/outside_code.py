"""Code outside plugins that networks run: what a command here named, not what a run or a file from elsewhere names."""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

from debiasctl import paths
from debiasctl.api import Backbone
from debiasctl.errors import ModelError
from debiasctl.files import content_key, write_json
from debiasctl.specs.files import merge
from debiasctl.specs.sections import RunSpec

_FOLDER = "trusted-code"  # in the user's data folder, with a file for each call of code that was named here
_PLACE, _CONTENT = "folder", "sha256"  # the options of a backbone that say where its code is, and what it was


def trust(spec: RunSpec) -> None:
    """Note that the user has named the code that the network of a spec runs, if it runs any."""
    for key in _keys(spec, spec.model.backbone.create("backbones")):
        path = paths.home() / _FOLDER / f"{key}.json"
        if not path.is_file():
            write_json(path, {"code": str(spec.model.backbone.ref)})


def trust_named(spec: RunSpec, layers: Sequence[Mapping[str, Any]], file: Mapping[str, Any] | None) -> None:
    """Trust a spec's code if the command's own settings, the `layers`, name its whole backbone, not a `file` alone."""
    asked = _backbone(reduce(merge, layers, {}))
    named = isinstance(asked, str) or (isinstance(asked, Mapping) and "name" in asked)
    if named and _backbone(reduce(merge, layers, dict(file or {}))) == asked:
        trust(spec)


def trusted_backbone(spec: RunSpec) -> Backbone:
    """The backbone of a spec.

    Raises:
        ModelError: if its network runs code that nobody has named here.
    """
    backbone: Backbone = spec.model.backbone.create("backbones")
    keys = _keys(spec, backbone)
    if keys and not any((paths.home() / _FOLDER / f"{key}.json").is_file() for key in keys):
        where = "run comes from elsewhere" if spec.content is not None else "settings come from a file"
        raise ModelError(
            f"the network is code, {spec.model.backbone.ref}, which would run in this process. The {where}, and the "
            "code may do anything. If you trust it, name it yourself by adding the model again, after which it can be "
            "used here too: debiasctl runs add-model --help"
        )
    return backbone


def _backbone(settings: Mapping[str, Any]) -> Any:
    model = settings.get("model")
    return model.get("backbone") if isinstance(model, Mapping) else None


def _keys(spec: RunSpec, backbone: Backbone) -> list[str]:
    """The names of the call by its place, whatever the file there holds, and by its content, wherever it is."""
    code = backbone.code_sha256()
    if code is None:
        return []
    chosen = spec.model.backbone
    plain = {name: value for name, value in chosen.options.items() if name not in (_PLACE, _CONTENT)}
    by_place = {"backbone": chosen.name, "options": {**plain, _PLACE: chosen.options.get(_PLACE)}}
    return [content_key(by_place), content_key({"backbone": chosen.name, "options": plain, "code": code})]
