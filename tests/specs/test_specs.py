import json
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from debiasctl import registry
from debiasctl.api import DataLocation, DatasetInfo
from debiasctl.errors import (
    PluginError,
    PluginOptionsError,
    ReferenceSyntaxError,
    RunError,
    SpecError,
    UnknownPluginError,
    UsageError,
)
from debiasctl.registry.choices import PluginChoice, with_nested
from debiasctl.registry.refs import PluginRef
from debiasctl.specs.files import merge, parse_setting, read_spec_file
from debiasctl.specs.recorded import ContentSection, ProvenanceSection
from debiasctl.specs.resolve import load_stored_spec, resolve_spec, validate_spec
from debiasctl.specs.section import Section
from debiasctl.specs.sections import DecayEMA, PowerEMA, RunSpec, plugin_settings

DIGITS = {"data": {"dataset": "digits"}}
PLAIN_DATA = {"data": {"dataset": "plain"}}
BARE_DATA = {"data": {"dataset": "bare:size=32"}}

SOURCE = '''
from pydantic import Field
from debiasctl.api import Dataset, DatasetInfo, PluginOptions

class Plain(Dataset):
    """A data set without classes, and with an option that its recommendations depend on."""
    class Options(PluginOptions):
        """Its options."""
        size: int = Field(8, ge=4, description="height and width")
    def info(self, location):
        return DatasetInfo(self.options.size, 3, (), 100, 10)
    def recommended(self, location):
        return {
            "training": {"steps": 10 * self.options.size},
            "model": {"backbone": "dit:depth=3"},
            "optimizer": {"lr": 0.003},
        }
    def load(self, location):
        raise AssertionError("resolving a spec reads no images")

class Bare(Plain):
    """Recommends nothing."""
    def recommended(self, location):
        return {}

class Fond(Plain):
    """Recommends what has an effect only beside settings that it does not name."""
    def recommended(self, location):
        return {
            "monitor": {"num": 8},
            "model": {"label_dropout": 0.1, "sigma_data": 1.0},
            "loss": {"variance_weight": 1.0},
            "ema": {"lengths": [0.2]},
        }

class Averaging(Plain):
    """Recommends averages of another kind than the default."""
    def recommended(self, location):
        return {"ema": {"kind": "power", "lengths": [0.1]}}

class Careless(Plain):
    """Recommends what no spec has."""
    def recommended(self, location):
        return {"trainng": {"steps": 1}}
'''


@pytest.fixture(autouse=True)
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    site = tmp_path / "site"
    metadata = site / "plain_data-2.5.dist-info"
    metadata.mkdir(parents=True)
    (site / "plain_data_set.py").write_text(SOURCE)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: plain-data\nVersion: 2.5\n")
    (metadata / "entry_points.txt").write_text(
        "[debiasctl.datasets]\nplain = plain_data_set:Plain\n"
        "bare = plain_data_set:Bare\nfond = plain_data_set:Fond\ncareless = plain_data_set:Careless\n"
        "averaging = plain_data_set:Averaging\n"
    )
    monkeypatch.syspath_prepend(site)
    yield
    sys.modules.pop("plain_data_set", None)


@pytest.fixture
def location(tmp_path: Path) -> DataLocation:
    return DataLocation(None, tmp_path / "cache")


def resolve(location: DataLocation, *layers: dict[str, Any]) -> RunSpec:
    return resolve_spec(layers, location)[0]


# ---------------------------------------------------------------- layers


def test_later_layers_win(location: DataLocation, tmp_path: Path) -> None:
    """Defaults, then the data set's recommendations, then the layers given: a spec file, --set, flags."""
    defaults, bare, plain = validate_spec(DIGITS), resolve(location, BARE_DATA), resolve(location, PLAIN_DATA)
    for section in ("training", "optimizer", "ema"):
        assert getattr(bare, section) == getattr(defaults, section)
    for spec in (defaults, bare):
        assert (spec.model.backbone.name, spec.loss.weighting.name) == ("unet", "debiased")
    assert (plain.training.steps, plain.optimizer.lr) == (80, 0.003)
    assert (plain.model.backbone.name, plain.model.backbone.options["depth"]) == ("dit", 3)
    assert plain.optimizer.eps == defaults.optimizer.eps  # only the defaults speak of it

    (tmp_path / "spec.yaml").write_text("training: {steps: 11, batch_size: 12, seed: 13}\nema: {decay: 0.5}\n")
    file = read_spec_file(tmp_path / "spec.yaml")
    setting = parse_setting("training.batch_size=22"), parse_setting("training.seed=23")
    flag = {"training": {"seed": 33}}
    spec = resolve(location, file, *setting, flag, PLAIN_DATA)
    assert spec.training.model_dump(include={"steps", "batch_size", "seed"}) == {
        "steps": 11, "batch_size": 22, "seed": 33,
    }  # fmt: skip
    assert spec.ema.decay == 0.5
    assert spec.optimizer.lr == 0.003


def test_the_recommendations_follow_the_data_sets_own_options(location: DataLocation) -> None:
    spec, info = resolve_spec([{"data": {"dataset": "plain:size=12"}}], location)
    assert spec.training.steps == 120
    assert info == DatasetInfo(12, 3, (), 100, 10)
    layered = resolve(location, {"data": {"dataset": "plain"}}, parse_setting("data.dataset.options.size=16"))
    assert layered.training.steps == 160
    assert layered.data.dataset == PluginChoice(
        name="plain", options={"size": 16}, distribution="plain-data", version="2.5"
    )


def test_every_option_and_origin_is_filled_in(location: DataLocation) -> None:
    spec = resolve(location, DIGITS, {"loss": {"weighting": "p2:k=2"}})
    ours = registry.find("weightings", "p2")
    assert spec.loss.weighting == PluginChoice(
        name="p2", options={"k": 2.0, "gamma": 1.0}, distribution="debiasctl", version=ours.version
    )
    assert resolve(location, BARE_DATA).diffusion.schedule.options == {
        "beta_start": 1e-4, "beta_end": 0.02, "num_timesteps": 1000, "zero_terminal_snr": False,
        "continuous": False,
    }  # fmt: skip
    for choice in (spec.data.dataset, spec.model.backbone, spec.diffusion.schedule, spec.loss.timesteps):
        assert (choice.distribution, choice.version) == ("debiasctl", ours.version)
    assert spec.loss.weighting.create("weightings").options.k == 2
    assert spec.loss.weighting.ref == PluginRef("p2", {"k": 2.0, "gamma": 1.0})


def test_a_resolved_spec_resolves_to_itself(location: DataLocation) -> None:
    spec = resolve(location, DIGITS, parse_setting("loss.weighting=min-snr:gamma=3"))
    assert resolve(location, spec.model_dump(mode="json")) == spec


NESTED = [
    ("weighting", "product:factors=[min-snr,'p2:k=2']"),
    ("weighting", "uncertainty:base=\"product:factors=[debiased,'min-snr:gamma=3'],space=v\""),
    ("weighting", {"name": "uncertainty", "options": {"base": {"name": "min-snr", "options": {"gamma": "3"}}}}),
    ("timesteps", "importance:base=lognormal:mean=-0.4"),
    ("timesteps", "stratified"),
]


def origins(value: Any) -> list[tuple[str, Any, Any]]:
    """Name, distribution and version of each plugin in a stored setting, however deep."""
    if isinstance(value, list):
        return [origin for item in value for origin in origins(item)]
    if not isinstance(value, dict):
        return []
    own = [(value["name"], value["distribution"], value["version"])] if "name" in value else []
    return own + [origin for item in value.values() for origin in origins(item)]


@pytest.mark.parametrize(("field", "choice"), NESTED)
def test_plugins_that_another_names_are_resolved_as_the_others_are(
    location: DataLocation, field: str, choice: Any
) -> None:
    spec = resolve(location, DIGITS, {"loss": {field: choice}})
    stored_choice = spec.model_dump(mode="json")["loss"][field]
    version = registry.find("weightings", "p2").version
    found = origins(stored_choice)
    assert len(found) > 1
    assert {origin[1:] for origin in found} == {("debiasctl", version)}
    text = json.dumps(stored_choice)
    for name, options in (("min-snr", '{"gamma": '), ("p2", '{"k": 2.0, "gamma": 1.0}'), ("lognormal", '"std": 1.2}')):
        assert (f'"name": "{name}"' in text) == (options in text)
    # stored, as text, and with options on top: all name the same
    for again in (spec.model_dump(mode="json"), {**DIGITS, "loss": {field: str(getattr(spec.loss, field).ref)}}):
        assert getattr(resolve(location, again).loss, field) == getattr(spec.loss, field)
    assert load_stored_spec(json.dumps(spec.model_dump(mode="json")), "x") == spec
    with_nested_names = [one.name for one in with_nested(getattr(spec.loss, field))]
    assert with_nested_names == [origin[0] for origin in found]


def test_options_on_top_of_a_nested_choice(location: DataLocation) -> None:
    given = {"loss": {"weighting": "uncertainty:base=p2"}}
    spec = resolve(location, DIGITS, given, parse_setting("loss.weighting.options.base=p2:k=3"))
    assert spec.loss.weighting.options["base"]["options"] == {"k": 3.0, "gamma": 1.0}
    assert spec.loss.weighting.options["channels"] == 128
    spec = resolve(location, DIGITS, given, parse_setting("loss.weighting.options.channels=16"))
    assert (spec.loss.weighting.options["base"]["name"], spec.loss.weighting.options["channels"]) == ("p2", 16)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("product:factors=[debias]", "unknown weighting 'debias'. Did you mean 'debiased'?"),
        ("product:factors=['p2:gama=1']", "unknown option 'gama'. Did you mean 'gamma'?"),
        ("uncertainty:base=p2:k=0", "k: input should be greater than 0"),
        ("uncertainty:base=uniform", "unknown weighting 'uniform'"),
        ("product:factors=[]", "factors"),
        ("product", "option 'factors' is required"),
        ("uncertainty:base='a b'", "'a b' is not a plugin reference"),
    ],
)
def test_nested_choices_are_judged_as_the_others_are(location: DataLocation, choice: str, message: str) -> None:
    with pytest.raises(PluginOptionsError) as caught:
        resolve(location, DIGITS, {"loss": {"weighting": choice}})
    assert message in str(caught.value)
    assert f"weighting '{choice.partition(':')[0]}': " in str(caught.value)
    assert str(caught.value).count("See: ") == 1  # of the two plugins, the one that was asked for
    assert ("at least 1 item" in str(caught.value)) == (choice == "product:factors=[]")


@pytest.mark.parametrize(
    "layers",
    [
        [], [{}], [{"training": {"steps": 3}}], [{"data": {}}], [{"data": "digits"}],
        [{"data": {"dataset": {"image_size": 8}}}], [{"data": {"dataset": {"options": {"path": "x"}}}}],
    ],
)  # fmt: skip
def test_no_data_set(location: DataLocation, layers: list[dict[str, Any]]) -> None:
    with pytest.raises(SpecError, match=r"no data set is named.*\n.*plugins list datasets"):
        resolve_spec(layers, location)


# ---------------------------------------------------------------- merging


@pytest.mark.parametrize(
    ("below", "above", "merged"),
    [
        ({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}, "b": {"z": 4}}, {"a": {"x": 1, "y": 3}, "b": {"z": 4}}),
        # a plugin with a name replaces the one below, options and all
        (
            {"loss": {"weighting": {"name": "p2", "options": {"k": 2}}, "normalize": "none"}},
            {"loss": {"weighting": {"name": "min-snr"}}},
            {"loss": {"weighting": {"name": "min-snr"}, "normalize": "none"}},
        ),
        ({"loss": {"weighting": {"name": "p2", "options": {"k": 2}}}}, {"loss": {"weighting": "p2"}},
         {"loss": {"weighting": "p2"}}),
        # options alone join those below, written either way
        (
            {"loss": {"weighting": {"name": "p2", "options": {"k": 2, "gamma": 1}}}},
            {"loss": {"weighting": {"options": {"gamma": 3}}}},
            {"loss": {"weighting": {"name": "p2", "options": {"k": 2, "gamma": 3}}}},
        ),
        (
            {"loss": {"weighting": "p2:k=2"}},
            {"loss": {"weighting": {"options": {"gamma": 3}}}},
            {"loss": {"weighting": {"name": "p2", "options": {"k": "2", "gamma": 3}}}},
        ),
        ({"training": {"keep_steps": [1, 2]}}, {"training": {"keep_steps": [3]}}, {"training": {"keep_steps": [3]}}),
        ({"optimizer": {"clip_grad_norm": 1.0}}, {"optimizer": {"clip_grad_norm": None}},
         {"optimizer": {"clip_grad_norm": None}}),
        ({"a": 1}, {"a": {"x": 2}}, {"a": {"x": 2}}),
    ],
)  # fmt: skip
def test_merging(below: dict[str, Any], above: dict[str, Any], merged: dict[str, Any]) -> None:
    before = json.dumps([below, above])
    assert merge(below, above) == merged
    assert json.dumps([below, above]) == before


def test_options_alone_reach_recommended_and_default_plugins(location: DataLocation) -> None:
    schedule = resolve(
        location, BARE_DATA, parse_setting("diffusion.schedule.options.beta_end=0.03")
    ).diffusion.schedule
    assert (schedule.name, schedule.options["beta_end"]) == ("linear", 0.03)  # named by the defaults alone
    watched = resolve(location, DIGITS, {"monitor": {"every": 9}}, parse_setting("monitor.sampler.options.eta=1"))
    assert watched.monitor is not None
    assert (watched.monitor.sampler.name, watched.monitor.sampler.options["eta"]) == ("ddim", 1)
    backbone = resolve(location, PLAIN_DATA, parse_setting("model.backbone.options.num_heads=2")).model.backbone
    assert (backbone.name, backbone.options["num_heads"], backbone.options["depth"]) == ("dit", 2, 3)


def test_options_on_top_of_a_reference_that_cannot_be_read(location: DataLocation) -> None:
    with pytest.raises(ReferenceSyntaxError, match="'k' has no '='"):
        resolve(location, DIGITS, {"loss": {"weighting": "p2:k"}}, parse_setting("loss.weighting.options.gamma=3"))


# ---------------------------------------------------------------- --set and --spec


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("optimizer.lr=0.0002", {"optimizer": {"lr": "0.0002"}}),
        (" optimizer.lr = 1e-4 ", {"optimizer": {"lr": "1e-4"}}),
        ("optimizer.betas=[0.9,0.99]", {"optimizer": {"betas": [0.9, 0.99]}}),
        ("optimizer.clip_grad_norm=null", {"optimizer": {"clip_grad_norm": None}}),
        ("loss.weighting=min-snr:gamma=5", {"loss": {"weighting": "min-snr:gamma=5"}}),
        ("loss.weighting=x:a='b,c'", {"loss": {"weighting": "x:a='b,c'"}}),
        ("loss.weighting.options.gamma=5", {"loss": {"weighting": {"options": {"gamma": "5"}}}}),
        ("extensions.x=a=b", {"extensions": {"x": "a=b"}}),
        ('model.backbone={"name":"dit","options":{"depth":2}}',
         {"model": {"backbone": {"name": "dit", "options": {"depth": 2}}}}),
    ],
)  # fmt: skip
def test_settings(text: str, settings: dict[str, Any]) -> None:
    assert parse_setting(text) == settings


@pytest.mark.parametrize("text", ["optimizer.lr", "lr=3", "=3", ".lr=3", "optimizer.=3", "optimizer..lr=3", ""])
def test_settings_that_cannot_be_read(text: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_setting(text)
    assert f"setting '{text}': write section.field=value" in str(caught.value)


@pytest.mark.parametrize("text", ["optimizer.betas=[0.9,0.99", "optimizer.lr="])
def test_settings_whose_value_cannot_be_read(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_setting(text)
    assert text in str(caught.value)


SETTINGS = {"data": {"dataset": "digits"}, "optimizer": {"lr": 0.0002, "betas": [0.9, 0.99]}, "ema": {"warmup": False}}
FILES = {
    "spec.json": json.dumps(SETTINGS),
    "spec.YAML": "data:\n  dataset: digits\noptimizer:\n  lr: 2e-4\n  betas: [0.9, 0.99]\nema: {warmup: false}\n",
    "spec.yml": "{data: {dataset: digits}, optimizer: {lr: 0.0002, betas: [0.9, 0.99]}, ema: {warmup: no}}",
    "spec.toml": (
        'data.dataset = "digits"\n[optimizer]\nlr = 2e-4\nbetas = [0.9, 0.99]\n[ema]\nwarmup = false\n'
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_one_spec_in_three_languages(name: str, tmp_path: Path, location: DataLocation) -> None:
    path = tmp_path / name
    path.write_text(FILES[name])
    assert resolve(location, read_spec_file(path)) == resolve(location, SETTINGS)
    assert resolve(location, SETTINGS).optimizer.betas == (0.9, 0.99)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("spec.txt", "{}", "the ending must be one of .json, .yaml, .yml, .toml"),
        ("spec", "{}", "the ending must be one of"),
        ("missing.json", None, "cannot be read: No such file"),
        ("cut.json", '{"data": ', "cannot be read: Expecting value"),
        ("bad.yaml", "data: [1", "cannot be read: expected ',' or ']'"),
        ("tabs.yaml", "data:\n\tdataset: digits", "cannot be read"),
        ("bad.toml", "data = ", "cannot be read: Invalid value"),
        ("bytes.json", b"\xff\xfe", "cannot be read"),
        ("list.json", "[1]", "must hold sections such as data, model and training"),
        ("empty.yaml", "", "must hold sections"),
        (
            "code.yaml",
            "!!python/object/apply:os.getcwd []",
            "cannot be read: tags such as 'tag:yaml.org,2002:python/object/apply:os.getcwd' are not",
        ),
    ],
)
def test_spec_files_that_cannot_be_read(tmp_path: Path, name: str, content: Any, message: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SpecError) as caught:
        read_spec_file(path)
    assert f"spec file {path}" in str(caught.value)
    assert message in str(caught.value)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        (
            "trainng.steps=3",
            ["unknown option 'trainng'. Did you mean 'training'?", "Known: schema_version, data, model"],
        ),
        (
            "ema.lenghts=[0.1]",
            ["unknown option 'ema.lenghts'. Did you mean 'lengths'? Known: kind, decay, warmup, half_"],
        ),
        ("ema.kind=mean", ["ema.kind: input should be 'decay', 'half-life' or 'power' (given: mean)"]),
        (
            "monitor.evry=9",
            ["unknown option 'monitor.evry'. Did you mean 'every'?", "option 'monitor.every' is required"],
        ),
        ("training.stpes=3", ["unknown option 'training.stpes'. Did you mean 'steps'?", "batch_size"]),
        ("optimizer.zzz=3", ["unknown option 'optimizer.zzz'. Known: lr, betas"]),
        ("loss.weighting.option.gamma=3", ["unknown option 'loss.weighting.option'. Did you mean 'options'?"]),
        ("training.steps=0", ["training.steps: input should be greater than or equal to 1 (given: 0)"]),
        ("training.seed=-1", ["training.seed: input should be greater than or equal to 0 (given: -1)"]),
        ("optimizer.lr=0", ["optimizer.lr: input should be greater than 0 (given: 0)"]),
        ("optimizer.lr=nan", ["optimizer.lr: input should be a finite number (given: nan)"]),
        ("optimizer.betas=[0.9,1]", ["optimizer.betas.1: input should be less than 1 (given: 1)"]),
        ("optimizer.betas=[0.9]", ["option 'optimizer.betas.1' is required"]),
        ("ema.decay=1", ["ema.decay: input should be less than 1"]),
        (
            "model.prediction=epsilon",
            ["model.prediction: input should be 'eps', 'x0', 'v', 'edm' or 'flow' (given: epsilon)"],
        ),
        ("loss.normalize=max", ["loss.normalize: input should be 'mean' or 'none' (given: max)"]),
        ("optimizer.decay=step", ["optimizer.decay: input should be 'none', 'cosine' or 'linear'"]),
        ("loss.weighting=a b", ["loss.weighting: 'a b' is not a plugin reference"]),
        ("loss.weighting=null", ["loss.weighting: input should be a valid dictionary"]),
        ("content.imagesize=8", ["unknown option 'content.imagesize'. Did you mean 'image_size'?"]),
    ],
)
def test_a_setting_is_refused_in_the_same_words_wherever_it_is_given(
    location: DataLocation, tmp_path: Path, text: str, messages: list[str]
) -> None:
    path, _, value = text.partition("=")
    try:
        content = json.loads(value)
    except ValueError:
        content = value
    for key in reversed(path.split(".")):
        content = {key: content}
    file = tmp_path / "spec.json"
    file.write_text(json.dumps(content))
    said = []
    for layer in (parse_setting(text), read_spec_file(file)):
        with pytest.raises(SpecError) as caught:
            resolve(location, DIGITS, layer)
        said.append(str(caught.value))
    assert said[0] == said[1]
    for message in messages:
        assert message in said[0]
    assert caught.value.exit_code == 2


def test_everything_wrong_is_said_at_once(location: DataLocation) -> None:
    with pytest.raises(SpecError) as caught:
        resolve(location, DIGITS, {"training": {"steps": 0, "sed": 1}, "ema": {"decay": 2}})
    for part in ("training.steps", "training.sed", "ema.decay"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("layer", "error", "message"),
    [
        ({"loss": {"weighting": "debias"}}, UnknownPluginError, "unknown weighting 'debias'. Did you mean 'debiased'?"),
        ({"data": {"dataset": "digit"}}, UnknownPluginError, "unknown dataset 'digit'. Did you mean 'digits'?"),
        ({"loss": {"weighting": "p2:gama=1"}}, PluginOptionsError, "unknown option 'gama'. Did you mean 'gamma'?"),
        ({"data": {"dataset": "plain:size=2"}}, PluginOptionsError, "size: input should be greater than or equal to 4"),
        ({"extensions": ["rigl"]}, UnknownPluginError, "unknown extension 'rigl'"),
        ({"extensions": [{"name": "rigl", "opts": {}}]}, SpecError, "unknown option 'extensions.0.opts'. Did you mean"),
        (
            {"data": {"dataset": "careless"}},
            PluginError,
            "dataset 'careless' of plain-data 2.5: its recommended settings are not valid: spec: unknown option "
            "'trainng'. Did you mean 'training'?",
        ),
    ],
)
def test_plugins_that_are_refused(
    location: DataLocation, layer: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        resolve(location, DIGITS, layer)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"ema": {"half_life_images": 9}}, "ema.half_life_images has no effect with ema.kind=decay; choose ema.kind="),
        ({"ema": {"rampup_ratio": None}}, "ema.rampup_ratio has no effect with ema.kind=decay; choose ema.kind=half-"),
        ({"ema": {"snapshot_every": 9}}, "ema.snapshot_every has no effect with ema.kind=decay; choose ema.kind=power"),
        ({"ema": {"lengths": [0.2]}}, "ema.lengths has no effect with ema.kind=decay; choose ema.kind=power"),
        (
            {"ema": {"kind": "power", "decay": 0.5}},
            "ema.decay has no effect with ema.kind=power; choose ema.kind=decay",
        ),
        ({"ema": {"kind": "half-life", "warmup": False}}, "ema.warmup has no effect with ema.kind=half-life; choose"),
        ({"monitor": {"grid": 4}}, "monitor.grid has no effect without monitor.every"),
        ({"monitor": {"sampler": "ddpm"}}, "monitor.sampler has no effect without monitor.every"),
        ({"monitor": {"features": "pixels"}}, "monitor.features has no effect without monitor.every"),
        ({"model": {"prediction": "eps", "sigma_data": 1}}, "model.sigma_data has no effect with model.prediction=eps"),
        ({"loss": {"variance_weight": 1}}, "loss.variance_weight has no effect without model.learned_variance=true"),
        (
            {"model": {"conditional": False, "label_dropout": 0.1}},
            "model.label_dropout has no effect on a model without class labels",
        ),
        ({"monitor": {"every": 9, "num": 4, "grid": 5}}, "monitor.grid=5 is more than the monitor.num=4 images"),
    ],
)
def test_settings_without_effect_are_refused(location: DataLocation, layer: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        resolve(location, DIGITS, layer)
    assert message in str(caught.value)


FULL = {
    "model": {"prediction": "edm", "sigma_data": 1.0, "learned_variance": True, "label_dropout": 0.1},
    "loss": {"variance_weight": 1.0},
    "ema": {"decay": 0.5, "warmup": False},
    "monitor": {"every": 9, "num": 4, "sampler": "ddpm"},
}


@pytest.mark.parametrize(
    ("settings", "reset"),
    [
        (["ema.kind=power"], ["ema.decay", "ema.warmup"]),
        (["monitor.num=2"], ["monitor.grid"]),
        (["monitor.every=null"], ["monitor.num", "monitor.grid", "monitor.sampler"]),
        (["model.prediction=v"], ["model.sigma_data"]),
        (["model.conditional=false"], ["model.label_dropout"]),
        (["model.learned_variance=false"], ["loss.variance_weight"]),
        (["model.prediction=v", "ema.kind=half-life"], ["model.sigma_data", "ema.decay", "ema.warmup"]),
        (["monitor.num=8"], []),
        ([], []),
    ],
)
def test_what_a_spec_file_spells_out_gives_way_where_it_has_no_effect(
    location: DataLocation, settings: list[str], reset: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The file may be a run's own spec; beside the settings asked for it is as if it had not named these."""
    caplog.set_level("INFO")
    file = resolve(location, DIGITS, FULL).model_dump(mode="json")
    asked = [parse_setting(text) for text in settings]
    spec, _ = resolve_spec(asked, location, file=file)
    assert [record.message for record in caplog.records] == [
        f"ignored in the spec file, having no effect with the other settings: {', '.join(reset)}"
    ] * bool(reset)
    for path in reset:
        section, name = path.split(".")
        del file[section][name]
    caplog.clear()
    assert resolve_spec(asked, location, file=file)[0] == spec
    assert caplog.records == []
    assert resolve(location, spec.model_dump(mode="json")) == spec
    assert spec.monitor is None or spec.monitor.grid == min(spec.monitor.num, 4)


def test_what_is_asked_for_may_be_the_default_where_it_has_no_effect(location: DataLocation) -> None:
    """However it is written: the sampler's options are compared once all of them are filled in."""
    asked = ["ema.kind=power", "ema.warmup=true", "ema.half_life_images=500000", "monitor.sampler=ddim:eta=0"]
    spec = resolve(location, DIGITS, *map(parse_setting, asked), {"monitor": {"num": "256"}})
    assert (spec.ema, spec.monitor) == (PowerEMA(), None)
    with pytest.raises(SpecError, match=r"monitor\.sampler has no effect without monitor\.every"):
        resolve(location, DIGITS, parse_setting("monitor.sampler=ddim:eta=1"))


def test_an_average_of_no_stated_kind_is_the_data_sets(location: DataLocation) -> None:
    assert resolve(location, DIGITS, parse_setting("ema.decay=0.7")).ema == DecayEMA(decay=0.7)
    averaging = {"data": {"dataset": "averaging"}}
    assert resolve(location, averaging).ema == PowerEMA(lengths=(0.1,))
    message = r"ema\.decay has no effect with ema\.kind=power; choose ema\.kind=decay, or leave it out"
    with pytest.raises(SpecError, match=message):
        resolve(location, averaging, parse_setting("ema.decay=0.7"))
    asked = parse_setting("ema.kind=decay"), parse_setting("ema.decay=0.7")
    assert resolve(location, averaging, *asked).ema == DecayEMA(decay=0.7)


def test_what_is_asked_for_has_an_effect_whatever_the_file_says(location: DataLocation) -> None:
    file = resolve(location, DIGITS, FULL).model_dump(mode="json")
    for text, message in (("monitor.grid=5", "monitor.num=4"), ("ema.lengths=[0.2]", "no effect with ema.kind=decay")):
        with pytest.raises(SpecError, match=message):
            resolve_spec([parse_setting(text)], location, file=file)
    with pytest.raises(SpecError, match=r"monitor\.num has no effect without monitor\.every"):
        resolve_spec([parse_setting("monitor.every=null"), parse_setting("monitor.num=8")], location, file=file)


def test_recommended_settings_without_effect_fall_away_silently(
    location: DataLocation, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    wanted = {"data": {"dataset": "fond"}}
    spec = resolve(location, wanted)
    assert (spec.monitor, spec.model.label_dropout, spec.model.sigma_data) == (None, 0, 0.5)
    assert (spec.loss.variance_weight, spec.ema) == (1e-3, DecayEMA())
    assert resolve(location, spec.model_dump(mode="json")) == spec
    assert resolve(location, wanted, {"monitor": {"every": 9}}).monitor.num == 8
    assert caplog.records == []


@pytest.mark.parametrize("kind", ["decay", "half-life", "power"])
@pytest.mark.parametrize("monitor", [{}, {"every": 100, "num": 4}])
def test_a_spec_with_every_setting_written_out_can_be_given_again(
    location: DataLocation, kind: str, monitor: dict[str, Any]
) -> None:
    """A data set's recommended settings of another average have fallen away, and the default grid has been cut."""
    spec = resolve(location, DIGITS, {"ema": {"kind": kind}, "monitor": monitor})
    recommends = spec.ema != type(spec.ema)()
    assert recommends == (kind == "decay")
    assert (spec.ema.kind, spec.monitor and spec.monitor.grid) == (kind, 4 if monitor else None)
    raw = json.loads(json.dumps(spec.model_dump(mode="json")))
    assert resolve(location, raw) == spec
    assert load_stored_spec(json.dumps(raw), "spec.json") == spec


@pytest.mark.parametrize("size", [8])
def test_labels_where_there_are_none(location: DataLocation, size: int) -> None:
    plain = {"data": {"dataset": f"plain:size={size}"}}
    assert resolve(location, plain).model.conditional is False
    assert resolve(location, plain, parse_setting("model.conditional=false")).model.conditional is False
    with pytest.raises(SpecError, match="needs a data set with classes, and this one has none"):
        resolve(location, plain, parse_setting("model.conditional=true"))
    with pytest.raises(SpecError, match="needs a data set with classes"):
        resolve(location, plain, {"model": {"conditional": True}})
    assert resolve(location, DIGITS).model.conditional is True
    assert resolve(location, DIGITS, parse_setting("model.conditional=false")).model.conditional is False
    assert resolve(location, DIGITS, parse_setting("model.conditional=null")).model.conditional is True


# ---------------------------------------------------------------- stored specs

CONTENT = ContentSection(
    image_size=8, channels=1, classes=("a", "b"), class_counts=(3, 4), num_train=7, num_heldout=2, content_hash="ab"
)


def stored(location: DataLocation) -> RunSpec:
    spec = resolve(location, DIGITS, parse_setting("training.keep_steps=[1,2]"), parse_setting("loss.weighting=p2:k=3"))
    provenance = ProvenanceSection(packages={"torch": "2.6"}, python="3.11", git_commit="c0ffee")
    return spec.model_copy(update={"content": CONTENT, "provenance": provenance})


def test_a_spec_survives_json(location: DataLocation) -> None:
    spec = stored(location)
    text = json.dumps(spec.model_dump(mode="json"))
    again = load_stored_spec(text, "spec.json")
    assert again == spec
    assert again.content == CONTENT
    assert again.provenance.packages == {"torch": "2.6"}
    assert again.training.keep_steps == (1, 2)
    assert json.loads(text)["schema_version"] == 4


def test_a_spec_cannot_be_changed(location: DataLocation) -> None:
    spec = stored(location)
    for section, field in ((spec, "training"), (spec.training, "steps"), (spec.loss.weighting, "name")):
        with pytest.raises(ValueError, match="frozen"):
            setattr(section, field, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.update(schema_version=5), "schema version 5; this debiasctl reads up to 4. Update debiasctl"),
        (lambda raw: raw.update(schema_version=0), "schema_version is 0, and must be a whole number"),
        (lambda raw: raw.update(schema_version="new"), "schema_version is 'new', and must be a whole number"),
        (lambda raw: raw["ema"].update(lengths=[0.2]), "unknown option 'ema.lengths'"),
        (lambda raw: raw.pop("data"), "option 'data' is required"),
        (lambda raw: raw["content"].pop("content_hash"), "option 'content.content_hash' is required"),
        (lambda raw: raw["training"].update(steps="many"), "training.steps: input should be a valid integer"),
    ],
)
def test_stored_specs_that_cannot_be_used(location: DataLocation, change: Any, message: str) -> None:
    raw = stored(location).model_dump(mode="json")
    change(raw)
    with pytest.raises(RunError) as caught:
        load_stored_spec(json.dumps(raw), "runs/a/spec.json")
    assert "runs/a/spec.json cannot be used: " in str(caught.value)
    assert message in str(caught.value)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '{"data": {"dataset": "digits"}'])
def test_stored_specs_that_are_damaged(text: str) -> None:
    with pytest.raises(RunError, match="here cannot be used"):
        load_stored_spec(text, "here")


def test_a_newer_spec_file_is_refused_before_its_fields_are_judged() -> None:
    with pytest.raises(SpecError, match="schema version 9"):
        validate_spec({"schema_version": 9, "novelty": True})


def test_a_stored_spec_needs_none_of_its_plugins() -> None:
    """So that a run can be listed and shown where a plugin was uninstalled."""
    spec = validate_spec(
        {"data": {"dataset": {"name": "gone", "options": {"a": 1}, "distribution": "x", "version": "1"}}}
    )
    assert load_stored_spec(json.dumps(spec.model_dump(mode="json")), "x").data.dataset.name == "gone"


def test_every_field_is_described() -> None:
    def check(model: Any) -> None:
        assert model.__doc__
        for name, field in model.model_fields.items():
            sections = [one for one in (field.annotation, *get_args(field.annotation)) if is_section(one)]
            for section in sections:
                check(section)
            assert field.description or sections == [field.annotation], f"{model.__name__}.{name}"
            checked.append(f"{model.__name__}.{name}")

    def is_section(annotation: Any) -> bool:
        return isinstance(annotation, type) and issubclass(annotation, Section)

    checked: list[str] = []

    check(RunSpec)
    check(ContentSection)
    check(PluginChoice)
    assert {"PowerEMA.lengths", "MonitorSection.every", "InitFromSection.run"} <= set(checked)


# ---------------------------------------------------------------- options beside a plugin's name


FIELDS = {"data.dataset", "model.backbone", "diffusion.schedule", "loss.weighting", "loss.timesteps"}


def test_the_settings_that_name_plugins() -> None:
    assert plugin_settings() == FIELDS | {"data.autoencoder", "monitor.sampler", "monitor.features"}


@pytest.mark.parametrize("setting", sorted(plugin_settings()))
def test_what_stands_beside_a_plugins_name_is_an_option_of_it_or_refused(setting: str, location: DataLocation) -> None:
    watched = {"monitor": {"every": 9, "features": "pixels"}, "data": {"autoencoder": "identity"}}
    for text in (f"{setting}.bogus=7", f"{setting}.options.bogus=7", f"{setting}.version=7"):
        for layers in ([DIGITS, watched, parse_setting(text)], [watched, parse_setting(text), DIGITS]):
            with pytest.raises(PluginOptionsError, match=r"unknown option '(bogus|version)'"):
                resolve(location, *layers)


@pytest.mark.parametrize(
    "layers",
    [
        [{"data": {"dataset": "plain"}}, parse_setting("data.dataset.size=16")],
        [parse_setting("data.dataset.size=16"), {"data": {"dataset": "plain"}}],
        [parse_setting("data.dataset.options.size=16"), {"data": {"dataset": {"name": "plain"}}}],
        [parse_setting("data.dataset.size=16"), {"data": {"dataset": "plain:size=16"}}],
        [{"data": {"dataset": {"name": "plain", "size": 16}}}],
    ],
)
def test_an_option_reaches_the_plugin_wherever_its_name_stands(
    layers: list[dict[str, Any]], location: DataLocation
) -> None:
    assert resolve(location, *layers).data.dataset.options == {"size": 16}
    assert resolve_spec(layers[1:], location, file=layers[0])[0].data.dataset.options == {"size": 16}


def test_an_option_that_is_given_twice_is_refused(location: DataLocation) -> None:
    with pytest.raises(
        SpecError, match=r"data\.dataset is given size=16 and, with the name 'plain', size=12. Give size"
    ):
        resolve(location, parse_setting("data.dataset.size=16"), {"data": {"dataset": "plain:size=12"}})
    with pytest.raises(SpecError, match="'size' is given both beside the plugin's name and in 'options'"):
        resolve(location, {"data": {"dataset": {"name": "plain", "size": 16, "options": {"size": 12}}}})


def test_nested_options_beside_a_name(location: DataLocation) -> None:
    spec = resolve(
        location, DIGITS, {"loss": {"weighting": "uncertainty:base=p2"}}, parse_setting("loss.weighting.base.k=3")
    )
    assert spec.loss.weighting.options["base"]["options"]["k"] == 3
    with pytest.raises(PluginOptionsError, match="unknown option 'bogus'"):
        resolve(location, DIGITS, {"loss": {"weighting": {"name": "uncertainty", "base": {"name": "p2", "bogus": 3}}}})


@pytest.mark.parametrize(("given", "stored"), [("flow", 1.0), ("flow:shift=auto", 1.0), ("flow:shift=2", 2.0)])
def test_a_schedules_options_are_settled_by_the_images(location: DataLocation, given: str, stored: float) -> None:
    spec = resolve(location, DIGITS, {"model": {"prediction": "flow"}, "diffusion": {"schedule": given}})
    assert spec.diffusion.schedule.options["shift"] == stored
    assert spec.diffusion.schedule.options["continuous"] is True
