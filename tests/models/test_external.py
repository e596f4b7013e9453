"""Models from elsewhere: the run that is made of one, and how every command takes it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from adm_files import GIVEN, save_small
from safetensors.torch import load_file
from tiny import LOCATION, error_of, succeed, train
from tiny import make_spec as tiny_spec

from debiasctl.errors import DataError, ModelError, RunNameError, UsageError
from debiasctl.models.external import add_model
from debiasctl.paths import runs_dir
from debiasctl.registry.refs import PluginRef, parse_ref
from debiasctl.runs.parts import disk_use, folder_size
from debiasctl.runs.store import Run
from debiasctl.training import session
from debiasctl.training.conduct import Conduct


def source(path: Path, given: str = GIVEN) -> PluginRef:
    return parse_ref(f"guided-diffusion:path={path},{given}")


def added(tmp_path: Path, name: str = "adm", *, dataset: str | None = None, **options) -> Run:
    save_small(tmp_path / f"{name}.pt", **options)
    return add_model(name, source(tmp_path / f"{name}.pt"), LOCATION, dataset=dataset)


def test_the_run_states_all_that_is_known_and_holds_the_files_tensors(tmp_path: Path) -> None:
    state = save_small(tmp_path / "ema_0.9999_123000.pt")
    run = add_model("adm", source(tmp_path / "ema_0.9999_123000.pt"), LOCATION, weighting="p2:gamma=0.5")
    spec, status = run.spec(), run.status()
    assert (status.state, status.step, status.num_steps, status.weighting) == ("imported", 0, 0, "p2")
    assert (spec.model.prediction, spec.model.learned_variance, spec.model.conditional) == ("eps", True, True)
    assert spec.diffusion.schedule.name == "linear"
    assert str(spec.data.dataset.ref) == "no-images:image_size=8,channels=3,num_classes=10"
    assert spec.content is not None
    assert spec.content.classes == tuple("0123456789")
    assert spec.imported is not None
    assert (spec.imported.steps, spec.imported.weighting_known) == (123_000, True)
    assert run.checkpoint_steps() == [0]
    for file in ("ema.safetensors", "model.safetensors"):
        found = load_file(run.checkpoint_path(0) / file)
        assert found.keys() == state.keys()
        assert all(torch.equal(found[name], state[name]) for name in state)


def test_a_weighting_that_nobody_stated_is_unknown(tmp_path: Path) -> None:
    run = added(tmp_path)
    assert run.status().weighting == "unknown"
    assert "weighting    unknown" in succeed("runs", "show", "adm").out
    assert "constant" not in succeed("runs", "show", "adm").out
    assert json.loads(succeed("runs", "list", "--where", "weighting=constant", "--json").out)["runs"] == []
    assert (
        "adm"
        in succeed("runs", "list", "--where", "weighting!=constant and prediction=eps", "--columns", "name,lr").out
    )
    assert json.loads(succeed("runs", "list", "--where", "lr>0", "--json").out)["runs"] == []


def test_what_is_refused_leaves_nothing(tmp_path: Path) -> None:
    state = save_small(tmp_path / "m.pt")
    state["out.2.bias"][0] = torch.nan
    torch.save(state, tmp_path / "nan.pt")
    with pytest.raises(ModelError, match=r"'out.2.bias' holds NaN"):
        add_model("adm", source(tmp_path / "nan.pt"), LOCATION)
    with pytest.raises(UsageError, match="learned beside the network"):
        add_model("adm", source(tmp_path / "m.pt"), LOCATION, weighting="uncertainty")
    with pytest.raises(UsageError, match="takes images of 3x8x8, and those of data set 'digits' are 1x8x8"):
        add_model("adm", source(tmp_path / "m.pt"), LOCATION, dataset="digits")
    assert list(runs_dir().iterdir()) == []


def test_both_names_of_its_weights_take_the_space_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = added(tmp_path)
    first, second = (run.checkpoint_path(0) / f"{name}.safetensors" for name in ("model", "ema"))
    assert first.samefile(second)
    assert disk_use(run.path)["checkpoints"] < 1.1 * first.stat().st_size
    assert folder_size(run.path) < 1.2 * first.stat().st_size
    succeed("runs", "export", "adm", "--out", tmp_path / "adm.tar")  # holds both, as on any file system
    succeed("runs", "import", tmp_path / "adm.tar", "--name", "copy")
    copied = Run(runs_dir() / "copy").checkpoint_path(0)
    assert (copied / "model.safetensors").samefile(copied / "ema.safetensors")
    assert {file.name for file in copied.iterdir()} == {file.name for file in run.checkpoint_path(0).iterdir()}
    monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(OSError("this disk knows no links")))
    plain = added(tmp_path, "plain").checkpoint_path(0)
    first, second = (plain / f"{name}.safetensors" for name in ("model", "ema"))
    assert not first.samefile(second)
    assert first.read_bytes() == second.read_bytes()


def test_numbers_that_the_network_cannot_compute_with_are_refused(tmp_path: Path) -> None:
    state = save_small(tmp_path / "m.pt")
    for tensor, message in (
        (state["out.2.bias"].to(torch.int8), "'out.2.bias' is int8, and the network computes with float32"),
        (state["out.2.bias"] > 0, "'out.2.bias' is bool"),
        (state["out.2.bias"].to(torch.float8_e4m3fn), "'out.2.bias' is float8_e4m3fn.*Save it as float32, float16"),
        (torch.full((6,), 1e39, dtype=torch.float64), "'out.2.bias' holds NaN, infinity or a number beyond float32"),
    ):
        torch.save({**state, "out.2.bias": tensor}, tmp_path / "m.pt")
        with pytest.raises(ModelError, match=message):
            add_model("adm", source(tmp_path / "m.pt"), LOCATION)


def test_a_name_that_is_taken_is_refused_before_the_file_is_read(tmp_path: Path) -> None:
    added(tmp_path)
    with pytest.raises(RunNameError, match=r"'adm' already exists\. Choose another NAME"):
        add_model("adm", source(tmp_path / "missing.pt"), LOCATION)


def test_with_its_data_set_a_model_is_compared_with_that(tmp_path: Path) -> None:
    run = added(tmp_path, dataset="digits", colours=1)
    spec = run.spec()
    assert (
        spec.content
        == session.start(tiny_spec(training__steps=1), LOCATION, name="own", conduct=Conduct(device="cpu"))
        .spec()
        .content
    )
    with pytest.raises(UsageError, match="knows 7 classes, and data set 'digits' has 10"):
        added(tmp_path, "other", dataset="digits", colours=1, classes=7)


def test_its_training_cannot_be_resumed_and_another_may_start_from_it(tmp_path: Path) -> None:
    run = added(tmp_path, dataset="digits", colours=1, learned_variance=False)
    message = error_of("train", "--resume", "adm", "--steps", "5", code=2)
    assert "holds a model from elsewhere" in message
    assert "--init-from adm" in message
    backbone = json.loads((run.path / "spec.json").read_text())["model"]["backbone"]
    spec = tiny_spec(model__backbone={"name": "unet", "options": backbone["options"]}, training__steps=1)
    begun = session.start(spec, LOCATION, name="next", conduct=Conduct(device="cpu"), init_from=run)
    first = load_file(begun.checkpoint_path(0) / "model.safetensors")
    state = load_file(run.checkpoint_path(0) / "ema.safetensors")
    assert all(torch.equal(first[name], state[name]) for name in state)
    assert begun.spec().imported is None


def test_without_images_of_its_own_it_says_how_to_name_some(tmp_path: Path) -> None:
    run = added(tmp_path)
    with pytest.raises(DataError, match="holds no images: it stands for those of a model"):
        session.load_data(run.spec(), LOCATION)
    for command in ("likelihood", "analyze"):
        assert error_of(command, "adm", code=2).startswith("run 'adm' was added without a data set")


def test_the_settings_of_one_may_be_those_of_a_training(tmp_path: Path) -> None:
    run = added(tmp_path, dataset="digits", colours=1)
    outcome = succeed("train", "--spec", str(run.path / "spec.json"), "--dry-run", "--json")
    assert "imported" not in json.loads(outcome.out)["spec"]
    assert "imported is written by debiasctl" in error_of("train", "digits", "--set", "imported.steps=3", code=2)


def test_it_is_sampled_at_once_with_classes_in_equal_parts(tmp_path: Path) -> None:
    added(tmp_path)
    outcome = succeed("sample", "adm", "--num", "20", "--steps", "2", "--json")
    described = json.loads(outcome.out)
    assert described["ema_initial_share"] is None
    assert "has had no training" not in outcome.err
    succeed("sample", "adm", "--num", "2", "--steps", "2", "--class", "7")
    alone = error_of("sample", "adm", "--guide", "self", "--sampler", "ddim:guidance=2", code=2)
    assert alone.endswith("Name another run: --guide RUN\n")
    labels = np.load(Path(described["folder"]) / "images.npz")["labels"]
    assert all(1 <= count <= 3 for count in np.bincount(labels, minlength=10))


def test_an_own_run_of_step_0_is_still_refused(tmp_path: Path) -> None:
    train("own", tiny_spec(training__steps=1, training__checkpoint_every=10))
    (runs_dir() / "own" / "checkpoints" / "00000001" / "manifest.json").unlink()
    assert "before any training" in error_of("sample", "own", "--num", "2", code=2)
