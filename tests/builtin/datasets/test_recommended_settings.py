import pytest
from PIL import Image

from debiasctl.api import DataLocation
from debiasctl.errors import DebiasctlError
from debiasctl.models.build import build_parameterization
from debiasctl.models.initial_share import planned_note
from debiasctl.specs.files import parse_setting
from debiasctl.specs.resolve import load_stored_spec, resolve_spec
from debiasctl.training.estimate import estimate


@pytest.mark.parametrize("name", ["digits", "photo-patches", "gaussian-mixture", "mnist", "fashion-mnist", "cifar10"])
def test_recommended_settings_make_a_whole_spec(name, tmp_path):
    spec, info = resolve_spec([{"data": {"dataset": name}}], DataLocation(None, tmp_path))
    assert spec.training.checkpoint_every <= spec.training.steps
    assert info.num_heldout > 0


@pytest.mark.parametrize("size", [8, 16, 17, 20, 28, 32, 48, 64, 100, 256])
def test_so_do_a_folders_at_any_size(size, tmp_path):
    for number in range(2):
        Image.new("RGB", (size, size), (number,) * 3).save(tmp_path / f"{number}.png")
    dataset = {"name": "folder", "options": {"path": str(tmp_path)}}
    spec, info = resolve_spec([{"data": {"dataset": dataset}}], DataLocation(None, tmp_path / "cache"))
    assert info.image_size == size
    assert spec.model.conditional is False


def test_cifar10_is_the_published_setup(tmp_path):
    spec, _ = resolve_spec([{"data": {"dataset": "cifar10"}}], DataLocation(None, tmp_path))
    backbone = spec.model.backbone
    assert (backbone.name, backbone.options["channels"], list(backbone.options["channel_mult"])) == (
        "unet",
        128,
        [1, 2, 2, 2],
    )
    assert (backbone.options["num_res_blocks"], list(backbone.options["attention_resolutions"])) == (1, [16])
    assert (spec.optimizer.lr, spec.optimizer.weight_decay, spec.ema.decay) == (2e-5, 0.0, 0.9999)
    assert (spec.training.batch_size, spec.training.steps, spec.model.conditional) == (32, 500_000, True)
    assert spec.data.horizontal_flip
    assert spec.model.learned_variance


def test_cifar10s_network_has_the_published_size(tmp_path):
    spec, info = resolve_spec(
        [{"data": {"dataset": "cifar10"}}, parse_setting("training.batch_size=1")], DataLocation(None, tmp_path)
    )
    assert estimate(spec, info).parameters == 30_473_990  # guided-diffusion's, with a learned variance


def picture_folder(path, size):
    for number in range(2):
        Image.new("RGB", (size, size), (number,) * 3).save(path / f"{number}.png")
    return {"data": {"dataset": {"name": "folder", "options": {"path": str(path)}}}}


@pytest.mark.parametrize("size, learned", [(32, False), (48, True), (64, True)])
def test_folders_learn_the_variance_where_they_have_the_papers_setup(size, learned, tmp_path):
    spec, _ = resolve_spec([picture_folder(tmp_path, size)], DataLocation(None, tmp_path / "cache"))
    assert spec.model.learned_variance is learned
    for steps in (300, spec.training.steps):
        assert planned_note(spec.ema, steps, batch_size=spec.training.batch_size) is None


@pytest.mark.parametrize("schedule", ["edm", "cosine:continuous=true", "linear:continuous=true"])
def test_a_continuous_schedule_leaves_the_recommended_variance_out(schedule, tmp_path):
    location = DataLocation(None, tmp_path)
    layers = [{"data": {"dataset": "cifar10"}}, {"diffusion": {"schedule": schedule}}]
    spec, _ = resolve_spec([*layers, {"model": {"prediction": "v"}}], location)
    assert not spec.model.learned_variance
    build_parameterization(spec)
    asked, _ = resolve_spec([*layers, {"model": {"prediction": "v", "learned_variance": True}}], location)
    with pytest.raises(DebiasctlError, match="a continuous schedule has no such steps"):
        build_parameterization(asked)


def test_a_stored_spec_without_a_learned_variance_stays_so(tmp_path):
    spec, _ = resolve_spec([{"data": {"dataset": "cifar10"}}], DataLocation(None, tmp_path))
    for stored in (spec, spec.model_copy(update={"model": spec.model.model_copy(update={"learned_variance": False})})):
        assert load_stored_spec(stored.model_dump_json(), "spec.json") == stored
        again, _ = resolve_spec([], DataLocation(None, tmp_path), file=stored.model_dump(mode="json"))
        assert again.model == stored.model
