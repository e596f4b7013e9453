"""Exported runs are pipelines that diffusers loads, which draw what the run draws from the same noise."""

import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from debiasctl_diffusers.command import app
from debiasctl_diffusers.export import _network as network_of
from debiasctl_diffusers.export import export
from diffusers import DDPMScheduler, DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from test_source import dit
from typer.testing import CliRunner
from worlds import (
    add,
    cli,
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
from debiasctl.api import ExternalModel, UsageError

SCHEDULERS = {
    "eps": DDPMScheduler(),
    "v": DDPMScheduler(prediction_type="v_prediction", beta_schedule="squaredcos_cap_v2"),
    "sample": DDPMScheduler(prediction_type="sample", beta_schedule="scaled_linear", beta_end=0.012),
    "zero": DDPMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True),
    "betas": DDPMScheduler(200, prediction_type="v_prediction", trained_betas=[1e-3 + 2e-4 * t for t in range(200)]),
    "flow": FlowMatchEulerDiscreteScheduler(shift=3.0),
}


def made(reference: str) -> Any:
    """A sampler by the reference that the command prints."""
    name, _, options = reference.partition(":")
    given: dict[str, Any] = dict(part.split("=") for part in options.split(",") if part)
    return diffusers_sampler(**given) if name == "diffusers" else sampler(name, **given)


@pytest.mark.parametrize("world", list(SCHEDULERS))
@pytest.mark.parametrize("clip", [True, False])
def test_the_pipeline_draws_what_the_run_draws(world: str, clip: bool, tmp_path: Path) -> None:
    unet = network()
    torch.nn.init.normal_(unet.conv_out.weight, std=0.02)
    add("model", saved(tmp_path / "theirs", SCHEDULERS[world], unet))
    found = export("model", tmp_path / "ours", clip=clip)
    pipeline = DiffusionPipeline.from_pretrained(tmp_path / "ours")
    assert type(pipeline).__name__ == found.pipeline
    images = pipeline_images(pipeline, 10)
    assert distance(own_images("model", made(found.sampler), 10), images) < 1e-5
    assert images.std() > 0.05
    again = add("again", tmp_path / "ours")  # read back
    first, second = debiasctl.run("model"), debiasctl.run("again")
    assert first.spec.model == second.spec.model
    assert again["prediction"] == first.spec.model.prediction
    assert distance(own_images("again", made(found.sampler), 10), images) < 1e-5
    one, other = first.denoiser(device="cpu"), second.denoiser(device="cpu")
    torch.testing.assert_close(one.alphas_cumprod, other.alphas_cumprod, rtol=1e-9, atol=1e-12)


def test_ancestral_steps(tmp_path: Path) -> None:
    for outputs, variance in ((3, "fixed_small"), (6, "learned_range")):
        name, folder = f"of-{outputs}", tmp_path / f"{outputs}"
        add(name, saved(folder / "theirs", DDPMScheduler(variance_type=variance), network(out_channels=outputs)))
        found = export(name, folder / "ours", sampler="ddpm")
        pipeline = DiffusionPipeline.from_pretrained(folder / "ours")
        assert pipeline.scheduler.config.variance_type == variance
        assert distance(own_images(name, made(found.sampler), 10), pipeline_images(pipeline, 10)) < 1e-5
    with pytest.raises(UsageError, match="DDIMScheduler takes none"):
        export("of-6", tmp_path / "not", sampler="ddim")


UNETS = {
    "plain": "channels=16,channel_mult=[1,2],norm_groups=4,num_head_channels=8",
    "deeper": "channels=16,channel_mult=[1,2,2],norm_groups=4,num_res_blocks=2,attention_resolutions=[4,8],"
    "num_head_channels=4,use_new_attention_order=true",
    "older": "channels=16,channel_mult=[1,2],norm_groups=4,resblock_updown=false,use_scale_shift_norm=false,"
    "attention_resolutions=[],num_heads=2",
}


def trained(name: str, *options: str) -> None:
    code, _, err = cli(
        "train", "digits", "--steps", "1", "--batch-size", "4", "--name", name, "--device", "cpu", *options
    )  # fmt: skip
    assert code == 0, err


@pytest.mark.parametrize("options", list(UNETS))
def test_the_built_in_unet_is_mapped_exactly(options: str) -> None:
    from dataclasses import replace
    from importlib.metadata import entry_points

    from debiasctl_diffusers import adm

    from debiasctl.api import ImageShape

    (point,) = entry_points(group="debiasctl.backbones", name="unet")
    cls = point.load()
    given = {key: json.loads(value) for key, value in _pairs(UNETS[options])}
    shape = ImageShape(8, 3, 6)
    resolved = cls.resolve_options(cls.Options(**given), shape)
    torch.manual_seed(0)
    ours = cls(resolved).build(shape, 5).eval()
    for parameter in ours.parameters():  # of which some are zero
        torch.nn.init.normal_(parameter, std=0.1)
    model = ExternalModel(
        "unet", resolved.model_dump(), dict(ours.state_dict()), 8, 3, "eps", "linear", num_classes=4, null_class=True,
        learned_variance=True,
    )  # fmt: skip
    theirs = diffusers.UNet2DModel(**adm.config_of(model)).eval()
    theirs.load_state_dict(adm.state_of(model))
    generator = torch.Generator().manual_seed(1)
    x, t, labels = (
        torch.randn(3, 3, 8, 8, generator=generator),
        torch.tensor([0.0, 40.5, 999.0]),
        torch.tensor([0, 4, 2]),
    )
    with torch.no_grad():
        wanted = ours.double()(x.double(), t, labels)
        found = theirs.double()(x.double(), t, class_labels=labels).sample
    # diffusers embeds t in float32, and so does unet only what it is given so
    assert float((found - wanted).abs().max()) < 2e-5 * float(wanted.abs().max())
    for change, message in (
        ({"channel_mult": (0.5, 1)}, "channel_mult begins with 0.5"),
        ({"resblock_updown": False, "conv_resample": False}, "averages pixels alone"),
        ({"num_heads": 1, "num_head_channels": None, "attention_resolutions": (8, 4)}, "heads of several widths"),
    ):
        with pytest.raises(UsageError, match=message):
            adm.config_of(replace(model, backbone_options={**model.backbone_options, "channel_mult": (1, 2), **change}))


def _pairs(text: str) -> list[list[str]]:
    import re

    return [part.split("=", 1) for part in re.split(r",(?=[a-z_]+=)", text)]


def test_runs_that_were_trained_here(tmp_path: Path) -> None:
    without = ("--set", "model.conditional=false")
    trained("a", "--backbone", f"unet:{UNETS['plain']}", "--prediction", "v", *without)
    unet = "diffusers-unet:block_out_channels=[8,16],layers_per_block=1,norm_num_groups=4,attention_head_dim=4"
    trained("b", "--backbone", unet, "--set", "model.conditional=true", "--set", "model.label_dropout=0.1")
    trained("c", "--backbone", unet, "--schedule", "flow", "--prediction", "flow", *without)
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for name in ("a", "c"):
        found = export(name, tmp_path / name, weights="raw")
        pipeline = DiffusionPipeline.from_pretrained(tmp_path / name)
        denoiser = debiasctl.run(name).denoiser(weights="raw", device="cpu")
        drawn = made(found.sampler)(denoiser, x, num_steps=7, noise=None).clamp(-1, 1)
        pipeline.scheduler.set_timesteps(7)
        theirs = x
        with torch.no_grad():
            for t in pipeline.scheduler.timesteps:
                theirs = pipeline.scheduler.step(pipeline.unet(theirs, t).sample, t, theirs).prev_sample
        assert distance(drawn, theirs.clamp(-1, 1)) < 1e-5
    found = export("b", tmp_path / "b")
    assert any("class_labels" in note for note in found.notes)
    pipeline = DiffusionPipeline.from_pretrained(tmp_path / "b")
    assert pipeline.unet.config.num_class_embeds == 11


def test_what_diffusers_cannot_draw_is_refused(tmp_path: Path) -> None:
    add("edm", saved(tmp_path / "edm", diffusers.EDMEulerScheduler()))
    assert debiasctl.run("edm").spec.model.prediction == "edm"
    torch.manual_seed(0)
    pixels = diffusers.DiTTransformer2DModel(2, 8, 3, 3, num_layers=1, sample_size=8, num_embeds_ada_norm=0)
    pixels.save_pretrained(tmp_path / "dit" / "transformer")
    DDPMScheduler().save_pretrained(tmp_path / "dit" / "scheduler")
    add("dit", tmp_path / "dit")
    assert debiasctl.run("dit").denoiser(device="cpu").null_label is None
    for name, message in (("edm", "predicts edm"), ("dit", "makes images, and the one pipeline")):
        with pytest.raises(UsageError, match=message):
            export(name, tmp_path / "out")
    for backbone, message in (("dit", "127 steps"), ("python", "what a 'python' does")):
        with pytest.raises(UsageError, match=message):
            network_of(ExternalModel(backbone, {}, {}, 8, 3, "eps", "linear"))
    assert not (tmp_path / "out").exists()


def test_a_dit_of_latents_is_written_with_its_autoencoder(tmp_path: Path) -> None:
    dit(tmp_path / "dit", num_embeds_ada_norm=1000, out_channels=8)
    code, _, err = cli(
        "runs", "add-model", "model", f"diffusers:path={tmp_path / 'dit'}", "--autoencoder",
        f"diffusers-vae:path={tmp_path / 'dit'}",
    )  # fmt: skip
    assert code == 0, err
    export("model", tmp_path / "ours")
    theirs, ours = (DiffusionPipeline.from_pretrained(tmp_path / name) for name in ("dit", "ours"))
    assert type(ours) is diffusers.DiTPipeline
    images = [
        one(class_labels=[3, 5], num_inference_steps=4, guidance_scale=2.0, output_type="np",
            generator=torch.Generator().manual_seed(0)).images
        for one in (theirs, ours)
    ]  # fmt: skip
    ours.scheduler = theirs.scheduler
    again = ours(
        class_labels=[3, 5], num_inference_steps=4, guidance_scale=2.0, output_type="np",
        generator=torch.Generator().manual_seed(0),
    ).images  # fmt: skip
    assert abs(again - images[0]).max() == 0
    assert images[1].std() > 0


def test_the_command(tmp_path: Path) -> None:
    add("model", saved(tmp_path / "theirs"))
    run = CliRunner().invoke
    done = run(app, ["model", str(tmp_path / "ours")])
    assert done.exit_code == 0, done.output
    assert str(tmp_path / "ours") in done.output
    assert "--sampler 'ddim:spacing=trailing'" in done.output
    assert "// N" not in done.output
    done = run(app, ["model", str(tmp_path / "more"), "--json", "--no-clip", "--weights", "raw", "--checkpoint", "0"])
    printed = json.loads(done.stdout)
    assert printed["pipeline"] == "DDIMPipeline"
    assert any("divides 1000" in note for note in printed["notes"])
    before = sorted(path.name for path in tmp_path.iterdir())
    code, _, err = cli("export-diffusers", "model", tmp_path / "ours")
    assert code == 2
    assert "exists, and is left as it is" in err
    code, _, err = cli("export-diffusers", "model", debiasctl.run("model").path / "out")
    assert code == 2
    assert "inside of run" in err
    code, _, err = cli("export-diffusers", "none", tmp_path / "other")
    assert code != 0
    assert "none" in err
    code, _, err = cli("export-diffusers", "model", tmp_path / "other", "--sampler", "heun")
    assert code == 2
    assert "ddim or ddpm" in err
    code, _, err = cli("export-diffusers", "model", tmp_path / "other", "--checkpoint", "77")
    assert code != 0
    assert "77" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_loop_with_classes(tmp_path: Path) -> None:
    """The pipelines give no classes, and a loop of one's own, as the README has it, does."""
    unet = network(num_class_embeds=4)
    add("model", saved(tmp_path / "theirs", DDPMScheduler(prediction_type="v_prediction"), unet))
    found = export("model", tmp_path / "ours")
    pipeline = DiffusionPipeline.from_pretrained(tmp_path / "ours")
    labels = torch.tensor([0, 1, 2, 3])
    wanted = loop_images(
        pipeline.scheduler, lambda x, t: pipeline.unet(x, t, class_labels=labels).sample, 10
    ).clamp(-1, 1)  # fmt: skip
    assert distance(own_images("model", made(found.sampler), 10, labels), wanted) < 1e-5
