"""Checkpoints of guided-diffusion's family: read, refused, and written back."""

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from adm_files import GIVEN, SIZE, SMALL, network, save_small
from adm_peer import forward
from safetensors.torch import load_file, save_file
from tiny import LOCATION, error_of, make_spec, succeed, train

from debiasctl import registry
from debiasctl.api import ExternalModel, ImageShape
from debiasctl.builtin.backbones.unet import UNet
from debiasctl.builtin.backbones.unet_presets import PRESETS, Published
from debiasctl.builtin.models.guided_diffusion import GuidedDiffusion
from debiasctl.errors import ModelError, PluginOptionsError, UsageError
from debiasctl.models.build import build_network
from debiasctl.models.external import add_model
from debiasctl.models.weights import load_named_weights
from debiasctl.paths import runs_dir
from debiasctl.registry.refs import parse_ref
from debiasctl.runs.store import find_run


def read(path: Path, given: str = GIVEN) -> ExternalModel:
    return registry.create("models", f"guided-diffusion:path={path},{given}").read()


def built(model: ExternalModel) -> torch.nn.Module:
    shape = ImageShape(model.image_size, model.channels, (1 + model.learned_variance) * model.channels)
    made = UNet(UNet.Options.model_validate(dict(model.backbone_options))).build(shape, model.num_classes)
    made.load_state_dict(dict(model.weights))
    return made.eval()


# ------------------------------------------------------------- what the tensors say

VARIANTS: list[dict[str, Any]] = [
    {},
    {"classes": 0},
    {"classes": 1000, "learned_variance": False},
    {"colours": 1},
    {"resblock_updown": False},
    {"resblock_updown": False, "conv_resample": False},
    {"use_scale_shift_norm": False},
    {"num_res_blocks": 2},
    {"num_res_blocks": 3, "resblock_updown": False},
    {"channel_mult": (1,), "attention_resolutions": ()},
    {"channel_mult": (1, 1, 2), "attention_resolutions": (2,)},
    {"channel_mult": (1, 1, 1), "attention_resolutions": (8, 2), "resblock_updown": False},
    {"channel_mult": (2, 3, 1), "attention_resolutions": (8, 4, 2), "num_res_blocks": 2},
]


@pytest.mark.parametrize("options", VARIANTS, ids=lambda options: ",".join(map(str, options)) or "small")
def test_what_the_tensors_determine_is_inferred(tmp_path: Path, options: dict[str, Any]) -> None:
    state = save_small(tmp_path / "model000123.pt", **options)
    model = read(tmp_path / "model000123.pt")
    assert list(model.weights) == list(state)
    assert all(torch.equal(model.weights[name], state[name]) for name in state)
    assert model.num_classes == options.get("classes", 10)
    assert model.learned_variance == options.get("learned_variance", True)
    assert model.channels == options.get("colours", 3)
    assert model.steps == 123
    expected = {**SMALL, "resblock_updown": True, "use_scale_shift_norm": True} | {
        name: value for name, value in options.items() if name not in ("classes", "colours", "learned_variance")
    }
    if len(expected["channel_mult"]) == 1:  # there is no other size, so that nothing changes it
        expected.pop("resblock_updown")
    found = UNet.Options.model_validate(dict(model.backbone_options))
    for name, value in expected.items():
        assert getattr(found, name) == value, name


@pytest.mark.parametrize(
    "options, given",
    [
        ({}, ""),
        ({"classes": 0, "use_new_attention_order": True, "num_res_blocks": 2}, ""),
        ({"resblock_updown": False, "use_scale_shift_norm": False}, ""),
        ({"channel_mult": (1, 1, 2), "attention_resolutions": (4, 2)}, ""),
    ],
)
def test_the_network_computes_what_the_family_computes(tmp_path: Path, options: dict[str, Any], given: str) -> None:
    state = save_small(tmp_path / "m.pt", **options)
    new_order = options.get("use_new_attention_order", False)
    model = read(tmp_path / "m.pt", GIVEN.replace("order=false", f"order={str(new_order).lower()}"))
    generator = torch.Generator().manual_seed(1)
    x, t = torch.randn(2, 3, SIZE, SIZE, generator=generator), torch.tensor([3.0, 998.0])
    labels = torch.tensor([4, 1]) if model.num_classes else None
    blocks = options.get("num_res_blocks", 1)
    expected = forward(state, x, t, labels, num_res_blocks=blocks, head_channels=16, new_order=new_order)
    assert expected.std() > 0.1
    with torch.no_grad():
        torch.testing.assert_close(built(model)(x, t, labels), expected, rtol=1e-4, atol=1e-4)


def test_what_the_file_does_not_say_is_asked_for_in_one_message(tmp_path: Path) -> None:
    save_small(tmp_path / "m.pt")
    with pytest.raises(UsageError) as caught:
        registry.create("models", f"guided-diffusion:path={tmp_path / 'm.pt'}").read()
    for name in ("image_size", "num_heads", "num_head_channels", "use_new_attention_order", "schedule",
                 "num_timesteps", "dropout", "preset=cifar10"):  # fmt: skip
        assert name in str(caught.value)
    with pytest.raises(UsageError, match=r"as options: num_timesteps \(1000 as a rule\)\. A published"):
        read(tmp_path / "m.pt", GIVEN.replace(",num_timesteps=1000", ""))


def test_a_number_of_heads_may_be_given_instead(tmp_path: Path) -> None:
    save_small(tmp_path / "m.pt", num_heads=4)
    model = read(tmp_path / "m.pt", GIVEN.replace("num_head_channels=16", "num_heads=4"))
    assert (model.backbone_options["num_heads"], model.backbone_options["num_head_channels"]) == (4, None)


def test_heads_that_are_given_override_a_presets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        PRESETS, "cifar10", Published(SIZE, {name: SMALL[name] for name in SMALL if "head" not in name})
    )
    save_small(tmp_path / "m.pt", num_heads=4)
    model = read(tmp_path / "m.pt", "preset=cifar10,num_heads=4")
    assert (model.backbone_options["num_heads"], model.backbone_options["num_head_channels"]) == (4, None)


def test_fractions_of_t_are_not_taken_for_t(tmp_path: Path) -> None:
    save_small(tmp_path / "m.pt")
    given = GIVEN.replace("1000", "4000")
    with pytest.raises(UsageError, match="rescale_timesteps=true or rescale_timesteps=false"):
        read(tmp_path / "m.pt", given)
    with pytest.raises(UsageError, match="not supported"):
        read(tmp_path / "m.pt", f"{given},rescale_timesteps=true")
    assert read(tmp_path / "m.pt", f"{given},rescale_timesteps=false").schedule_options == {"num_timesteps": 4000}


# ------------------------------------------------------------- what is refused


def test_a_mismatch_lists_what_is_missing_unexpected_and_of_another_shape(tmp_path: Path) -> None:
    state = dict(network().state_dict())
    state.pop("middle_block.0.in_layers.0.bias")
    state["ema.decay"] = torch.zeros(())
    state["output_blocks.0.0.in_layers.0.weight"] = torch.zeros(7)
    torch.save(state, tmp_path / "m.pt")
    with pytest.raises(ModelError) as caught:
        read(tmp_path / "m.pt")
    message = str(caught.value)
    assert "1 missing: 'middle_block.0.in_layers.0.bias'" in message
    assert "1 unexpected: 'ema.decay'" in message
    assert "'output_blocks.0.0.in_layers.0.weight' is [7] in the file and [128] in the network" in message


def test_a_preset_of_another_network_is_refused_with_the_numbers(tmp_path: Path) -> None:
    save_small(tmp_path / "m.pt")
    with pytest.raises(ModelError, match=r"preset=faces256: 2\d\d missing: .*, …; .*\d+ of another shape"):
        read(tmp_path / "m.pt", "preset=faces256")


def test_a_network_of_the_family_that_draws_no_images_is_refused(tmp_path: Path) -> None:
    state = dict(network().state_dict())
    state["input_blocks.0.0.weight"] = torch.zeros(32, 6, 3, 3)
    torch.save({**state, "out.2.weight": torch.zeros(9, 32, 3, 3)}, tmp_path / "m.pt")
    with pytest.raises(ModelError, match="takes 6 channels and gives 9"):
        read(tmp_path / "m.pt")


class Harm:
    """What a malicious file has pickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def _foreign(folder: Path) -> dict[str, bytes]:
    """Files that are no checkpoints of the family, by what they are."""
    whole = folder / "whole.pt"
    state = save_small(whole)
    files = {
        "empty": b"",
        "text": b"hello\n",
        "picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "zip": b"PK\x05\x06" + bytes(18),
    }
    content = whole.read_bytes()
    for share in (0.01, 0.5, 0.999):
        files[f"cut at {share}"] = content[: int(len(content) * share)]
    for name, value in {
        "code": {**state, "out.2.bias": Harm(folder / "harm")},
        "a network": torch.nn.Linear(2, 2),
        "a list": [torch.zeros(3)],
        "a number": {"step": 3},
        "nested": {"model": state, "epoch": 3},
        "another": {"x_embedder.proj.weight": torch.zeros(8, 3, 2, 2)},
        "nothing": {},
        "numbers as names": {1: torch.zeros(3)},
        "sparse": {**state, "out.2.bias": torch.zeros(6).to_sparse()},
        "complex": {**state, "out.2.bias": torch.zeros(6, dtype=torch.complex64)},
    }.items():
        torch.save(value, folder / "one.pt")
        files[name] = (folder / "one.pt").read_bytes()
    torch.save({"code": Harm(folder / "harm")}, folder / "one.pt", _use_new_zipfile_serialization=False)
    files["code in an old file"] = (folder / "one.pt").read_bytes()
    files["plain pickle"] = pickle.dumps(Harm(folder / "harm"))
    expanded = torch.zeros(1).expand(6)
    torch.save({**state, "out.2.bias": expanded}, folder / "one.pt")
    files["more than it holds"] = (folder / "one.pt").read_bytes()
    with zipfile.ZipFile(folder / "one.pt", "w", zipfile.ZIP_DEFLATED) as archive, zipfile.ZipFile(whole) as stored:
        for member in stored.infolist():
            archive.writestr(member.filename, stored.read(member))
    files["packed"] = (folder / "one.pt").read_bytes()
    return files


def test_files_that_are_none_are_refused_and_nothing_in_them_is_run(tmp_path: Path) -> None:
    for name, content in _foreign(tmp_path).items():
        for ending in (".pt", ".safetensors"):
            file = tmp_path / f"bad{ending}"
            file.write_bytes(content)
            with pytest.raises(ModelError) as caught:
                add_model("bad", parse_ref(f"guided-diffusion:path={file},{GIVEN}"), LOCATION)
            message = str(caught.value)
            assert str(file) in message, name
            assert "weights_only" not in message, name  # torch advises to switch it off
            assert len(message) < 500, name
    assert not (tmp_path / "harm").exists()
    assert list(runs_dir().iterdir()) == []


@pytest.mark.parametrize("given", [f"guided-diffusion:{GIVEN},path=", "dit:path="])
def test_strange_names_are_quoted_on_one_line(tmp_path: Path, given: str) -> None:
    torch.save({"red\x1b[31m\nnew": torch.zeros(2), "x" * 5000: torch.zeros(1)}, tmp_path / "m.pt")
    with pytest.raises(ModelError) as caught:
        registry.create("models", f"{given}{tmp_path / 'm.pt'}").read()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


def test_a_file_is_read_by_its_content(tmp_path: Path) -> None:
    state = save_small(tmp_path / "m.pt")
    save_file(state, tmp_path / "named-otherwise.pt")
    found = read(tmp_path / "named-otherwise.pt").weights
    assert all(torch.equal(tensor, state[name]) for name, tensor in found.items())


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
        lambda state: {"logvar": torch.zeros(3)} | {f"model.net.{name}": tensor for name, tensor in state.items()},
        lambda state: {"epoch": 3, "ema": state, "model": state},
    ],
)
def test_tensors_that_a_program_wrapped_are_unwrapped_by_the_line_that_is_advised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrapped: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    state = save_small(tmp_path / "m.pt")
    torch.save(wrapped(state), tmp_path / "m.pt")
    with pytest.raises(ModelError) as caught:
        read(tmp_path / "m.pt")
    advised = str(caught.value).partition("torch.save(")[2]
    exec(f"torch.save({advised}")
    assert read(tmp_path / "plain.pt").weights.keys() == state.keys()


@pytest.mark.parametrize("size", [1, 7, 9])
def test_a_size_that_the_network_cannot_halve_is_refused(tmp_path: Path, size: int) -> None:
    save_small(tmp_path / "m.pt")
    with pytest.raises(UsageError, match=f"image_size={size}, and the network halves its images 1 times.* of 2"):
        read(tmp_path / "m.pt", GIVEN.replace(f"image_size={SIZE}", f"image_size={size}"))


def test_a_missing_file_or_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        read(tmp_path / "missing.pt")
    with pytest.raises(ModelError, match="cannot be read: it is a folder"):
        read(tmp_path)
    for source in ("guided-diffusion", "dit"):
        with pytest.raises(PluginOptionsError, match="there is no home folder for '~no-such-user'"):
            registry.create("models", f"{source}:path=~no-such-user/m.pt")


# ------------------------------------------------------------- a run of it, and back


def test_it_is_written_back_byte_for_byte_in_the_order_of_the_family(tmp_path: Path) -> None:
    state = save_small(tmp_path / "m.pt")
    state = {name: tensor.half() if "blocks" in name and tensor.ndim == 4 else tensor for name, tensor in state.items()}
    torch.save(state, tmp_path / "half.pt")  # as a model with use_fp16 holds them
    save_file(state, tmp_path / "half.safetensors")
    for ending in ("pt", "safetensors"):
        source = f"guided-diffusion:path={tmp_path / f'half.{ending}'},{GIVEN}"
        succeed("runs", "add-model", f"adm-{ending}", source)
        outcome = succeed("runs", "export-checkpoint", f"adm-{ending}", tmp_path / f"back-{ending}.pt")
        found = torch.load(tmp_path / f"back-{ending}.pt", weights_only=True)
        assert list(found) == list(state)
        for name, tensor in state.items():
            assert found[name].dtype == tensor.dtype
            assert torch.equal(found[name], tensor)
        assert "--num_channels 32" in outcome.err
        assert "--learn_sigma True --class_cond True" in outcome.err
        assert "NUM_CLASSES = 10" in outcome.err
    succeed("runs", "export-checkpoint", "adm-pt", tmp_path / "back.safetensors", "--weights", "raw")
    back = load_file(tmp_path / "back.safetensors")
    assert all(torch.equal(back[name], state[name]) for name in state)
    assert "already exists" in error_of("runs", "export-checkpoint", "adm-pt", tmp_path / "back.safetensors", code=2)


def test_the_run_samples_with_the_network_of_the_family(tmp_path: Path) -> None:
    state = save_small(tmp_path / "m.pt")
    run = add_model("adm", parse_ref(f"guided-diffusion:path={tmp_path / 'm.pt'},{GIVEN}"), LOCATION)
    made = build_network(run.spec(), image_size=SIZE, channels=3, num_classes=10).eval()
    load_named_weights(run, made, step=0, weights="ema")
    x, t, labels = torch.randn(1, 3, SIZE, SIZE), torch.tensor([500.0]), torch.tensor([9])
    expected = forward(state, x, t, labels, num_res_blocks=1, head_channels=16)
    with torch.no_grad():
        torch.testing.assert_close(made(x, t, labels), expected, rtol=1e-4, atol=1e-4)


OWN = {"channels": 32, "channel_mult": [1, 2], "attention_resolutions": [4], "num_head_channels": 16}


def test_an_own_run_is_written_for_the_programs_of_the_family(tmp_path: Path) -> None:
    settings = {"model__learned_variance": True, "training__steps": 1, "model__prediction": "eps"}
    train("own", make_spec(model__backbone={"name": "unet", "options": OWN}, model__label_dropout=0.1, **settings))
    succeed("runs", "export-checkpoint", "own", tmp_path / "ema_0.9999_000001.pt", "--format", "guided-diffusion")
    model = read(tmp_path / "ema_0.9999_000001.pt")
    stored = load_file(find_run("own").checkpoint_path(1) / "ema.safetensors")
    assert model.num_classes == 11
    assert all(torch.equal(model.weights[name], stored[name]) for name in stored)
    message = error_of("runs", "export-checkpoint", "own", tmp_path / "b.pt", "--checkpoint", "7", code=2)
    assert "no checkpoint '7'" in message


def test_a_network_that_the_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    weights = dict(network(classes=0, learned_variance=False).state_dict())
    options = {**SMALL, "num_heads": None}
    sound = ExternalModel("unet", options, weights, SIZE, 3, "eps", "linear")
    GuidedDiffusion.write(sound, tmp_path / "sound.pt")
    for change, problem in (
        ({"backbone": "dit"}, "this network is a 'dit'"),
        ({"prediction": "v"}, "this network predicts v"),
        ({"backbone_options": {**options, "norm_groups": 16}}, "this network's 16"),
    ):
        with pytest.raises(UsageError, match=problem):
            GuidedDiffusion.write(ExternalModel(**{**vars(sound), **change}), tmp_path / "other.pt")
    assert not (tmp_path / "other.pt").exists()


@pytest.mark.slow
@pytest.mark.parametrize("preset, classes, size, tensors, parameters",
    [("cifar10", 10, 32, 253, 30_473_990), ("faces256", 0, 256, 362, 93_563_910)])  # fmt: skip
def test_the_papers_networks_go_in_and_out(
    tmp_path: Path, preset: str, classes: int, size: int, tensors: int, parameters: int
) -> None:
    options = {**PRESETS[preset].options, **PRESETS[preset].heads}
    state = save_small(tmp_path / "m.pt", size=size, classes=classes, **options)
    assert (len(state), sum(tensor.numel() for tensor in state.values())) == (tensors, parameters)
    succeed("runs", "add-model", "adm", f"guided-diffusion:path={tmp_path / 'm.pt'},preset={preset}")
    succeed("runs", "export-checkpoint", "adm", tmp_path / "back.pt")
    back = torch.load(tmp_path / "back.pt", weights_only=True)
    assert list(back) == list(state)
    assert all(torch.equal(back[name], state[name]) for name in state)
    model = read(tmp_path / "m.pt", f"preset={preset}")
    x, t = torch.randn(1, 3, size, size), torch.tensor([700.0])
    labels = torch.tensor([3]) if classes else None
    expected = forward(state, x, t, labels, num_res_blocks=1, head_channels=64)
    with torch.no_grad():
        torch.testing.assert_close(built(model)(x, t, labels), expected, rtol=1e-3, atol=1e-3 * expected.std())
