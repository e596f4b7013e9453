"""What `debiasctl train --dry-run` shows: the spec, what it will need, and what is optimised."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from debiasctl.cli.dataset import describe_images
from debiasctl.cli.messages import with_options
from debiasctl.cli.output import note, print_json, print_pairs
from debiasctl.wording import format_bytes

if TYPE_CHECKING:
    from debiasctl.api import DatasetInfo
    from debiasctl.diffusion.objective import ObjectiveTables
    from debiasctl.specs.sections import LossSection, RunSpec

_POINTS = 1000  # of a curve
_LONGEST = 80  # letters of a weighting's options that are shown
_NORMALIZED = {"mean": "scaled to mean 1", "none": "as published"}


def show_plan(spec: "RunSpec", info: "DatasetInfo", *, device: str, as_json: bool) -> list[str]:
    """Print what would be trained: all of it as JSON, or a summary for people; returns notes for these.

    Raises:
        UsageError: if the objective would be refused.
    """
    from debiasctl.compute.device import choose_device
    from debiasctl.models.initial_share import initial_share
    from debiasctl.models.objective import build_objective
    from debiasctl.training.estimate import estimate
    from debiasctl.training.notes import plan_notes
    from debiasctl.training.setup import resolve_compute

    spec = resolve_compute(spec, choose_device(device))
    objective = build_objective(spec)
    tables = objective.tables()
    plan = estimate(spec, info)
    notes = plan_notes(spec, objective)
    if as_json:
        print_json(
            {
                "spec": spec.model_dump(mode="json"),
                "parameters": plan.parameters,
                "data": asdict(info),
                "steps": plan.steps,
                "images": plan.images,
                "epochs": plan.epochs,
                "memory": {**plan.memory, "total": plan.total},
                "objective": {
                    "t": list(range(objective.process.num_timesteps)),
                    "snr": objective.snr.tolist(),
                    "probability": tables.probability.tolist(),
                    "weight": tables.weight.tolist(),
                    "correction": tables.correction.tolist(),
                    "effective_weight": tables.effective.tolist(),
                },
                "mean_weight": objective.mean_weight(),
                "ema_initial_share": initial_share(spec.ema, plan.steps, batch_size=spec.training.batch_size),
                "notes": [with_options(text) for text in notes],
            }
        )
        return []
    parts = ", ".join(f"{part} {_amount(part, size)}" for part, size in plan.memory.items())
    print_pairs(
        {
            "data": describe_images(info),
            **_latents(spec, info),
            "model": f"{plan.parameters:,} parameters, {spec.model.backbone.name}, {spec.model.prediction}-prediction",
            "noise": f"{spec.diffusion.schedule.name} schedule, {objective.process.num_timesteps:,} timesteps",
            "loss": f"{short_reference(str(spec.loss.weighting.ref))} weighting, {_NORMALIZED[spec.loss.normalize]}"
            f"{'' if spec.loss.metric == 'mse' else f', of {metric_text(spec.loss)}'}",
            **({"extensions": ", ".join(str(one.ref) for one in spec.extensions)} if spec.extensions else {}),
            "budget": f"{plan.steps:,} steps, {plan.images:,} images, {plan.epochs:,.1f} epochs, "
            f"{spec.training.batch_size:,} images a step, learning rate {spec.optimizer.lr:g}",
            "memory": f"about {format_bytes(plan.total)} ({parts})",
        }
    )
    _show_objective(spec, objective.snr.tolist(), tables, moves=objective.varies or objective.learned is not None)
    return notes


def _amount(part: str, size: int) -> str:
    """A part of the memory; nothing is known of a network that cannot be traced."""
    return "unknown" if part == "activations" and not size else format_bytes(size)


def _latents(spec: "RunSpec", info: "DatasetInfo") -> dict[str, str]:
    """The latents that are trained on, if they are."""
    from debiasctl.specs.latents import trained_info

    if spec.data.autoencoder is None:
        return {}
    made = trained_info(spec, info)
    return {"latents": f"{made.channels}x{made.image_size}x{made.image_size}, by {spec.data.autoencoder.ref}"}


def end_plan(notes: Sequence[str]) -> None:
    """Print, after all else, the notes on a plan that was shown to people, and where its settings are."""
    for text in notes:
        note(f"note: {with_options(text)}")
    note("dry run: nothing was trained; --json shows every setting")


def short_reference(text: str) -> str:
    """Cut where a weighting's table of points would fill the screen."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def metric_text(loss: "LossSection") -> str:
    """What the weight multiplies: `squared errors`, or which Huber loss."""
    if loss.metric == "mse":
        return "squared errors"
    return f"{loss.metric} losses (c {loss.huber_c:g}, {loss.huber_schedule})"


def _show_objective(spec: "RunSpec", snr: list[float], tables: "ObjectiveTables", *, moves: bool) -> None:
    """The distribution of t, the weight, and their product, which is optimised; at the start where it changes."""
    from debiasctl.cli.curve import print_curve
    from debiasctl.cli.output import print_table

    last = len(snr) - 1
    rows = sorted({round(last * part / 10) for part in range(11)})
    unit = "F" if spec.model.prediction == "edm" else spec.model.prediction
    columns = [tables.probability * (last + 1), tables.weight, tables.correction, tables.effective]
    cells = [[str(t), f"{snr[t]:.3g}", *[f"{column[t]:.3g}" for column in columns]] for t in rows]
    when = " at the start of training" if moves else ""
    heads = ["t", "SNR", "drawn (x T)", f"weight on {unit}", "correction", "effective"]
    print()
    shown = sorted({round(last * part / _POINTS) for part in range(_POINTS + 1)})  # a terminal has fewer columns
    print_curve(shown, tables.effective[shown].tolist(), x_label="t", y_label=f"effective weight on {unit}, mean 1")
    of = "" if spec.loss.metric == "mse" else f" of {spec.loss.metric} losses"
    print_table(heads, cells, title=f"What is optimised{when}: density of t times weight{of}, with mean 1 over t")
