"""`debiasctl doctor`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from debiasctl.boundary import plugin_call
from debiasctl.cli import options
from debiasctl.cli.messages import with_options
from debiasctl.cli.output import print_json, print_pairs, print_table, print_text, say
from debiasctl.runs.parts import folder_size
from debiasctl.wording import format_bytes

EXAMPLES = """[bold]Examples[/bold]

debiasctl doctor

debiasctl doctor --json"""
_PACKAGES = ("debiasctl", "torch", "torchvision", "accelerate", "numpy", "pillow", "scikit-learn", "scipy")


def doctor(as_json: Annotated[bool, options.AS_JSON] = False) -> None:
    """Report versions, devices, folders, plugins, the weights of feature extractors, and published statistics.

    Exit code 1 if something is broken (weights that differ from the published ones or are no file, a plugin that cannot
    be loaded, a folder that cannot be written); what is only missing is listed with the place to put it.
    """
    from debiasctl import paths
    from debiasctl.evaluation.reference import clean_fid

    plugins, problems = _plugins()
    weights, wrong = _weights()
    problems += wrong
    folders = _folders()
    problems += [
        f"{one['path']} cannot be written ({one['what']}): {one['problem']}" for one in folders if one["problem"]
    ]
    report = {
        "versions": _versions(),
        "devices": _devices(),
        "folders": folders,
        "weights": weights,
        "plugins": plugins,
        "statistics": clean_fid.in_cache(paths.cache_dir()),
        "unfinished": _unfinished(),
        "problems": problems,
    }
    if as_json:
        print_json(report)
    else:
        _print(report)
    if problems:
        raise typer.Exit(1)


def _versions() -> dict[str, str]:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name) or "unknown"
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _devices() -> list[dict[str, Any]]:
    import torch

    threads = torch.get_num_threads()
    devices: list[dict[str, Any]] = [
        {"device": "cpu", "name": f"{threads} thread{'s' * (threads != 1)}", "memory": None}
    ]
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        devices.append({"device": f"cuda:{number}", "name": about.name, "memory": about.total_memory})
    return devices


def _folders() -> list[dict[str, Any]]:
    from debiasctl import paths
    from debiasctl.evaluation.reference import clean_fid
    from debiasctl.files import obstacle

    found = {"runs": paths.runs_dir(), "evaluations": paths.evaluations_dir(), "cache": paths.cache_dir()}
    found |= {
        f"cache: {name}": paths.cache_dir() / name
        for name in ("datasets", "features", "latents", "references", clean_fid.NAME)
    }
    return [
        {
            "what": what,
            "path": str(path),
            "exists": path.is_dir(),
            "writable": problem is None,
            "problem": problem,
            "bytes": folder_size(path),
        }
        for what, path, problem in ((what, path, obstacle(path)) for what, path in found.items())
    ]


def _plugins() -> tuple[list[dict[str, Any]], list[str]]:
    """Every plugin, loaded, and what is broken in one or in the metadata of a distribution."""
    from debiasctl import registry
    from debiasctl.cli.plugin_command import plugin_command
    from debiasctl.errors import DebiasctlError
    from debiasctl.registry.choices import complete
    from debiasctl.registry.describe import describe_fields
    from debiasctl.registry.refs import PluginRef

    found, problems = [], registry.metadata_notes()
    for record in (record for kind in registry.KINDS for record in registry.records(kind)):
        problem = None
        try:
            if record.kind == "commands":
                plugin_command(registry.find(record.kind, record.name))
            else:
                plugin = registry.load(record.kind, record.name)
                with plugin_call(record.origin, "Options"):
                    required = any(option.required for option in describe_fields(plugin.Options))
                if not required:
                    complete(record.kind, PluginRef(record.name))
        except DebiasctlError as error:
            problem = str(error)
            problems.append(problem)
        about = {name: getattr(record, name) for name in ("kind", "name", "distribution", "version")}
        found.append({**about, "problem": problem})
    return found, list(dict.fromkeys(problems))


def _unfinished() -> list[dict[str, Any]]:
    """What commands that were killed left in the store and the cache, and nobody has removed."""
    import os

    from debiasctl import paths, temporaries

    found: list[Path] = []
    for root in (paths.runs_dir(), paths.evaluations_dir(), paths.cache_dir()):
        for folder, inner, _ in os.walk(root):
            left = temporaries.stale(Path(folder))
            inner[:] = [name for name in inner if Path(folder, name) not in left]
            found += left
    return [
        {"path": str(path), "bytes": folder_size(path) if path.is_dir() else path.lstat().st_size} for path in found
    ]


def _weights() -> tuple[list[dict[str, Any]], list[str]]:
    """The state of each file of weights that a feature extractor names, and what is broken."""
    from debiasctl import paths, registry
    from debiasctl.api import Features
    from debiasctl.errors import DebiasctlError

    files, problems = [], []
    for record in registry.records("features"):
        try:
            plugin = registry.load("features", record.name)
        except DebiasctlError:  # told among the plugins
            continue
        assert issubclass(plugin, Features), "the registry has looked"
        for file in plugin.weights_files:
            state, found = file.state(paths.cache_dir())
            path = file.cached(paths.cache_dir())
            files.append(
                {
                    "features": record.name,
                    "network": file.network,
                    "state": state,
                    "path": str(path),
                    "url": file.url,
                    "sha256": found,
                    "sha256_expected": file.sha256,
                }
            )
            if state == "wrong" and found is not None:
                problems.append(file.mismatch(path, found))
            elif state == "blocked":
                problems.append(str(file.blocked(paths.cache_dir())))
            elif state == "unreadable":
                problems.append(f"{path} cannot be read. Change its permissions, or replace it")
    return files, problems


def _print(report: dict[str, Any]) -> None:
    print_pairs(report["versions"])
    print_table(
        ["device", "name", "memory"],
        [
            [one["device"], one["name"], "-" if one["memory"] is None else format_bytes(one["memory"])]
            for one in report["devices"]
        ],
    )
    print_table(
        ["folder", "size", "state", "path"],
        [
            [
                one["what"],
                format_bytes(one["bytes"]),
                "cannot be written" if one["problem"] else "there" if one["exists"] else "not made yet",
                one["path"],
            ]
            for one in report["folders"]
        ],
        prose=True,
    )
    print_table(
        ["features", "state", "weights"],
        [[one["features"], one["state"], one["network"]] for one in report["weights"]],
        prose=True,
    )
    others = [one for one in report["plugins"] if one["distribution"] != "debiasctl"]
    if others:
        print_table(
            ["kind", "plugin", "from", "state"],
            [
                [
                    one["kind"],
                    one["name"],
                    f"{one['distribution']} {one['version']}",
                    "loads" if one["problem"] is None else "broken",
                ]
                for one in others
            ],
        )
    for one in report["weights"]:
        if one["state"] == "missing":
            how = "fetched when first used, or put it there yourself" if one["sha256_expected"] else "put it there"
            print_text(f"{one['features']}: {how}: {one['url']}\n  -> {one['path']}")
        elif one["state"] == "unverified":
            print_text(
                f"{one['features']}: {one['path']} has SHA-256 {one['sha256']}; none is published to check it by"
            )
    if report["statistics"]:
        print_table(["statistics, as --reference names them"], [[name] for name in report["statistics"]])
    for one in report["unfinished"]:
        say(f"left unfinished by a command that was killed: {one['path']} ({format_bytes(one['bytes'])})")
    if report["unfinished"]:
        print("  the next command that writes there removes it; or remove it yourself")
    for problem in report["problems"]:
        print_text(f"broken: {with_options(problem)}")
    if not report["problems"]:
        print("nothing is broken")
