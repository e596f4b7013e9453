"""Every option that commands share, or that stands for a setting, declared once: name, help, completion, setting."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import typer

from debiasctl.cli.completion import (
    complete_choices,
    complete_metrics,
    complete_plugin,
    complete_run,
    complete_values,
    complete_where,
)
from debiasctl.errors import UsageError
from debiasctl.reading.user_text import whole_number
from debiasctl.wording import quoted

if TYPE_CHECKING:
    from debiasctl.runs.filters import Filter

FLAGS: dict[str, str] = {}  # a setting of a spec, or a function's argument -> the option that gives it
SETTINGS: dict[str, str] = {}  # an option of `train` -> the setting of a spec that it stands for
GROUPS: dict[str, set[str]] = {}  # a group of options that are allowed or refused together -> their names


def option(
    name: str,
    *more: str,
    setting: str | None = None,
    argument: str | None = None,
    group: str | None = None,
    **details: Any,
) -> Any:
    """Make a `typer.Option`, and register it in FLAGS under the argument that it sets.

    By default that is its name in snake case. `setting` is the one of a run spec, such as `training.batch_size`, that
    `train` sets by it; `group` is its key in GROUPS.
    """
    if group is not None:
        GROUPS.setdefault(group, set()).add(name)
    on = name.partition("/")[0]  # of an option and the one that says no
    FLAGS[argument or on.removeprefix("--").replace("-", "_")] = on
    if setting is not None:
        FLAGS[setting] = name
        SETTINGS[name] = setting
    return typer.Option(name, *more, **details)


def run_argument(metavar: str = "RUN", help: str = "A run: its name, the beginning of it, or a path.") -> Any:
    """An argument that names a run, or several."""
    return typer.Argument(metavar=metavar, help=help, autocompletion=complete_run, show_default=False)


def _device(context: typer.Context, device: str) -> str:
    """Refuse an unknown device at once, whether it will be computed on or not."""
    from debiasctl.compute.device_names import check_device_name

    if not context.resilient_parsing:
        check_device_name(device)
    return device


# groups
RESUME = "allowed beside --resume"
SAMPLING = "of a run's samples"

RUN = run_argument()
AS_JSON = option("--json", group=RESUME, help="Print the result as JSON.")
DATA_DIR = option("--data-dir", group=RESUME, help="Where data sets lie (default: DEBIASCTL_DATA).", show_default=False)
DATA = option(
    "--data", group=RESUME, argument="data_path", metavar="PATH", show_default=False,
    help="Where the run's images are now, if they have moved since it was trained.",
)  # fmt: skip
DEVICE = option(
    "--device", group=RESUME, help="auto, cpu, cuda, or one GPU: cuda:1.", callback=_device,
    autocompletion=complete_values("auto", "cpu", "cuda"),
)  # fmt: skip
PROCESSES = option("--processes", group=RESUME, min=1, help="Processes to work in, on this machine.")

# how a run is sampled, and of which weights
CHECKPOINT = option(
    "--checkpoint", group=SAMPLING, help="The checkpoint's step (default: the last).", show_default=False
)
WEIGHTS = option(
    "--weights", group=SAMPLING, help="ema, ema:LENGTH (see the command ema) or raw.",
    autocompletion=complete_values("ema", "raw"),
)  # fmt: skip
SAMPLER = option("--sampler", group=SAMPLING, help="Sampler.", autocompletion=complete_plugin("samplers"))
GUIDE = option(
    "--guide", group=SAMPLING, metavar="RUN[:checkpoint=N,...]", show_default=False, autocompletion=complete_run,
    help="A weaker network that guidance leads away from (autoguidance): a run, or self for an earlier checkpoint of "
    "the run. Give a scale too: --sampler ddim:guidance=2. Options: checkpoint, weights, unconditional=true.",
)  # fmt: skip
NUM = option("--num", "-n", group=SAMPLING, min=2, help="Images to draw.")
FEATURES = option(
    "--features", autocompletion=complete_plugin("features"), show_default=False,
    help="Feature extractor (default: local for data with classes, local-ssl without, or the next of local, local-ssl "
    "and pixels that the data suit; for statistics alone those that they name, or inception).",
)  # fmt: skip
SAMPLING_STEPS = option(
    "--steps", group=SAMPLING, show_default=False,
    help="Sampling steps; several, separated by commas (default: 50, or all timesteps of a schedule that has fewer).",
)  # fmt: skip
SAMPLING_SEED = option(
    "--seed",
    group=SAMPLING,
    min=0,
    max=2**63 - 1,
    help="Seed of the samples: image i depends on (seed, i) alone (default: the run's training seed; for a strip, the "
    "first run's).",
)
SAMPLING_BATCH = option("--batch-size", group=SAMPLING, metavar="N", help="Images drawn at a time; auto: what fits.")
METRICS = option(
    "--metrics", help="Only these metrics, separated by commas (default: all).", autocompletion=complete_metrics,
    show_default=False,
)  # fmt: skip
HTML = option("--html", metavar="FILE", help="Write a report as one HTML file that needs no network.")
OPEN_PAGE = option("--open", argument="open", help="Open the report of --html in a browser.")
WIDTH = option(
    "--width", help="Of a plot: a paper's page (default) or column.", show_default=False,
    autocompletion=complete_values("page", "column"),
)  # fmt: skip
SAMPLING_PRECISION = option(
    "--precision", group=SAMPLING, help="The network's: fp32, bf16 or (on a GPU) fp16.",
    autocompletion=complete_values("fp32", "bf16", "fp16"),
)  # fmt: skip

# settings of a run spec
WEIGHTING = option(
    "--weighting", setting="loss.weighting", help="Loss weighting (default: debiased).",
    autocompletion=complete_plugin("weightings"),
)  # fmt: skip
NORMALIZE = option(
    "--normalize", setting="loss.normalize",
    help="mean: effective weight of mean 1 (default); none: the weight as published.",
    autocompletion=complete_choices("loss.normalize"),
)  # fmt: skip
TIMESTEPS = option(
    "--timesteps", setting="loss.timesteps", help="How t is drawn.", autocompletion=complete_plugin("timesteps")
)
AUTOENCODER = option(
    "--autoencoder", setting="data.autoencoder", autocompletion=complete_plugin("autoencoders"), show_default=False,
    help="Train on latents of the images that this autoencoder makes, such as pca:patch=4,components=16.",
)  # fmt: skip
BACKBONE = option(
    "--backbone", setting="model.backbone", help="Network.", autocompletion=complete_plugin("backbones")
)  # fmt: skip
PREDICTION = option(
    "--prediction", setting="model.prediction", help="What the network predicts: eps, x0, v, edm or flow.",
    autocompletion=complete_choices("model.prediction"),
)  # fmt: skip
SCHEDULE = option(
    "--schedule", setting="diffusion.schedule", help="Noise schedule.", autocompletion=complete_plugin("schedules")
)
EXTENSION = option(
    "--extension", setting="extensions", show_default=False, autocompletion=complete_plugin("extensions"),
    help="An extension of training, or none; may be given again.",
)  # fmt: skip
STEPS = option(
    "--steps", setting="training.steps", group=RESUME, min=1, help="Training budget in steps.", show_default=False
)
IMAGES = option(
    "--images", group=RESUME, min=1, help="Training budget in images, instead of --steps.", show_default=False
)  # fmt: skip
SPEC_FILE = option("--spec", metavar="FILE", help="Settings in a JSON, YAML or TOML file.", show_default=False)
IMAGE_SIZE = option(
    "--image-size", setting="data.dataset.image_size", min=4, max=1024, metavar="PIXELS", show_default=False,
    help="Height and width that images are resized to, for data sets with that option.",
)  # fmt: skip
BATCH_SIZE = option("--batch-size", setting="training.batch_size", min=1, help="Images per step.", show_default=False)
LR = option("--lr", setting="optimizer.lr", help="Learning rate.", show_default=False)
SEED = option("--seed", setting="training.seed", min=0, help="Seed of everything random (default: 0).")
CHECKPOINT_EVERY = option(
    "--checkpoint-every", setting="training.checkpoint_every", min=1, help="Steps between checkpoints.",
    show_default=False,
)  # fmt: skip
EVALUATE_EVERY = option(
    "--evaluate-every", setting="monitor.every", min=1, metavar="IMAGES", show_default=False,
    help="Draw a grid and measure samples after every so many images.",
)  # fmt: skip
PRECISION = option(
    "--precision", setting="compute.precision",
    help="fp32, tf32, bf16, fp16 or fp64 (default: bf16 on a GPU that has it, else fp32).",
    autocompletion=complete_choices("compute.precision"),
)  # fmt: skip
ACCUMULATION = option(
    "--accumulation", setting="compute.accumulation", min=1, show_default=False,
    help="Parts that a batch is computed in, to save memory.",
)  # fmt: skip
DETERMINISTIC = option(
    "--deterministic", setting="compute.deterministic", help="On a GPU: the same bits every time, if slower."
)


WHERE = option(
    "--where", metavar="CONDITIONS", help="Only runs that meet all conditions: 'weighting=debiased and lr<1e-3'.",
    autocompletion=complete_where(lambda: short_names()), show_default=False,
)  # fmt: skip


def short_names() -> dict[str, str]:
    """The short names of settings in a filter: those of the options of `train`, and of its argument."""
    return {"dataset": "data.dataset"} | {name.removeprefix("--"): setting for name, setting in SETTINGS.items()}


def parse_filter(texts: Sequence[str] | None) -> "Filter | None":
    """What `--where` says, which may be given several times; None if it is not given.

    Raises:
        UsageError: if it cannot be read.
    """
    from debiasctl.runs.filters import parse_where

    return None if not texts else parse_where(" and ".join(texts), short_names())


def in_group(context: typer.Context, group: str) -> list[str]:
    """The command's options of a group, in the order of declaration."""
    return [parameter.opts[0] for parameter in context.command.params if parameter.opts[0] in GROUPS[group]]


def given(context: typer.Context) -> Iterator[tuple[str, Any]]:
    """Name (an argument's in capitals) and value of each that the user gave, in the order of declaration."""
    for parameter in context.command.params:
        source = parameter.name and context.get_parameter_source(parameter.name)
        if source and source.name != "DEFAULT":
            is_argument = parameter.param_type_name == "argument"
            yield parameter.name.upper() if is_argument else parameter.opts[0], context.params[parameter.name]


def given_settings(context: typer.Context) -> list[dict[str, Any]]:
    """Layers of a run spec, one for each option given to `train` that stands for a setting."""
    layers = []
    for name, value in given(context):
        if name in SETTINGS:
            for part in reversed(SETTINGS[name].split(".")):
                value = {part: value}
            layers.append(value)
    return layers


def parse_steps(text: str, *, option: str = "--steps") -> list[int]:
    """`10,20,50` as numbers, each once, in the order given."""
    parts = [part.strip() for part in text.split(",")]
    numbers = [whole_number(part) or 0 for part in parts]
    if not all(numbers):
        raise UsageError(
            f"{option} {quoted(text)}: give whole numbers from 1, separated by commas, for example 10,20,50"
        )
    return list(dict.fromkeys(numbers))


def parse_width(text: str | None, *, plotted: bool = True) -> Literal["page", "column"]:
    """The width of a plot, which is a page's unless the text says `column`; `plotted` says whether there is a plot."""
    if text is not None and not plotted:
        raise UsageError("--width is for a plot. Say where to write it: --plot curve.pdf")
    if text not in (None, "page", "column"):
        raise UsageError(f"--width {quoted(text)}: choose page or column")
    return "column" if text == "column" else "page"


def parse_batch_size(text: str) -> int | None:
    """A number of images, or None for `auto`."""
    if text == "auto":
        return None
    number = whole_number(text)
    if not number:
        raise UsageError(f"--batch-size {quoted(text, mark='')}: give a whole number from 1, or auto")
    return number
