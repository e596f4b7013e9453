"""How the programs of guided-diffusion load a network that was written for them."""

from debiasctl.api import ExternalModel
from debiasctl.builtin.backbones.unet import UNet

_CLASSES = 1000  # NUM_CLASSES in the family's script_util.py
_SIZES_WITH_DEFAULTS = (64, 128, 256, 512)  # whose channel_mult its programs fill in


def how_to_load(model: ExternalModel, options: UNet.Options, classes: int) -> tuple[str, ...]:
    """The options of its programs that describe the network, and what these cannot say."""
    heads = (
        f"--num_heads {options.num_heads}" if options.num_heads else f"--num_head_channels {options.num_head_channels}"
    )
    flags = {
        "image_size": model.image_size,
        "num_channels": options.channels,
        "channel_mult": ",".join(f"{factor:g}" for factor in options.channel_mult or ()),
        "num_res_blocks": options.num_res_blocks,
        "attention_resolutions": ",".join(map(str, options.attention_resolutions or ())),
        "resblock_updown": options.resblock_updown,
        "use_scale_shift_norm": options.use_scale_shift_norm,
        "use_new_attention_order": options.use_new_attention_order,
        "dropout": f"{options.dropout:g}",
        "learn_sigma": model.learned_variance,
        "class_cond": classes > 0,
        "predict_xstart": model.prediction == "x0",
        "diffusion_steps": model.schedule_options.get("num_timesteps", 1000),
        "noise_schedule": model.schedule,
    }
    notes = [f"guided-diffusion loads it with {' '.join(f'--{name} {value}' for name, value in flags.items())} {heads}"]
    if classes not in (0, _CLASSES):
        null = ", the last of which stands for no class" if model.null_class else ""
        notes.append(f"it embeds {classes} classes{null}: set NUM_CLASSES = {classes} in its script_util.py")
    if model.schedule not in ("linear", "cosine"):
        notes.append(f"guided-diffusion has no schedule '{model.schedule}': it would sample with another one than this")
    if model.channels != 3:
        notes.append(f"it takes {model.channels} channel: build UNetModel with in_channels={model.channels} yourself")
    if not options.conv_resample:
        notes.append("it changes the size without convolutions: build UNetModel with conv_resample=False yourself")
    if not options.attention_resolutions:
        notes.append(
            "it has attention in the middle block alone: build UNetModel with attention_resolutions=() yourself"
        )
    if any(factor != int(factor) for factor in options.channel_mult or ()) and (
        model.image_size not in _SIZES_WITH_DEFAULTS
    ):
        notes.append("its programs read whole numbers in channel_mult alone: build UNetModel yourself")
    return tuple(notes)
