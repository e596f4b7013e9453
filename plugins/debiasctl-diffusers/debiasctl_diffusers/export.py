"""A run as a pipeline folder of diffusers."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import debiasctl
from debiasctl.api import (
    Denoiser,
    ExternalModel,
    ImageShape,
    ModelError,
    UsageError,
    atomic_folder,
    state_dict_differences,
)
from debiasctl_diffusers import adm, dit, unet
from debiasctl_diffusers.sampler import NATIVE, process_of_table
from debiasctl_diffusers.setup import shift_of

SAMPLERS = ("ddim", "ddpm")
_FLOW_TIME = 1000
_PIXELS = "DDPMPipeline and DDIMPipeline"


@dataclass(frozen=True)
class Exported:
    """The folder that was written, its pipeline's class, the sampler here that draws the same, and notes."""

    path: Path
    pipeline: str
    sampler: str
    notes: tuple[str, ...]


def export(
    run: str,
    folder: Path,
    *,
    weights: str = "ema",
    checkpoint: int | None = None,
    sampler: str | None = None,
    clip: bool = True,
) -> Exported:
    """Write a run's network and a scheduler of its process to `folder`, which appears whole or not at all.

    `sampler` is ddim or ddpm; unset, it is what the run can be drawn with, ddim first. With `clip`, its scheduler clips
    estimates of x0 to [-1, 1], as samplers here do by default; that of DDIM does it as one of first order that makes
    the same steps.

    Raises:
        UsageError: if the folder exists, or diffusers has no network or pipeline that computes the same.
        CheckpointError: if the checkpoint is damaged.
    """
    if folder.exists() or folder.is_symlink():
        raise UsageError(f"{folder} exists, and is left as it is. Name a folder that does not exist")
    found = debiasctl.run(run)
    if folder.absolute().resolve().is_relative_to(found.path.resolve()):
        raise UsageError(f"{folder} is inside of run '{found.name}'. Name a folder elsewhere")
    denoiser = found.denoiser(weights=weights, checkpoint=checkpoint, device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they were given above
        model = found.model(weights=weights, checkpoint=checkpoint)
    scheduler, same = _scheduler(model, denoiser, sampler, clip=clip and found.spec.data.autoencoder is None)
    network = _network(model)
    pipeline, notes = _pipeline(found, model, network, scheduler)
    with atomic_folder(folder) as temporary:
        pipeline.save_pretrained(str(temporary), safe_serialization=True)
    return Exported(folder, type(pipeline).__name__, same, tuple(notes))


def _network(model: ExternalModel) -> Any:
    """A network of diffusers that computes what the run's does.

    Raises:
        UsageError: if there is none.
    """
    import diffusers

    rows = model.num_classes + model.null_class
    shape = ImageShape(model.image_size, model.channels, model.channels * (1 + model.learned_variance))
    options = dict(model.backbone_options)
    if model.backbone == "diffusers-unet":
        resolved = unet.DiffusersUNet.resolve_options(unet.DiffusersUNet.Options(**options), shape)
        network = diffusers.UNet2DModel(**unet.config_of(resolved, shape, rows))
        return _loaded(network, {name.removeprefix("unet."): one for name, one in model.weights.items()})
    if model.backbone == "diffusers-dit":
        of_dit = dit.DiffusersDiT.resolve_options(dit.DiffusersDiT.Options(**options), shape)
        network = diffusers.DiTTransformer2DModel(**dit.config_of(of_dit, shape, rows))
        return _loaded(network, {name.removeprefix("transformer."): one for name, one in model.weights.items()})
    if model.backbone == "unet":
        network = diffusers.UNet2DModel(**adm.config_of(model))
        return _loaded(network, adm.state_of(model))
    if model.backbone == "dit":
        raise UsageError(
            "export-diffusers: the run's network is a dit, and diffusers' DiTTransformer2DModel computes something "
            "else: the frequencies of its noise levels are spaced over 127 steps where those of DiT's authors are over "
            "128. Train with backbone=diffusers-dit, or write the authors' format: debiasctl runs export-checkpoint "
            "--help"
        )
    raise UsageError(
        f"export-diffusers: diffusers has no network that computes what a '{model.backbone}' does. It has those of "
        "diffusers-unet, diffusers-dit, and unet"
    )


def _loaded(network: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    differences = state_dict_differences(state, network.state_dict())
    if differences:
        raise ModelError(f"export-diffusers: the run's tensors are not those of diffusers' network: {differences}")
    network.load_state_dict(dict(state))
    return network.eval()


def _scheduler(model: ExternalModel, denoiser: Denoiser, sampler: str | None, *, clip: bool) -> tuple[Any, str]:
    """The scheduler in diffusers, and the sampler here that draws the same.

    Raises:
        UsageError: if diffusers has none for what the network predicts.
    """
    import diffusers

    if sampler not in (None, *SAMPLERS):
        raise UsageError(f"export-diffusers: sampler '{sampler}' is not known. Choose {' or '.join(SAMPLERS)}")
    process = process_of_table(denoiser)
    if model.prediction == "flow":
        return _flow(model, process, sampler)
    if model.prediction not in NATIVE:
        raise UsageError(
            f"export-diffusers: the run predicts {model.prediction}, and the pipelines of diffusers that draw without "
            "text know epsilon, sample, v_prediction and flow"
        )
    if process.continuous:
        raise UsageError(
            "export-diffusers: the run was trained between timesteps (schedule.continuous), where diffusers' tables "
            "have no levels"
        )
    learned = model.learned_variance and model.backbone != "diffusers-dit"  # DiTPipeline itself drops the variance
    chosen = sampler or ("ddpm" if learned else "ddim")
    if chosen == "ddim" and learned:
        raise UsageError(
            "export-diffusers: the run has a learned variance, and DDIMScheduler takes none. Export it with ddpm"
        )
    settings = {
        **_betas(model, process),
        "num_train_timesteps": process.num_timesteps,
        "prediction_type": NATIVE[model.prediction],
        # after its last step, unless that is of t = 0, DDPMScheduler adds noise by a learned variance
        "timestep_spacing": "leading" if learned else "trailing",
    }
    same = f"{chosen}:spacing={settings['timestep_spacing']}" + ("" if clip else ",clip_x0=false")
    if chosen == "ddpm":
        variance = "learned_range" if learned else "fixed_small"
        same += ",variance=fixed-small" if model.learned_variance and not learned else ""
        return diffusers.DDPMScheduler(**settings, clip_sample=clip, variance_type=variance), same
    if not clip or process.snr[-1] == 0:
        # DDIMScheduler clips x0 and leaves eps as it was, so that with clipping it makes other steps
        scheduler = diffusers.DDIMScheduler(**settings, clip_sample=False, set_alpha_to_one=True)
        return scheduler, "ddim:spacing=trailing,clip_x0=false"
    # DDIM is DPM-Solver++ of first order (2211.01095, Sec. 4), whose thresholding at 1 is clipping
    order = {"solver_order": 1, "thresholding": True, "sample_max_value": 1.0}
    return diffusers.DPMSolverMultistepScheduler(**settings, **order), same


def _flow(model: ExternalModel, process: Any, sampler: str | None) -> tuple[Any, str]:
    import diffusers

    if sampler == "ddpm":
        raise UsageError("export-diffusers: a flow has no ancestral steps in diffusers. Leave sampler out")
    if model.learned_variance:
        raise UsageError("export-diffusers: a flow of diffusers takes no learned variance")
    if model.schedule != "flow":
        raise UsageError(
            f"export-diffusers: the run predicts a flow on the schedule {model.schedule}, and diffusers' are on flow "
            "alone"
        )
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=_FLOW_TIME, shift=shift_of(process))
    return scheduler, "diffusers:scheduler=FlowMatchEulerDiscreteScheduler"


def _betas(model: ExternalModel, process: Any) -> dict[str, Any]:
    """The settings of the schedule: by name where diffusers has it, or else as betas."""
    zero = bool(process.snr[-1] == 0)
    options, size = model.schedule_options, process.num_timesteps
    if model.schedule in ("linear", "scaled-linear"):
        found: dict[str, Any] = {
            "beta_schedule": model.schedule.replace("-", "_"),
            **{name: float(options[name]) * 1000 / size for name in ("beta_start", "beta_end")},
        }
    elif model.schedule == "cosine" and options["s"] == 0.008 and options["max_beta"] == 0.999:
        found = {"beta_schedule": "squaredcos_cap_v2"}
    else:
        found = {"trained_betas": process.betas.tolist()}
    return {**found, "rescale_betas_zero_snr": zero}


def _pipeline(run: Any, model: ExternalModel, network: Any, scheduler: Any) -> tuple[Any, list[str]]:
    """The pipeline of a network and a scheduler, and what its user has to know.

    Raises:
        UsageError: if diffusers has no pipeline for them.
    """
    import diffusers

    notes = []
    if isinstance(scheduler, diffusers.DDIMScheduler | diffusers.DDPMScheduler):
        size = scheduler.config.num_train_timesteps
        notes.append(
            f"{type(scheduler).__name__} makes steps of {size} // N timesteps, wherever the next one is: N steps are "
            f"the same for an N that divides {size}"
        )
    if model.backbone == "diffusers-dit":
        vae = _vae(run)
        if model.prediction not in NATIVE:
            raise UsageError("export-diffusers: DiTPipeline takes what its network predicts by a table of betas alone")
        if (model.num_classes, model.null_class) != (1000, True):
            notes.append(
                "DiTPipeline takes class 1000 for no class, whatever the network knows: draw with guidance_scale=1"
            )
        names = list(run.spec.content.classes)
        pipeline = diffusers.DiTPipeline(network, vae, scheduler, id2label=dict(enumerate(names)))
        return pipeline, notes
    if run.spec.data.autoencoder is not None:
        raise UsageError(
            f"export-diffusers: the run makes latents by a U-Net, and {_PIXELS} draw images themselves. DiTPipeline "
            "draws latents, with the backbone diffusers-dit"
        )
    if model.num_classes:
        notes.append(
            f"the network is conditional on {model.num_classes} classes, and {_PIXELS} give it none: call "
            "pipeline.unet with class_labels and pipeline.scheduler.step yourself, as the README shows"
        )
    if model.null_class:
        notes.append(
            "the last row of its classes stands for no class: class_labels has it, and null_class=true reads it"
        )
    is_ddim = isinstance(scheduler, diffusers.DDIMScheduler)
    return (diffusers.DDIMPipeline if is_ddim else diffusers.DDPMPipeline)(unet=network, scheduler=scheduler), notes


def _vae(run: Any) -> Any:
    """The AutoencoderKL whose latents the run makes.

    Raises:
        UsageError: if the run makes images, or latents of another autoencoder or on another scale.
    """
    import diffusers

    prepared = run.autoencoder(device="cpu")
    if prepared is None:
        raise UsageError(
            "export-diffusers: the run's diffusers-dit makes images, and the one pipeline for it, DiTPipeline, makes "
            "latents of an AutoencoderKL. The backbones diffusers-unet and unet have pipelines for images"
        )
    config, latents = prepared.settings(), run.spec.content.latents
    if config.get("_class_name", "AutoencoderKL") != "AutoencoderKL" or "scaling_factor" not in config:
        raise UsageError(
            "export-diffusers: the run makes latents of an autoencoder that is none of diffusers'. DiTPipeline needs "
            "an AutoencoderKL (diffusers-vae)"
        )
    scale = float(config["scaling_factor"])
    if any(latents.shift) or any(abs(one / scale - 1) > 1e-6 for one in latents.scale):
        raise UsageError(
            "export-diffusers: the run's latents are shifted, or scaled by channel, and DiTPipeline divides all of "
            "them by one scaling_factor"
        )
    vae = diffusers.AutoencoderKL.from_config(dict(config))
    vae.load_state_dict({name: torch.clone(one) for name, one in prepared.state().items()})
    return vae.eval()
