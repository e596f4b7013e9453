"""What people type who come from other tools, and what it is called here."""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from debiasctl.cli.options import FLAGS

# an option that other tools have -> what to type here: an option, the first of several that the command has, or more
_OPTIONS: dict[str, str | tuple[str, ...]] = {
    "--learning-rate": "--lr",
    "--max-steps": "--steps", "--num-steps": "--steps", "--train-steps": "--steps", "--max-train-steps": "--steps",
    "--iterations": "--steps", "--iters": "--steps", "--num-inference-steps": "--steps", "--sampling-steps": "--steps",
    "--nfe": "--steps", "--timestep-respacing": "--steps",
    "--batch": "--batch-size", "--bs": "--batch-size", "--train-batch-size": "--batch-size",
    "--output": ("--out", "--name"), "--output-dir": ("--out", "--name"), "--outdir": ("--out", "--name"),
    "--out-dir": ("--out", "--name"), "--save-dir": ("--out", "--name"), "--run-name": "--name", "--exp-name": "--name",
    "--resolution": "--image-size", "--size": "--image-size", "--img-size": "--image-size", "--res": "--image-size",
    "--mixed-precision": "--precision", "--dtype": "--precision", "--fp16": "--precision fp16",
    "--bf16": "--precision bf16", "--use-fp16": "--precision fp16",
    "--num-images": "--num", "--num-samples": "--num", "--n-samples": "--num", "--count": "--num",
    "--gpu": "--device cuda", "--cuda": "--device cuda", "--cpu": "--device cpu",
    "--loss": "--weighting", "--loss-weighting": "--weighting", "--weight": "--weighting", "--loss-type": "--weighting",
    "--snr-gamma": "--weighting min-snr:gamma=5", "--min-snr-gamma": "--weighting min-snr:gamma=5",
    "--p2-gamma": "--weighting p2:gamma=1", "--model": "--backbone", "--arch": "--backbone", "--network": "--backbone",
    "--prediction-type": "--prediction", "--predict": "--prediction", "--parameterization": "--prediction",
    "--noise-schedule": "--schedule", "--beta-schedule": "--schedule", "--noise-scheduler": ("--sampler", "--schedule"),
    "--scheduler": ("--sampler", "--schedule"), "--num-timesteps": "--schedule linear:num_timesteps=1000",
    "--diffusion-steps": "--schedule linear:num_timesteps=1000", "--timestep-sampling": "--timesteps",
    "--num-gpus": "--processes", "--gpus": "--processes", "--nproc": "--processes", "--num-processes": "--processes",
    "--resume-from-checkpoint": "--resume", "--continue": "--resume", "--ckpt": ("--checkpoint", "--resume"),
    "--ckpt-path": ("--checkpoint", "--resume"), "--config": "--spec", "--cfg-file": "--spec",
    "--save-every": "--checkpoint-every", "--save-interval": "--checkpoint-every",
    "--checkpointing-steps": "--checkpoint-every", "--eval-every": "--evaluate-every",
    "--gradient-accumulation-steps": "--accumulation", "--grad-accum": "--accumulation",
    "--wandb": "--track wandb", "--report-to": "--track", "--logger": "--track", "--log-with": "--track",
    "--label": "--class", "--class-label": "--class", "--class-labels": "--class", "--use-ema": "--weights ema",
    "--guidance": "--sampler ddim:guidance=2", "--guidance-scale": "--sampler ddim:guidance=2",
    "--cfg": "--sampler ddim:guidance=2", "--cfg-scale": "--sampler ddim:guidance=2",
    "--guidance-interval": "--sampler ddim:guidance=2,guidance_interval=[0.28,2.9]",
    "--guidance-low": "--sampler ddim:guidance=2,guidance_interval=[0.28,2.9]",
    "--guidance-high": "--sampler ddim:guidance=2,guidance_interval=[0.28,2.9]",
    "--autoguidance": "--guide", "--gnet": "--guide", "--guidance-net": "--guide", "--guide-run": "--guide",
    "--eta": "--sampler ddim:eta=1",
    "--metric": "--metrics", "--metrics": "--metric", "--ref": "--reference", "--fid-stats": "--reference",
    "--ema": "--set ema.decay=0.999", "--ema-decay": "--set ema.decay=0.999", "--ema-rate": "--set ema.decay=0.999",
    "--wd": "--set optimizer.weight_decay=0.01", "--warmup": "--set optimizer.warmup_steps=500",
    "--overwrite": "--force", "--yes-to-all": "--yes",
}  # fmt: skip
_ARGUMENTS = {"--data", "--dataset", "--data-path", "--train-data-dir", "--train-data", "--run", "--checkpoint-dir"}
_SETTING = re.compile(r"[a-z_]+(\.[a-z0-9_]+)+=[^\s)]*")


def improve(error: Any) -> None:
    """Add to an error of the parser what its user may have meant.

    It has `option_name`, `possibilities` and `ctx` where an option is unknown, and a `message`.
    """
    name = getattr(error, "option_name", None)
    command = getattr(getattr(error, "ctx", None), "command", None)
    known = [option for parameter in getattr(command, "params", ()) for option in parameter.opts]
    if name is not None and hasattr(error, "possibilities"):
        meant = _meant(name, known)
        if meant:
            error.message = f"{error.message}. {meant}"
            error.possibilities = None
    elif (found := _SETTING.search(str(getattr(error, "message", "")))) is not None and "--set" in known:
        error.message = f"{error.message}. A setting is given by --set: --set {found[0]}"


def _meant(name: str, known: Sequence[str]) -> str:
    plain = name.lower().replace("_", "-")
    if plain in known:
        return f"It is written {plain}"
    if plain in ("--epochs", "--num-epochs", "--max-epochs", "--epoch") and "--images" in known:
        return (
            "A budget is given in steps (--steps) or in images shown (--images): N epochs are N times the number of "
            "training images, which --dry-run prints"
        )
    if "--guide" in (plain, _OPTIONS.get(plain)) and "--guide" not in known:
        own = "; here a network is guided by itself without a class: --sampler ddim:guidance=2"
        return f"Another run guides samples alone, in the commands sample and evaluate{own * ('--sampler' in known)}"
    meant = _OPTIONS.get(plain, ())
    for text in (meant,) if isinstance(meant, str) else meant:
        if text.split(" ")[0] in known:
            stored = " (runs are kept in the store: see debiasctl runs path)" if text == "--name" else ""
            return f"Here it is {text}{stored}"
    if plain in _ARGUMENTS:
        first = next((option for option in known if not option.startswith("-")), None)
        return f"Give it as the argument, without an option: {command_words(first)}" if first else ""
    if "--set" in known and (setting := _setting(plain.removeprefix("--").replace("-", "_"))):
        return f"It is a setting: --set {setting}=VALUE"
    nearest = get_close_matches(plain, [option for option in known if option.startswith("--")], n=1, cutoff=0.7)
    return f"Did you mean {nearest[0]}?" if nearest else ""


def command_words(argument: str) -> str:
    """How an argument is given, in words."""
    return {"dataset": "debiasctl train digits, or a folder's path"}.get(argument, argument.upper())


def _setting(name: str) -> str | None:
    """The full name of the only setting of a run spec with this last part, if it has no option of its own."""
    from debiasctl.specs.describe import describe_spec

    names = {setting.name for section in describe_spec() for setting in section.settings}
    found = [full for full in sorted(names) if full.rpartition(".")[2] == name and full not in FLAGS]
    return found[0] if len(found) == 1 else None
