import json
import subprocess
import sys
from pathlib import Path

import pytest

from debiasctl import registry
from debiasctl.errors import (
    PluginConflictError,
    PluginError,
    PluginLoadError,
    PluginOptionsError,
    ReferenceSyntaxError,
    UnknownPluginError,
    UsageError,
)
from debiasctl.registry.refs import PluginRef

GOOD = '''
"""A third party's module."""
from pydantic import Field, PositiveFloat
from debiasctl.api import PluginOptions, Weighting

class Power(Weighting):
    """SNR^-power on eps."""
    space = "eps"
    class Options(PluginOptions):
        """Its options."""
        power: PositiveFloat = Field(0.5, description="exponent")
        flag: bool = Field(False, description="unused")
    def __call__(self, snr):
        return snr ** -self.options.power
'''


def install(folder: Path, name: str, *, module: str, source: str, plugins: dict[str, str], kind: str = "weightings"):
    """Lay out a distribution as pip would: a module and its metadata."""
    folder.mkdir(exist_ok=True)
    (folder / f"{module}.py").write_text(source)
    metadata = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{plugin} = {module}:{target}" for plugin, target in plugins.items()]
    (metadata / "entry_points.txt").write_text("\n".join([f"[debiasctl.{kind}]", *lines, ""]))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    install(folder, "good-package", module="good_third_party", source=GOOD, plugins={"power": "Power"})
    yield folder
    for path in folder.glob("*.py"):
        sys.modules.pop(path.stem, None)


def test_a_third_partys_plugin_is_found_loaded_and_made(site: Path) -> None:
    record = registry.find("weightings", "power")
    assert record == registry.PluginRecord("weightings", "power", "good_third_party:Power", "good-package", "1.0")
    assert record in registry.records("weightings")
    assert "good_third_party" not in sys.modules  # found by its metadata alone
    resolved = registry.resolve("weightings", "power:power=0.25,flag=true")
    assert resolved.record == record
    assert resolved.options.model_dump() == {"power": 0.25, "flag": True}
    plugin = registry.create("weightings", "power:power=0.25")
    assert type(plugin) is resolved.plugin
    assert plugin(16.0) == 0.5


@pytest.mark.parametrize(
    "value",
    [
        "power:power=2",
        PluginRef("power", {"power": "2"}),
        {"name": "power", "options": {"power": 2}},
    ],
)
def test_a_reference_may_be_text_or_parts(site: Path, value: object) -> None:
    assert registry.resolve("weightings", value).options.power == 2


def test_defaults_fill_what_is_not_given(site: Path) -> None:
    assert registry.resolve("weightings", {"name": "power"}).options.model_dump() == {"power": 0.5, "flag": False}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("power:powr=2", ["weighting 'power'", "unknown option 'powr'", "Did you mean 'power'?", "Known: power, flag"]),
        ("power:power=-1", ["power: input should be greater than 0 (given: -1)"]),
        ("power:power=inf", ["power: input should be a finite number (given: inf)"]),
        (
            "power:power=much,flag=maybe",
            ["power: input should be a valid number", "flag: input should be a valid bool"],
        ),
        ("constant:gamma=5", ["unknown option 'gamma'. It takes no options."]),
    ],
)
def test_options_that_do_not_fit(site: Path, text: str, parts: list[str]) -> None:
    with pytest.raises(PluginOptionsError) as caught:
        registry.resolve("weightings", text)
    for part in [*parts, f"debiasctl plugins describe weightings {text.partition(':')[0]}"]:
        assert part in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("shift", "message"),
    [
        ("-1", "schedule 'flow': shift: input should be greater than 0, or 'auto' (given: -1)\n"),
        ("nan", "shift: input should be a finite number, or 'auto' (given: nan)\n"),
        ("Auto", "shift: input should be a valid number, or 'auto' (given: Auto). Did you mean 'auto'?\n"),
    ],
)
def test_an_option_of_several_types_is_refused_once(shift: str, message: str) -> None:
    with pytest.raises(PluginOptionsError) as caught:
        registry.resolve("schedules", f"flow:shift={shift}")
    assert message in str(caught.value)


def test_a_reference_that_cannot_be_read() -> None:
    with pytest.raises(ReferenceSyntaxError):
        registry.resolve("weightings", "p2:k")


BEGINNING = "from debiasctl.api import Weighting\nclass Broken(Weighting):"
METHOD = "\n    def __call__(self, snr): return snr"
BROKEN = {
    "missing-module": (
        "import a_module_that_is_not_there",
        "Broken",
        "ModuleNotFoundError: No module named 'a_module_th",
    ),
    "syntax": ("class Broken(:", "Broken", "SyntaxError"),
    "crash": ("raise RuntimeError('the licence has expired')", "Broken", "RuntimeError: the licence has expired"),
    "exits": ("raise SystemExit(3)", "Broken", "SystemExit: 3"),
    "no-attribute": ("x = 1", "Broken", "AttributeError"),
    "not-a-class": ("def broken(): 'doc'", "broken", "is not a class"),
    "no-subclass": (
        "class Broken:\n    'doc'",
        "Broken",
        ":Broken is not a Weighting. It should begin:\n"
        "  from debiasctl.api import Weighting\n\n  class Broken(Weighting):",
    ),
    "other-kind": (
        "from debiasctl.api import Sampler\nclass Broken(Sampler): 'doc'",
        "Broken",
        ":Broken is not a Weighting. It should begin:",
    ),
    "no-docstring": (
        f"{BEGINNING}\n    space = 'eps'{METHOD}",
        "Broken",
        ":Broken has no docstring. Its first line says what it is:\n  class Broken(Weighting):\n",
    ),
    "no-space": (
        f"{BEGINNING}\n    'doc'{METHOD}",
        "Broken",
        ':Broken lacks space. It should have:\n  space = "eps"  # or "x0" or "v" or "flow"\n'
        "See: debiasctl.api.Weighting",
    ),
    "nothing": (
        f"{BEGINNING} 'doc'",
        "Broken",
        ":Broken lacks __call__, space. It should have:\n"
        '  def __call__(self, snr):\n  space = "eps"  # or "x0" or "v" or "flow"\nSee: debiasctl.api.Weighting',
    ),
    "other-options": (
        f"{BEGINNING}\n    'doc'\n    space = 'eps'\n    class Options: pass{METHOD}",
        "Broken",
        ":Broken needs its Options to begin: class Options(PluginOptions):",
    ),
    "options-made": (
        f"from debiasctl.api import PluginOptions\n{BEGINNING}\n    'doc'\n    space = 'eps'\n"
        f"    Options = PluginOptions(){METHOD}",
        "Broken",
        ":Broken needs its Options to begin: class Options(PluginOptions):",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_is_reported_and_harms_no_other(site: Path, case: str) -> None:
    source, target, cause = BROKEN[case]
    install(site, "bad-package", module=f"broken_third_party_{case.replace('-', '_')}", source=source,
            plugins={"bad": target})  # fmt: skip
    assert {"bad", "power", "debiased"} <= {record.name for record in registry.records("weightings")}
    with pytest.raises(PluginLoadError) as caught:
        registry.resolve("weightings", "bad")
    for part in ("weighting 'bad' of bad-package 1.0", cause):
        assert part in str(caught.value)
    assert caught.value.exit_code == 1
    assert registry.create("weightings", "power")(4.0) == 0.5
    assert registry.load("weightings", "debiased").__name__ == "Debiased"


def test_a_kinds_own_options_are_asked_for(site: Path) -> None:
    source = """
from debiasctl.api import PluginOptions, Schedule
class Flat(Schedule):
    'doc'
    class Options(PluginOptions): pass
    def alphas_cumprod(self): pass
"""
    install(site, "bad-package", module="flat_schedule", source=source, plugins={"flat": "Flat"}, kind="schedules")
    with pytest.raises(PluginLoadError, match=r"needs its Options to begin: class Options\(ScheduleOptions\):"):
        registry.load("schedules", "flat")


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("u.float()", r"returned float32 \[10\] in place of log SNR for each u, float64 \[10\]"),
        ("u * float('nan')", "returned NaN for a u in"),
        ("u", "must fall strictly from below 1 to 0 or above"),
    ],
)
def test_a_function_of_a_schedule_is_checked(site: Path, returned: str, message: str) -> None:
    from debiasctl.diffusion.process import process_of

    source = f"""
from debiasctl.api import Schedule
class Curve(Schedule):
    'doc'
    def log_snr(self, u): return {returned}
"""
    name = f"curve_{abs(hash(returned))}"
    install(site, "bad-package", module=name, source=source, plugins={"curve": "Curve"}, kind="schedules")
    with pytest.raises(PluginError, match=message):
        process_of(registry.create("schedules", "curve:num_timesteps=10"))


@pytest.mark.parametrize("kind", [kind for kind in registry.KINDS if kind != "commands"])
def test_every_kind_has_a_base_that_says_what_is_missing(site: Path, kind: str) -> None:
    base = registry.base_of(kind)
    source = f"from debiasctl.api import {base.__name__}\nclass Bare({base.__name__}): 'doc'"
    module = f"bare_{kind}"
    install(site, "bare-package", module=module, source=source, plugins={"bare": "Bare"}, kind=kind)
    if kind == "extensions":  # whose methods all have defaults
        assert type(registry.create(kind, "bare")).__mro__[1:3] == (sys.modules[module].Bare, base)
        return
    with pytest.raises(PluginLoadError) as caught:
        registry.load(kind, "bare")
    missing = ", ".join(sorted(base.__abstractmethods__))
    message = str(caught.value)
    assert f"'bare' of bare-package 1.0: {module}:Bare lacks {missing}. It should have:\n  " in message
    assert message.endswith(f"\nSee: debiasctl.api.{base.__name__}")
    if kind == "samplers":
        assert "\n  def __call__(self, denoiser, x, *, num_steps, noise, labels=None, on_step=None):\n" in message


def test_two_distributions_that_claim_one_name(site: Path) -> None:
    install(
        site, "rival-package", module="rival_third_party", source=GOOD, plugins={"power": "Power", "debiased": "Power"}
    )
    for name, rivals in (
        ("power", ("good-package 1.0", "rival-package 1.0")),
        ("debiased", ("debiasctl ", "rival-package 1.0")),
    ):
        with pytest.raises(PluginConflictError) as caught:
            registry.load("weightings", name)
        for part in (f"weighting '{name}'", *rivals, "pip uninstall"):
            assert part in str(caught.value)
    names = [record.name for record in registry.records("weightings")]
    assert names.count("power") == names.count("debiased") == 2
    assert registry.load("weightings", "p2").__name__ == "P2"


def test_one_distribution_seen_twice_is_no_conflict(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = tmp_path / "again"
    install(again, "good-package", module="good_third_party", source=GOOD, plugins={"power": "Power"})
    monkeypatch.syspath_prepend(again)
    assert registry.find("weightings", "power").distribution == "good-package"


@pytest.mark.parametrize(
    ("kind", "name", "parts"),
    [
        ("weightings", "debias", ["unknown weighting 'debias'", "Did you mean 'debiased'?", "plugins list weightings"]),
        ("datasets", "cifar", ["unknown dataset 'cifar'", "Did you mean 'cifar10'?"]),
        ("timesteps", "unifrom", ["unknown timestep distribution 'unifrom'. Did you mean 'uniform'?"]),
        ("features", "zzz", ["unknown feature extractor 'zzz'"]),
        ("samplers", "zzz", ["unknown sampler 'zzz'. Known: ddim, ddpm"]),
        ("extensions", "rigl", ["unknown extension 'rigl'. Known: none"]),
    ],
)  # fmt: skip
def test_unknown_names(kind: str, name: str, parts: list[str]) -> None:
    with pytest.raises(UnknownPluginError) as caught:
        registry.find(kind, name)
    for part in parts:
        assert part in str(caught.value)


def test_kinds_are_named_in_singular_or_plural() -> None:
    assert {registry.kind_named(kind) for kind in registry.KINDS} == set(registry.KINDS)
    assert registry.kind_named("weighting") == "weightings"
    assert registry.kind_named("features") == registry.kind_named("feature") == "features"
    assert registry.kind_named("timestep distribution") == "timesteps"
    with pytest.raises(UsageError, match=r"unknown plugin kind 'wieghting'\. Did you mean 'weightings'"):
        registry.kind_named("wieghting")


def test_every_built_in_is_a_plugin_with_described_options() -> None:
    found = [
        record for kind in registry.KINDS if kind != "commands"
        for record in registry.records(kind) if record.distribution == "debiasctl"
    ]  # fmt: skip
    assert len(found) >= 20
    for record in found:
        plugin = registry.load(record.kind, record.name)
        for name, field in plugin.Options.model_fields.items():
            assert field.description, f"{record.name}: {name}"


RECORD_IMPORTS = """
import atexit, json, sys
arguments = json.loads(sys.argv.pop())
sys.argv[1:] = arguments["arguments"]
@atexit.register
def record():
    with open(arguments["out"], "w") as stream:
        json.dump(sorted(name for name in sys.modules if "." not in name), stream)
from debiasctl.cli.app import main
main()
"""
ARRAYS = {"torch", "numpy", "torchvision", "sklearn", "accelerate", "scipy"}


@pytest.mark.parametrize(
    ("arguments", "environment", "printed", "forbidden"),
    [
        (["--help"], {}, "plugins", ARRAYS | {"pydantic"}),
        (["--version"], {}, "debiasctl ", ARRAYS | {"pydantic"}),
        (["plugins", "list"], {}, "good-package", ARRAYS | {"good_third_party"}),
        (["runs", "list"], {}, "", ARRAYS),
        ([], {"_DEBIASCTL_COMPLETE": "complete_bash", "COMP_WORDS": "debiasctl train d", "COMP_CWORD": "2"}, "digits",
         ARRAYS | {"good_third_party"}),
        ([], {"_DEBIASCTL_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "debiasctl train digits --weighting po"},
         "power", ARRAYS | {"good_third_party"}),
    ],
    ids=["help", "version", "plugins-list", "runs-list", "complete-dataset", "complete-weighting"],
)  # fmt: skip
def test_cheap_commands_import_nothing_heavy(
    site: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    environment: dict[str, str],
    printed: str,
    forbidden: set[str],
) -> None:
    for name, value in {"PYTHONPATH": str(site), **environment}.items():
        monkeypatch.setenv(name, value)
    out = tmp_path / "modules.json"
    call = json.dumps({"arguments": arguments, "out": str(out)})
    result = subprocess.run(
        [sys.executable, "-c", RECORD_IMPORTS, call], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    assert printed in result.stdout
    imported = set(json.loads(out.read_text()))
    assert "debiasctl" in imported
    assert not imported & forbidden
