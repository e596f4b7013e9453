"""Pipelines that diffusers saved, added as runs, draw diffusers' own images from the same noise."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from debiasctl_diffusers.source import DiffusersModel
from diffusers import DDIMPipeline, DDPMPipeline, DDPMScheduler, DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from safetensors.torch import load_file, save_file
from worlds import (
    add,
    diffusers_sampler,
    distance,
    loop_images,
    network,
    own_images,
    pipeline_images,
    sampler,
    saved,
)

import debiasctl
from debiasctl.api import ModelError, UsageError

LEADING = {"spacing": "leading", "clip_x0": False}
TRAILING = {"spacing": "trailing", "clip_x0": False}
LINSPACE = {"spacing": "linspace", "clip_x0": False}
WORLDS: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "eps": (DDPMScheduler(clip_sample=False), "linear", LEADING),
    "v": (
        DDPMScheduler(clip_sample=False, prediction_type="v_prediction", beta_schedule="squaredcos_cap_v2"),
        "cosine",
        LEADING,
    ),
    "sample": (
        DDPMScheduler(clip_sample=False, prediction_type="sample", beta_schedule="scaled_linear", beta_end=0.012),
        "scaled-linear",
        LEADING,
    ),
    "zero": (
        DDPMScheduler(
            clip_sample=False,
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
        ),
        "linear",
        TRAILING,
    ),
    "betas": (
        DDPMScheduler(200, clip_sample=False, trained_betas=[1e-3 + 2e-4 * t for t in range(200)]),
        "diffusers-betas",
        LEADING,
    ),
    "short": (DDPMScheduler(100, clip_sample=False), "linear", LEADING),
    "flow": (FlowMatchEulerDiscreteScheduler(), "flow", LINSPACE),
}


def read(folder: Path, **options: Any) -> Any:
    return DiffusersModel(DiffusersModel.Options(path=folder, **options)).read()


@pytest.mark.parametrize("world", list(WORLDS))
def test_ddim_draws_the_images_of_diffusers_own(world: str, tmp_path: Path) -> None:
    scheduler, schedule, spacing = WORLDS[world]
    folder = saved(tmp_path / "pipeline", scheduler)
    described = add("model", folder)
    assert described["schedule"].partition(":")[0] == schedule
    assert described["backbone"].startswith("diffusers-unet:")
    pipeline = (DiffusionPipeline if world == "flow" else DDIMPipeline).from_pretrained(folder)
    found = own_images("model", sampler("ddim", **spacing), 10)
    assert distance(found, pipeline_images(pipeline, 10)) < 1e-5
    assert found.std() > 0.1


def test_clipping_is_that_of_use_clipped_model_output(tmp_path: Path) -> None:
    """diffusers' DDIM clips x0 and by default keeps the eps from before, which this package's sampler does too."""
    folder = saved(tmp_path / "pipeline", DDPMScheduler(prediction_type="v_prediction"))
    add("model", folder)
    pipeline = DDIMPipeline.from_pretrained(folder)
    clipped = own_images("model", sampler("ddim", spacing="leading"), 10)
    assert distance(clipped, pipeline_images(pipeline, 10, use_clipped_model_output=True)) < 1e-5
    as_theirs = own_images("model", diffusers_sampler(scheduler="ddim"), 10)
    assert distance(as_theirs, pipeline_images(pipeline, 10)) < 1e-5


def test_the_note_names_the_pipelines_own_sampler(tmp_path: Path) -> None:
    scheduler = diffusers.DPMSolverMultistepScheduler(
        solver_order=3, timestep_spacing="trailing", lower_order_final=False
    )
    folder = saved(tmp_path / "pipeline", scheduler)
    reference = re.search(r"--sampler 'diffusers:(.+)'", "\n".join(add("model", folder)["notes"]))
    assert reference is not None
    name, _, config = reference[1].partition(",config=")
    assert name == "scheduler=DPMSolverMultistepScheduler"
    made = diffusers_sampler(scheduler="DPMSolverMultistepScheduler", config=json.loads(config))
    wanted = pipeline_images(DDPMPipeline.from_pretrained(folder), 10)
    assert distance(own_images("model", made, 10), wanted) < 1e-5


def test_classes_with_a_row_for_none(tmp_path: Path) -> None:
    unet = network(num_class_embeds=5)
    folder = saved(tmp_path / "pipeline", DDPMScheduler(clip_sample=False), unet)
    add("all", folder)
    add("guided", folder, null_class="true")
    assert debiasctl.run("all").denoiser(device="cpu").null_label is None
    assert debiasctl.run("guided").denoiser(device="cpu").null_label == 4
    labels = torch.tensor([3, 0, 2, 1])
    own = diffusers.DDIMScheduler.from_config(WORLDS["eps"][0].config)
    wanted = loop_images(own, lambda x, t: unet(x, t, class_labels=labels).sample, 10).clamp(-1, 1)
    assert distance(own_images("guided", sampler("ddim", **LEADING), 10, labels), wanted) < 1e-5

    def guide(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        none = unet(x, t, class_labels=torch.full_like(labels, 4)).sample
        return none + 1.5 * (unet(x, t, class_labels=labels).sample - none)

    wanted = loop_images(diffusers.DDIMScheduler.from_config(own.config), guide, 10).clamp(-1, 1)
    assert distance(own_images("guided", sampler("ddim", **LEADING, guidance=1.5), 10, labels), wanted) < 1e-5


def test_a_learned_variance(tmp_path: Path) -> None:
    unet = network(out_channels=6)
    folder = saved(tmp_path / "pipeline", DDPMScheduler(variance_type="learned_range"), unet)
    add("model", folder)
    wanted = pipeline_images(DDPMPipeline.from_pretrained(folder), 10)
    found = own_images("model", sampler("ddpm", spacing="leading"), 10)
    assert distance(found, wanted) < 1e-5


def dit(folder: Path, **options: Any) -> diffusers.DiTTransformer2DModel:
    torch.manual_seed(0)
    given = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2, "sample_size": 8, "in_channels": 4}
    made = diffusers.DiTTransformer2DModel(**{**given, "num_embeds_ada_norm": 6, **options}).eval()
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4, latent_channels=4, scaling_factor=0.5,
    )  # fmt: skip
    diffusers.DiTPipeline(made, vae, diffusers.DDIMScheduler(clip_sample=False)).save_pretrained(folder)
    return made


@pytest.mark.parametrize("outputs", [4, 8])
def test_a_dit_of_latents(outputs: int, tmp_path: Path) -> None:
    dit(tmp_path / "dit", out_channels=outputs)
    model = read(tmp_path / "dit")
    assert (model.channels, model.num_classes, model.null_class) == (4, 6, True)
    assert model.learned_variance == (outputs == 8)
    with pytest.raises(AssertionError, match="draws latents"):
        add("model", tmp_path / "dit")
    from worlds import cli

    code, _, err = cli(
        "runs", "add-model", "model", f"diffusers:path={tmp_path / 'dit'}", "--autoencoder",
        f"diffusers-vae:path={tmp_path / 'dit'}",
    )  # fmt: skip
    assert code == 0, err
    assert "--autoencoder diffusers-vae:path=" in err
    generator = torch.Generator().manual_seed(3)
    x, labels = torch.randn(2, 4, 8, 8, generator=generator), torch.tensor([5, 6])
    transformer = diffusers.DiTTransformer2DModel.from_pretrained(tmp_path / "dit", subfolder="transformer").eval()
    with torch.no_grad():
        wanted = transformer(x, timestep=torch.tensor([300, 300]), class_labels=labels).sample[:, :4]
        found = debiasctl.run("model").denoiser(device="cpu")(x, 300, labels).eps
    assert distance(found, wanted) < 1e-6


def test_the_older_class_of_dit(tmp_path: Path) -> None:
    made = dit(tmp_path / "dit")
    config = tmp_path / "dit" / "transformer" / "config.json"
    settings = json.loads(config.read_text())
    before = read(tmp_path / "dit")
    settings |= {"_class_name": "Transformer2DModel", "cross_attention_dim": None, "use_linear_projection": False}
    config.write_text(json.dumps(settings))
    assert read(tmp_path / "dit").backbone_options == before.backbone_options
    config.write_text(json.dumps(settings | {"cross_attention_dim": 32}))
    with pytest.raises(ModelError, match="cross_attention_dim=32 is not supported"):
        read(tmp_path / "dit")
    assert made.config.num_layers == before.backbone_options["num_layers"]


# ---------------------------------------------------------------- files


def test_pickled_weights_and_variants(tmp_path: Path) -> None:
    folder, half = tmp_path / "full", tmp_path / "half"
    pipeline = DDPMPipeline(unet=network(), scheduler=DDPMScheduler())
    pipeline.save_pretrained(folder, safe_serialization=False)
    pipeline.to(torch.float16).save_pretrained(half, variant="fp16")
    assert read(folder).notes[0] == "read unet/diffusion_pytorch_model.bin"
    found = read(half)
    assert found.notes[0] == "read unet/diffusion_pytorch_model.fp16.safetensors"
    assert {one.dtype for one in found.weights.values()} == {torch.float16}
    assert any("float16" in note for note in found.notes)
    for wrong, at in (("fp32", folder), ("bf16", half)):
        with pytest.raises(UsageError, match=f"no variant '{wrong}'"):
            read(at, variant=wrong)
    add("half", half)
    wanted = pipeline_images(DDIMPipeline.from_pretrained(half, variant="fp16", torch_dtype=torch.float32), 5)
    found_images = own_images("half", diffusers_sampler(scheduler="ddim"), 5)
    assert distance(found_images, wanted) < 1e-5


def test_shards(tmp_path: Path) -> None:
    folder = saved(tmp_path / "pipeline")
    whole = read(folder)
    unet = tmp_path / "pipeline" / "unet"
    tensors = load_file(unet / "diffusion_pytorch_model.safetensors")
    (unet / "diffusion_pytorch_model.safetensors").unlink()
    table = {}
    for number, names in enumerate((list(tensors)[::2], list(tensors)[1::2]), 1):
        file = f"diffusion_pytorch_model-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in names}, unet / file)
        table |= dict.fromkeys(names, file)
    index = unet / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": table}))
    found = read(folder)
    assert found.weights.keys() == whole.weights.keys()
    assert all(torch.equal(found.weights[name], one) for name, one in whole.weights.items())
    index.rename(unet / "diffusion_pytorch_model.safetensors.index.fp16.json")  # as a variant's is called
    assert read(folder).notes[0].endswith("index.fp16.json")
    assert read(folder, variant="fp16").weights.keys() == whole.weights.keys()
    (unet / "diffusion_pytorch_model.safetensors.index.fp16.json").rename(index)
    (unet / "diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelError, match="is missing, which"):
        read(folder)
    index.write_text(json.dumps({"weight_map": dict.fromkeys(table, "../../secret.safetensors")}))
    with pytest.raises(ModelError, match="outside of its folder"):
        read(folder)


def test_averaged_weights(tmp_path: Path) -> None:
    folder = saved(tmp_path / "pipeline")
    ema = diffusers.training_utils.EMAModel(
        network(seed=7).parameters(), model_cls=diffusers.UNet2DModel, model_config=network().config
    )
    ema.optimization_step = 1234
    ema.save_pretrained(folder / "unet_ema")
    found, raw = read(folder), read(folder, ema=False)
    assert found.steps == 1234
    assert raw.steps is None
    assert "unet_ema" in found.notes[0]
    name = "unet.conv_in.weight"
    assert torch.equal(found.weights[name], network(seed=7).state_dict()["conv_in.weight"])
    assert torch.equal(raw.weights[name], network().state_dict()["conv_in.weight"])
    shutil.rmtree(folder / "unet_ema")
    with pytest.raises(UsageError, match="no averaged weights"):
        read(folder, ema=True)


def test_the_networks_own_folder(tmp_path: Path) -> None:
    folder = saved(tmp_path / "pipeline")
    assert read(folder / "unet").weights.keys() == read(folder).weights.keys()  # its scheduler lies beside it
    shutil.move(folder / "unet", tmp_path / "alone")
    with pytest.raises(ModelError, match="scheduler=FOLDER"):
        read(tmp_path / "alone")
    assert read(tmp_path / "alone", scheduler=folder / "scheduler").schedule == "linear"


def test_names_of_attention_before_2023(tmp_path: Path) -> None:
    folder = saved(tmp_path / "pipeline")
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    today = read(folder).weights
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = {
        re.sub(r"\.(to_q|to_k|to_v|to_out\.0)\.", lambda found: f".{old[found[1]]}.", name): one
        for name, one in load_file(file).items()
    }
    assert any(".proj_attn." in name for name in tensors)
    save_file(tensors, file)
    found = read(folder).weights
    assert found.keys() == today.keys()
    assert all(torch.equal(found[name], one) for name, one in today.items())


# ---------------------------------------------------------------- what is refused


def broken(tmp_path: Path, file: str, change: Any) -> Path:
    folder = saved(tmp_path / "pipeline")
    path = folder / file
    if isinstance(change, dict):
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    elif change is None:
        path.unlink()
    else:
        path.write_bytes(change)
    return folder


_SCHEDULER, _UNET, _INDEX = "scheduler/scheduler_config.json", "unet/config.json", "model_index.json"
_TENSORS = "unet/diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (_SCHEDULER, None, "holds no scheduler"),
        (_SCHEDULER, b"{", "is damaged"),
        (_SCHEDULER, b"[]", "is damaged"),
        (_SCHEDULER, {"_class_name": "ScoreSdeVeScheduler"}, "variance exploding"),
        (_SCHEDULER, {"_class_name": "UnheardScheduler"}, "UnheardScheduler"),
        (_SCHEDULER, {"_class_name": "IPNDMScheduler"}, "own noise levels"),
        (_SCHEDULER, {"prediction_type": "trigflow"}, "prediction_type='trigflow'"),
        (_SCHEDULER, {"beta_schedule": "none"}, "refuses its own settings"),
        (_SCHEDULER, {"trained_betas": [0.1, 0.2]}, "trained_betas has 2 values"),
        (_SCHEDULER, {"trained_betas": [0.1] * 999 + [1.5]}, "beta 999 is 1.5"),
        (_SCHEDULER, {"trained_betas": "many"}, "no list of numbers"),
        (_SCHEDULER, {"num_train_timesteps": "1000"}, "no number of timesteps"),
        (_SCHEDULER, {"variance_type": "learned"}, "variance_type=learned"),
        (_SCHEDULER, {"variance_type": "learned_range"}, "no channels for a variance"),
        (_SCHEDULER, {"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous",
                      "prediction_type": "v_prediction"}, "timestep_type=continuous"),
        (_SCHEDULER, {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 500}, "run to 500"),
        (_SCHEDULER, {"_class_name": "FlowMatchEulerDiscreteScheduler", "invert_sigmas": True}, "invert_sigmas"),
        (_SCHEDULER, {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 0}, "shift=0"),
        (_UNET, None, "is no pipeline"),
        (_UNET, {"_class_name": "UNet2DConditionModel"}, "UNet2DConditionModel"),
        (_UNET, {"time_embedding_type": "fourier"}, "time_embedding_type='fourier'"),
        (_UNET, {"class_embed_type": "timestep"}, "class_embed_type='timestep'"),
        (_UNET, {"down_block_types": ["SkipDownBlock2D", "DownBlock2D"]}, "down_block_types"),
        (_UNET, {"norm_num_groups": 3}, "does not divide the width 8"),
        (_UNET, {"attention_head_dim": [4, 4]}, "attention_head_dim"),
        (_UNET, {"new_setting": 1}, "new_setting is no setting"),
        (_UNET, {"sample_size": [8, 16]}, "no square images"),
        (_UNET, {"sample_size": None}, "no square images"),
        (_UNET, {"in_channels": 6}, "takes 6 channels and gives 3"),
        (_UNET, {"num_class_embeds": 0}, "no number of classes"),
        (_TENSORS, None, "holds no diffusion_pytorch_model"),
        (_TENSORS, b"not tensors", "is cut off"),
        (_INDEX, {"_class_name": ["my_pipeline", "MyPipeline"]}, "custom code"),
        (_INDEX, {"unet": ["my_unet", "MyUNet"]}, "custom code"),
        (_INDEX, {"text_encoder": ["transformers", "CLIPTextModel"]}, "text_encoder"),
        (_INDEX, {"vqvae": ["diffusers", "VQModel"]}, "vqvae"),
    ],
)  # fmt: skip
def test_damaged_and_odd_folders(file: str, change: Any, message: str, tmp_path: Path) -> None:
    folder = broken(tmp_path, file, change)
    with pytest.raises(ModelError, match=message):
        read(folder)


def test_settings_that_change_nothing_here_are_no_reason_to_refuse(tmp_path: Path) -> None:
    folder = broken(tmp_path, _SCHEDULER, {"steps_offset": 1, "thresholding": True, "skip_prk_steps": True})
    found = read(folder)
    assert found.schedule == "linear"
    assert any("skip_prk_steps" in note for note in found.notes)
    assert any('"steps_offset":1' in note for note in found.notes)


def test_weights_of_another_network(tmp_path: Path) -> None:
    folder = saved(tmp_path / "pipeline")
    other = saved(tmp_path / "other", unet=network(block_out_channels=(8, 8)))
    shutil.copy(other / _TENSORS, folder / _TENSORS)
    with pytest.raises(AssertionError, match="of another shape"):
        add("model", folder)


def test_nothing_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"Nothing is downloaded: if google/ddpm-cifar10-32 .*hf download"):
        read(Path("google/ddpm-cifar10-32"))
    with pytest.raises(UsageError, match="there is no folder"):
        read(tmp_path / "a" / "b" / "c")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        read(tmp_path / "file")


def test_code_in_a_folder_is_never_run(tmp_path: Path) -> None:
    folder = broken(tmp_path, _INDEX, {"_class_name": ["pipeline", "MyPipeline"]})
    (folder / "pipeline.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    with pytest.raises(ModelError, match="never run"):
        read(folder)
    (folder / _TENSORS).unlink()
    (folder / _INDEX).unlink()

    class Evil:
        def __reduce__(self) -> Any:
            return open, (str(tmp_path / "ran"), "w")

    torch.save({"conv_in.weight": Evil()}, folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(ModelError, match="holds objects of code"):
        read(folder)
    assert not (tmp_path / "ran").exists()


def test_it_writes_no_single_file(tmp_path: Path) -> None:
    saved(tmp_path / "pipeline")
    with pytest.raises(UsageError, match="export-diffusers RUN DIR"):
        DiffusersModel.write(read(tmp_path / "pipeline"), tmp_path / "model.pt")
