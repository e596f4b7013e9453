"""`debiasctl runs add-model` and `runs export-checkpoint`: models that other software trained, or is to load."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from debiasctl.cli import options
from debiasctl.cli.completion import complete_plugin
from debiasctl.cli.options import option
from debiasctl.cli.output import note, print_json, say, show_log

if TYPE_CHECKING:
    from debiasctl.registry.refs import PluginRef
    from debiasctl.runs.store import Run
    from debiasctl.specs.sections import RunSpec


def add_model(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The run's name here.")],
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE:OPTIONS",
            help="Where the model comes from, such as guided-diffusion:path=FILE.pt,preset=cifar10.",
            autocompletion=complete_plugin("models"),
        ),
    ],
    dataset: Annotated[
        str | None,
        option(
            "--dataset",
            metavar="DATASET|PATH",
            help="The images that it was trained on, which evaluate, likelihood and analyze compare it with.",
            autocompletion=complete_plugin("datasets"),
            show_default=False,
        ),
    ] = None,
    weighting: Annotated[
        str | None,
        option(
            "--weighting",
            help="The loss weighting that it was trained with, if it is known.",
            autocompletion=complete_plugin("weightings"),
            show_default=False,
        ),
    ] = None,
    autoencoder: Annotated[
        str | None,
        option(
            "--autoencoder",
            help="What decodes the latents of a model that draws such, for example diffusers-vae:path=FOLDER.",
            autocompletion=complete_plugin("autoencoders"),
            show_default=False,
        ),
    ] = None,
    data_dir: Annotated[Path | None, options.DATA_DIR] = None,
    as_json: Annotated[bool, options.AS_JSON] = False,
) -> None:
    """Add a model that other software trained as a run, which is sampled, measured and compared like any other.

    A file's tensors are copied into the run, and nothing that it holds is run; with python, your own function runs
    whenever the model is used. See: debiasctl plugins list models

    \b
    Examples:
      debiasctl runs add-model adm guided-diffusion:path=ema_0.9999_500000.pt,preset=cifar10 --dataset cifar10
      debiasctl runs add-model ffhq guided-diffusion:path=ffhq_p2.pt,preset=faces256 --weighting p2
      debiasctl runs add-model dit dit:path=DiT-XL-2-256x256.pt --autoencoder diffusers-vae:path=sd-vae
      debiasctl runs add-model mine python:factory=net:make,input=vp,predicts=eps,image_size=32 --dataset cifar10
    """
    from debiasctl import registry
    from debiasctl.cli.dataset import dataset_named
    from debiasctl.cli.locations import data_location

    location = data_location(data_dir)
    reference = registry.as_ref(source)
    registry.find("models", reference.name)  # refused before torch is imported
    if weighting is not None:
        registry.find("weightings", registry.as_ref(weighting).name)
    if autoencoder is not None:
        registry.find("autoencoders", registry.as_ref(autoencoder).name)
    data = None if dataset is None else dataset_named(dataset)
    show_log()
    from debiasctl.models.external import add_model as add

    run = add(name, reference, location, dataset=data, weighting=weighting, autoencoder=autoencoder)
    spec = run.spec()
    if as_json:
        print_json({"name": run.name, "path": str(run.path), **described(spec)})
        return
    for text in notes_on(spec):
        note(f"note: {text}")
    say(run.name)
    _next(run, spec)


def export_checkpoint(
    context: typer.Context,
    run: Annotated[str, options.RUN],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write: .pt, or .safetensors.")],
    format_: Annotated[
        str | None,
        option(
            "--format",
            argument="format",
            help="The format's name (default: the one that the model came in, or its backbone's).",
            autocompletion=complete_plugin("models"),
            show_default=False,
        ),
    ] = None,
    weights: Annotated[str, options.WEIGHTS] = "ema",
    checkpoint: Annotated[str | None, options.CHECKPOINT] = None,
    force: Annotated[bool, option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a run's weights in the format of other software, which loads them as its own; prints the file's path.

    \b
    Examples:
      debiasctl runs export-checkpoint cifar10-debiased-0 ema_0.9999_500000.pt
      debiasctl runs export-checkpoint adm adm.safetensors --weights raw
    """
    from debiasctl import registry
    from debiasctl.cli.messages import with_options
    from debiasctl.cli.standing import named_run, note_standing, pin_trained

    if format_ is not None:
        registry.find("models", format_)
    found = named_run(run)
    step = pin_trained(found, checkpoint, context.with_resource(ExitStack()))
    from debiasctl.models.export import export_checkpoint as export

    note_standing(found, found.spec(), step)
    written, notes = export(found, file, step=step, weights=weights, format=format_, force=force)
    for text in notes:
        note(f"note: {with_options(text)}")
    say(written)


def facts_of(spec: "RunSpec") -> dict[str, str]:
    """The facts about a model from elsewhere, as `runs show` prints them."""
    about, imported = described(spec), spec.imported
    assert imported is not None, "the run holds a model from elsewhere"
    steps, classes = about["steps"], about["num_classes"]
    return {
        "model from": about["source"],
        "trained": "for an unknown number of steps" if steps is None else f"for {steps:,} steps",
        "data set": about["dataset"],
        "weighting": about["weighting"] or "unknown",
        "schedule": about["schedule"],
        "prediction": about["prediction"],
        "variance": "learned" if about["learned_variance"] else "not learned",
        "classes": f"{classes} that it is conditional on" if classes else "none",
        "backbone": about["backbone"],
        "sha256": imported.sha256,
        **{f"note {number}": text for number, text in enumerate(imported.notes, 1)},
    }


def described(spec: "RunSpec") -> dict[str, Any]:
    """The facts about a model from elsewhere, as JSON holds them."""
    assert spec.imported is not None, "the run holds a model from elsewhere"
    content = spec.content
    return {
        "source": _given(spec.imported.source.ref),
        "sha256": spec.imported.sha256,
        "steps": spec.imported.steps,
        "backbone": str(spec.model.backbone.ref),
        "prediction": spec.model.prediction,
        "schedule": str(spec.diffusion.schedule.ref),
        "learned_variance": spec.model.learned_variance,
        "num_classes": len(content.classes) if content is not None and spec.model.conditional else 0,
        "weighting": spec.known_weighting,
        "dataset": str(spec.data.dataset.ref),
        "notes": list(spec.imported.notes),
    }


def _given(source: "PluginRef") -> str:
    """A source with the options that were given."""
    from debiasctl.registry.refs import PluginRef

    return str(PluginRef(source.name, {name: value for name, value in source.options.items() if value is not None}))


def notes_on(spec: "RunSpec") -> list[str]:
    """What a user should know of a model that was added: what was inferred, and what nobody has said."""
    assert spec.imported is not None, "the run holds a model from elsewhere"
    found = list(spec.imported.notes)
    if not spec.imported.weighting_known:
        found.append("the loss weighting that it was trained with is not known. State it, if you know it: --weighting")
    return found


def _next(run: "Run", spec: "RunSpec") -> None:
    note(f"next: debiasctl runs show {run.typed}")
    note(f"next: debiasctl sample {run.typed} --out {run.name}.png")
    if spec.content is not None and spec.content.num_train:
        note(f"next: debiasctl evaluate {run.typed}")
