import pytest
from PIL import Image

from debiasctl.api import DataLocation
from debiasctl.specs.resolve import resolve_spec


@pytest.mark.parametrize("name", ["digits", "photo-patches", "mnist", "fashion-mnist", "cifar10"])
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
