"""Whatever a plugin raises or returns, of every kind and in every place, one error names it."""

from collections.abc import Callable
from pathlib import Path

import bad_plugins
import pytest
import torch
from tiny import LOCATION, make_spec, write_distribution

from debiasctl import paths, registry
from debiasctl.api import ArraySplit, DatasetInfo, ImageShape, Job, LoadedDataset, Workplace
from debiasctl.boundary import origin_of, plugin_call
from debiasctl.data.load import load_dataset
from debiasctl.diffusion.denoiser import NetworkDenoiser
from debiasctl.diffusion.modules import run_learned, run_network
from debiasctl.diffusion.objective import Objective
from debiasctl.diffusion.parameterization import Parameterization
from debiasctl.diffusion.process import DiffusionProcess, process_of
from debiasctl.errors import DebiasctlError, PluginError, UsageError
from debiasctl.evaluation.extraction import FEATURES, extract
from debiasctl.models.latent_space import new_latents
from debiasctl.registry.choices import complete
from debiasctl.registry.refs import PluginRef
from debiasctl.sampling.drawing import Drawer
from debiasctl.sampling.request import SampleRequest
from debiasctl.training.plain_state import plain_state

PROCESS = DiffusionProcess(torch.linspace(0.99, 0.01, 20, dtype=torch.float64))
EPS = Parameterization("eps", PROCESS)


@pytest.fixture(autouse=True)
def bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_distribution(
        tmp_path / "site", name="bad-pack", version="6.6", entry_points=bad_plugins.ENTRY_POINTS, modules={}
    )
    monkeypatch.syspath_prepend(tmp_path / "site")


def datasets(how: str, name: str = "bad") -> LoadedDataset:
    make_spec(data__dataset={"name": name, "options": {"how": how}})
    data = load_dataset(PluginRef(name, {"how": how}), LOCATION)
    assert len(data.train.images(torch.arange(8))) == 8
    data.train.labels(torch.arange(8))
    made = registry.create("datasets", PluginRef(name, {"how": how}))
    made.stored_sizes(LOCATION)
    list(made.problems(LOCATION, progress=lambda done, total: None) or ())
    return data


def backbones(how: str, name: str = "bad") -> None:
    choice = {"name": name, "options": {"how": how}}
    make_spec(model__backbone=choice)
    plugin = registry.create("backbones", choice)
    network = plugin.build(ImageShape(8, 1, 1), 0)
    plugin.set_memory_format(network, torch.channels_last)
    x = torch.randn(2, 1, 8, 8)
    output = run_network(network, x, torch.zeros(2), None, out_channels=1)
    with plugin_call(origin_of(network), "backward pass"):
        output.sum().backward()


def weightings(how: str, name: str = "bad") -> None:
    weighting = registry.create("weightings", {"name": name, "options": {"how": how}})
    learned = weighting.learned()
    Objective(EPS, weighting, registry.create("timesteps", "uniform"), learned=learned).tables(0.5)
    if learned is not None:
        run_learned(learned.module, torch.zeros(3))


def schedules(how: str, name: str = "bad") -> None:
    process_of(registry.create("schedules", {"name": name, "options": {"how": how}}))


def timesteps(how: str, name: str = "bad") -> None:
    plugin = registry.create("timesteps", {"name": name, "options": {"how": how}})
    objective = Objective(EPS, registry.create("weightings", "debiased"), plugin)
    draws, shared = torch.rand(4, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    drawn = objective.draw(draws, shared=shared, positions=torch.arange(4), batch_size=4, progress=0.0)
    assert bool((drawn.weight > 0).all())
    objective.observe(drawn.timestep, torch.ones(4, dtype=torch.float64))
    plain_state(plugin.state_dict(), origin_of(plugin))


def samplers(how: str, name: str = "bad") -> None:
    choice = complete("samplers", PluginRef(name, {"how": how}))
    choice.create("samplers").grid(PROCESS, 3)
    denoiser = NetworkDenoiser(torch.nn.Module(), EPS)
    denoiser.network.forward = lambda x, noise_level, labels: 0 * x
    request = SampleRequest(4, 3, choice, 0, 0, "ema")
    drawer = Drawer(denoiser, request, lambda _: None, shape=(1, 8, 8), device=torch.device("cpu"), batch_size=4)
    assert next(iter(drawer([range(4)]))).images.shape == (4, 1, 8, 8)


def features(how: str, name: str = "bad") -> None:
    plugin = registry.create("features", {"name": name, "options": {"how": how}})
    plugin.metric_names(name)
    prepared = plugin.prepare(None, cache_dir=Path("none"), device=torch.device("cpu"))
    assert list(prepared.notes()) == []
    assert prepared.offers == {"features"}
    extract(load_dataset("bad", LOCATION).train, prepared, [FEATURES])


def autoencoders(how: str, name: str = "bad") -> None:
    images = ArraySplit(torch.zeros(6, 1, 8, 8, dtype=torch.uint8))
    data = LoadedDataset(DatasetInfo(8, 1, (), 6, 6), images, images, "hash")
    spec = make_spec(data__autoencoder={"name": name, "options": {"how": how}})
    place = torch.device("cpu")
    space, latents = new_latents(spec, data, device=place, cache_dir=paths.cache_dir())
    assert latents.train.images(torch.arange(2)).shape == (2, 1, 4, 4)
    prepared = space.autoencoder
    spec.data.autoencoder.create("autoencoders").restore(prepared.state(), prepared.settings(), device=place)
    assert space.decode(torch.zeros(2, 1, 4, 4)).shape == (2, 1, 8, 8)


def extensions(how: str, name: str = "bad") -> None:
    plugin = registry.create("extensions", {"name": name, "options": {"how": how}})
    for method in (plugin.on_init, plugin.on_start, plugin.before_clipping, plugin.after_backward, plugin.after_step):
        method(None)
    assert plugin.learning_rate(0.1, None) == 0.1
    average = torch.ones(2, 3)
    assert plugin.reconstructed("weight", average, average) is average
    assert [type(value) for value in plugin.summary().values()] == [float, str]
    plain_state(plugin.state_dict(), origin_of(plugin))


def models(how: str, name: str = "bad") -> None:
    registry.create("models", {"name": name, "options": {"how": how}}).read()


def engines(how: str, name: str = "bad") -> None:
    plugin = registry.create("engines", {"name": name, "options": {"how": how}})
    jobs = [Job("first", "math:sqrt", {})]
    plugin.run(jobs, Workplace(Path(), 1, "cpu", 1), on_event=lambda event: None, stopping=lambda: False)
    plugin.close()


KINDS: dict[str, Callable[..., object]] = {
    one.__name__: one
    for one in (
        datasets,
        backbones,
        weightings,
        schedules,
        timesteps,
        samplers,
        features,
        autoencoders,
        extensions,
        models,
        engines,
    )
}
PLACES = {
    "datasets": ["init", "info", "load", "recommended", "problems", "split"],
    "backbones": ["build", "forward", "set_memory_format"],
    "weightings": ["space", "varies", "at", "call"],
    "schedules": ["alphas_cumprod"],
    "timesteps": ["corrected", "probabilities", "spread", "observe", "state_dict"],
    "samplers": ["call", "grid"],
    "features": ["prepare", "extract", "notes", "offers"],
    "autoencoders": ["latent_shape", "prepare", "encode", "decode"],
    "extensions": [
        "on_init",
        "on_start",
        "learning_rate",
        "before_clipping",
        "after_backward",
        "after_step",
        "reconstructed",
        "summary",
        "state_dict",
    ],
    "models": ["read"],
    "engines": ["run", "close"],
}
WAYS = [way for way in bad_plugins.RAISES if way != "on-purpose"]
RETURNS = {
    "datasets": [
        "problems-text", "problems-severity", "sizes-list", "info-none", "load-none",
        "recommended-none", "load-no-info", "no-split", "split-none", "split-large",
        "split-few", "split-int64", "lies-channels", "lies-size", "lies-classes", "lies-count", "no-classes",
        "two-channels", "text-size", "half-size", "negative", "classes-numbers", "classes-twice", "value-type",
        "images-int64", "images-float", "images-two", "images-large", "images-flat", "images-numpy",
        "labels-negative", "labels-many", "labels-float", "labels-int32", "labels-none", "labels-column",
        "recommends-list", "recommends-text", "recommends-type", "recommends-key", "recommends-setting",
        "recommends-monitor", "recommends-tensor", "recommends-content", "recommends-dataset",
    ],
    "backbones": [
        "build-none", "build-text", "build-empty", "build-lazy", "resolve-none", "resolve-dict",
        "set_memory_format-none", "forward-pooled", "forward-one", "forward-twice", "forward-tuple", "forward-none",
        "forward-double", "forward-int", "forward-nan", "forward-detached",
    ],
    "weightings": [
        "space-none", "space-other", "varies-none", "varies-text", "at-none", "at-text", "at-other", "call-none",
        "weight-nan", "weight-negative", "weight-short", "weight-column", "weight-text", "weight-complex",
        "weight-in-place",
    ],
    "schedules": [
        "alphas_cumprod-none", "table-short", "table-float", "table-rising", "table-flat", "table-nan", "table-numpy",
        "table-complex", "table-square",
    ],
    "timesteps": [
        "corrected-none", "corrected-number", "probabilities-none", "q-nan", "q-negative", "q-short", "q-zero",
        "base-nan", "q-rare", "spread-none", "spread-one", "spread-negative", "spread-nan", "spread-few",
        "spread-float", "state_dict-none", "state-numpy",
    ],
    "samplers": [
        "call-none", "sample-small", "sample-few", "sample-uint8", "sample-tuple", "sample-nan", "grid-short",
        "grid-rising", "grid-numbers", "grid-far", "grid-off",
    ],
    "features": [
        "prepare-none", "prepare-text", "identity", "details", "dimension", "extract-none", "extract-wide",
        "extract-few", "extract-nan", "extract-int", "extract-complex", "notes-none", "notes-text", "offers-none",
        "offers-less",
    ],
    "autoencoders": [
        "latent_shape-none", "shape-zero", "shape-half", "shape-tuple", "prepare-none", "prepare-text", "restore-none",
        "state-none", "state-nan", "state-numbers", "state-list", "settings-none", "settings-set", "scale-zero",
        "scale-nan", "scale-few", "scale-many", "scale-text", "encode-none", "encode-large", "encode-few", "encode-int",
        "encode-nan", "decode-none", "decode-small", "decode-tuple", "decode-nan",
    ],
    "extensions": [
        "average-none", "average-flat", "average-double", "summary-none", "summary-key", "summary-nan", "summary-flag",
        "summary-list", "summary-long",
        "state_dict-none", "state-numpy", "state-class", "state-set", "state-key", "state-deep", "state-sparse",
        "learning_rate-none", "rate-negative", "rate-nan", "rate-text", "state-loop", "state-function", "state-list",
    ],
    "models": [
        "read-none", "size", "size-text", "channels", "classes", "steps", "backbone", "schedule", "options-list",
        "options-tensor", "prediction", "variance", "null", "sigma", "sigma-nan", "weights-none", "weights-numpy",
        "weights-numbers", "notes-text",
    ],
    "engines": [
        "run-text", "events-none", "kind", "early", "twice", "again", "another", "reason", "numpy", "endless", "idle",
    ],
}  # fmt: skip


def refused(kind: str, how: str, name: str = "bad") -> DebiasctlError:
    """The error that names the plugin."""
    with pytest.raises(DebiasctlError) as caught:
        KINDS[kind](how, name)
    message = str(caught.value)
    assert f"{registry.KINDS[kind].singular} '{name}' of bad-pack 6.6" in message
    assert "\x1b" not in message
    assert len(message) < 800
    assert caught.value.exit_code in (1, 2)
    return caught.value


@pytest.mark.parametrize("kind", KINDS)
def test_a_plugin_that_keeps_its_contract_crosses_the_boundary(kind: str) -> None:
    KINDS[kind]("")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind, place", [(kind, place) for kind, places in PLACES.items() for place in places])
def test_whatever_it_raises_names_it(kind: str, place: str, way: str) -> None:
    if (kind, place, way) == ("samplers", "call", "memory"):
        pytest.skip("memory that runs out while drawing is told with the batch size")
    error = refused(kind, f"{place}-{way}")
    assert isinstance(error, PluginError)
    assert error.exit_code == 1
    assert error.__cause__ is not None  # for the traceback


@pytest.mark.parametrize("kind, place", [(kind, places[-1]) for kind, places in PLACES.items()])
def test_what_a_plugin_raises_for_its_user_passes(kind: str, place: str) -> None:
    with pytest.raises(UsageError, match=r"^a plugin says so$"):
        KINDS[kind](f"{place}-on-purpose")


@pytest.mark.parametrize("kind, how", [(kind, how) for kind, hows in RETURNS.items() for how in hows])
def test_whatever_it_returns_is_checked(kind: str, how: str) -> None:
    refused(kind, how)


@pytest.mark.parametrize("how", ["learned-none", "learned-error", "rate", "column", "double", "nan"])
def test_what_is_learned_is_checked(how: str) -> None:
    refused("weightings", how, "bad-learned")


@pytest.mark.parametrize("name", ["another", "forgetful", "attribute", "spelling", "failing"])
def test_a_class_that_does_not_make_what_it_says(name: str) -> None:
    with pytest.raises(PluginError, match=f"^weighting '{name}' of bad-pack 6.6"):
        registry.create("weightings", name)


@pytest.mark.parametrize("name", ["picky", "endless", "opaque", "failing"])
def test_defaults_that_a_spec_cannot_hold_are_refused_before_there_is_a_run(name: str) -> None:
    with pytest.raises(PluginError, match=f"^weighting '{name}' of bad-pack 6.6"):
        complete("weightings", PluginRef(name))


@pytest.mark.parametrize("name", ["mislabelled", "published", "files", "labelled"])
def test_what_others_read_of_every_extractor_is_checked_when_it_is_loaded(name: str) -> None:
    with pytest.raises(PluginError, match=f"^feature extractor '{name}' of bad-pack 6.6"):
        registry.load("features", name)


def test_an_autoencoder_says_whether_its_latents_are_bounded() -> None:
    with pytest.raises(PluginError, match=r"^autoencoder 'unbounded' of bad-pack 6.6: its class has bounded=None"):
        registry.load("autoencoders", "unbounded")


def test_every_value_of_float_images_is_looked_at() -> None:
    """The one that is not finite is none of the 64 that are read in advance."""
    error = refused("datasets", "images-late")
    assert "outside [-1, 1]" in str(error)


def test_a_nested_plugin_is_the_one_that_is_named() -> None:
    for outer in ("product:factors=[debiased,'bad:how=weight-in-place']", "uncertainty:base='bad:how=weight-nan'"):
        weighting = registry.create("weightings", outer)
        with pytest.raises(PluginError, match=r"^weighting 'bad' of bad-pack 6\.6"):
            Objective(EPS, weighting, registry.create("timesteps", "uniform")).tables()


def test_a_plugin_may_catch_what_its_own_methods_raise() -> None:
    class Own(bad_plugins.BadExtension):
        def on_start(self, context):
            try:
                self.after_step(context)
            except ValueError:
                self.caught = True

    from debiasctl.registry.guard import guarded

    origin = origin_of(registry.create("extensions", "bad"))
    plugin = guarded(Own, registry.base_of("extensions"), origin)(bad_plugins.Options(how="after_step-error"))
    plugin.on_start(None)
    assert plugin.caught


def test_ctrl_c_in_a_plugin_is_the_users() -> None:
    import signal

    plugin = registry.create("extensions", "bad")
    plugin.options = bad_plugins.Options(how="after_step-signal")
    bad_plugins.RAISES["signal"] = lambda: (signal.raise_signal(signal.SIGINT), sum(range(1000)))
    try:
        with pytest.raises(KeyboardInterrupt):
            plugin.after_step(None)
    finally:
        del bad_plugins.RAISES["signal"]


def test_the_end_of_a_generator_passes_and_a_plugins_own_is_its_fault() -> None:
    plugin = registry.create("extensions", "bad")
    plugin.options = bad_plugins.Options(how="after_step-close")
    with pytest.raises(PluginError, match=r"'bad' of bad-pack 6.6 failed in its after_step .GeneratorExit"):
        plugin.after_step(None)

    def generator():
        with plugin_call(origin_of(plugin), "after_step"):
            yield

    started = generator()
    next(started)
    started.close()


def test_a_checked_network_is_not_looked_at_again() -> None:
    """Its values are waited for once; its shape costs nothing."""
    network = registry.create("backbones", "bad").build(ImageShape(8, 1, 1), 0)
    x = torch.randn(2, 1, 8, 8)
    run_network(network, x, torch.zeros(2), None, out_channels=1)
    network.how = "forward-nan"
    assert bool(run_network(network, x, torch.zeros(2), None, out_channels=1).isnan().all())
    network.how = "forward-one"
    with pytest.raises(PluginError, match=r"its forward returned float32 \[1, 1, 8, 8\] in place of"):
        run_network(network, x, torch.zeros(2), None, out_channels=1)


def test_weights_that_training_spoilt_are_no_fault_of_the_backbone() -> None:
    network = registry.create("backbones", "bad").build(ImageShape(8, 1, 1), 0)
    torch.nn.init.constant_(network.layer.weight, torch.nan)
    run_network(network, torch.randn(2, 1, 8, 8), torch.zeros(2), None, out_channels=1)


def test_running_stands_for_what_this_thread_runs() -> None:
    from debiasctl.boundary import is_running

    with plugin_call(origin_of(registry.create("extensions", "bad")), "test"):
        assert is_running()
    assert not is_running()
