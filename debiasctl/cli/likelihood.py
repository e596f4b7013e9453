"""`debiasctl likelihood`."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from debiasctl.cli import options
from debiasctl.cli.messages import with_options
from debiasctl.cli.options import GROUPS, given, option
from debiasctl.cli.output import note, print_json, print_table, print_text, show_log
from debiasctl.compute.memory import memory_reported
from debiasctl.errors import EvaluationError, UsageError
from debiasctl.files import check_file, check_place
from debiasctl.reporting.style import FORMATS

if TYPE_CHECKING:
    from debiasctl.evaluation.record import LikelihoodRecord

EXAMPLES = """[bold]Examples[/bold]

debiasctl likelihood digits-minsnr

debiasctl likelihood digits-minsnr --method bound --terms all --plot terms.png

debiasctl likelihood digits-minsnr --method ode --num 64 --steps 100 --json"""

_LESS = "Choose a smaller `batch_size`, or a smaller `num`"
_METHODS = ("bound", "ode", "both")
_BOUND, _ODE = "of the bound", "of the ODE"  # groups of options
_STEPS = 50
_ROWS = 20  # of a table of terms


def likelihood(
    context: typer.Context,
    run: Annotated[str, options.RUN],
    method: Annotated[
        str, option("--method", help="bound (variational), ode (probability flow) or both.", metavar="METHOD")
    ] = "both",
    num: Annotated[
        int | None, option("--num", min=2, help="Held-out images (default: 256, or all).", show_default=False)
    ] = None,
    terms: Annotated[
        str | None,
        option(
            "--terms",
            group=_BOUND,
            help="bound: timesteps an image, all or a number (default: 100, or all if there are fewer).",
            show_default=False,
        ),
    ] = None,
    variance: Annotated[
        str | None,
        option(
            "--variance",
            group=_BOUND,
            help="bound: learned, fixed-small or fixed-large (default: learned if the model has one, else "
            "fixed-small).",
            show_default=False,
        ),
    ] = None,
    steps: Annotated[
        int | None,
        option(
            "--steps", group=_ODE, min=2, help=f"ode: steps, an even number (default: {_STEPS}).", show_default=False
        ),
    ] = None,
    draws: Annotated[
        int, option("--draws", min=1, help="Independent noises, dequantisations and trace probes for each image.")
    ] = 2,
    seed: Annotated[int, option("--seed", min=0, max=2**63 - 1, help="Seed of all noise.")] = 0,
    checkpoint: Annotated[str | None, options.CHECKPOINT] = None,
    weights: Annotated[str, options.WEIGHTS] = "ema",
    batch_size: Annotated[int, option("--batch-size", min=1, help="Images at a time.")] = 128,
    data_dir: Annotated[Path | None, options.DATA_DIR] = None,
    data: Annotated[Path | None, options.DATA] = None,
    device: Annotated[str, options.DEVICE] = "auto",
    plot: Annotated[
        Path | None,
        option(
            "--plot", group=_BOUND, help="Draw the bound's terms against t: FILE.png, .svg or .pdf.", metavar="FILE"
        ),
    ] = None,
    width: Annotated[str | None, options.WIDTH] = None,
    as_json: Annotated[bool, options.AS_JSON] = False,
) -> None:
    """Measure a run's likelihood of held-out images, in bits/dim: the variational bound and the ODE's.

    Each comes with its standard error over images, the part of it due to the noise draws, and for the ODE an
    estimate of the discretisation error.
    """
    _check(context, method, plot=plot)
    wide = options.parse_width(width, plotted=plot is not None)
    from debiasctl.cli.locations import data_location, moved_spec
    from debiasctl.cli.standing import named_run, note_standing, pin_trained

    found = named_run(run)
    # one that is not there is refused before torch takes its time, and training keeps it until this command ends
    step = pin_trained(found, checkpoint, context.with_resource(ExitStack()))
    check_place(found.evaluations_dir / "record")
    location = data_location(data_dir)
    show_log()
    spec = moved_spec(found.spec(), data, data_dir=data_dir)
    from debiasctl.cli.progress import counting_progress
    from debiasctl.compute.device import make_accelerator
    from debiasctl.evaluation.likelihood.bits_per_dim import Bound, Ode
    from debiasctl.evaluation.likelihood.likelihood import bound_method, default_terms, make_requests
    from debiasctl.evaluation.likelihood.likelihood import likelihood as measure
    from debiasctl.evaluation.likelihood.plot import plot_terms

    methods: list[Bound | Ode] = []
    if method != "ode":
        methods.append(bound_method(spec, terms=terms or default_terms(spec), variance=variance))
    if method != "bound":
        methods.append(Ode(steps or _STEPS))
    requests = make_requests(
        found, spec, methods, num=num, draws=draws, seed=seed, checkpoint=str(step), weights=weights
    )
    note_standing(found, spec, step)
    records = []
    for request in requests:
        what = "bound" if isinstance(request.method, Bound) else "ode"
        with counting_progress(what) as show, memory_reported(EvaluationError, f"in the {what}", advice=_LESS):
            records.append(
                measure(
                    found,
                    spec,
                    request,
                    location,
                    device=make_accelerator(device).device,
                    batch_size=batch_size,
                    on_progress=show,
                )
            )
    if plot is not None:
        plot_terms(plot, records[0], width=wide)
    if as_json:
        print_json({"likelihoods": [record.to_json() for record in records]})
    else:
        _print(records)


def _check(context: typer.Context, method: str, *, plot: Path | None) -> None:
    """Refuse an unknown method, options that would have no effect, and a plot that could not be written."""
    if method not in _METHODS:
        raise UsageError(f"unknown method '{method}'. Known: {', '.join(_METHODS)}")
    useless = {"bound": GROUPS[_ODE], "ode": GROUPS[_BOUND], "both": set()}[method]
    for name, _ in given(context):
        if name in useless:
            raise UsageError(f"{name} has no effect with --method {method}. Leave it out, or use --method both")
    if plot is not None:
        check_file(plot, argument="plot", endings=FORMATS)


def _print(records: "list[LikelihoodRecord]") -> None:
    first = records[0]
    measured = first.measured
    print_text(
        f"run '{first.run}', checkpoint {first.checkpoint} ({measured.weights} weights): {measured.num} "
        f"held-out images of {measured.dataset}, {measured.draws} draws each"
    )
    rows = []
    for record in records:
        (figure,) = record.metrics.values()
        rows.append(
            [
                record.measured.sampler,
                str(record.measured.steps),
                f"{figure.value:.4f}",
                f"{figure.se:.4f}",
                "-" if figure.se_draws is None else f"{figure.se_draws:.4f}",
                "-" if figure.discretisation is None else f"{figure.discretisation:.2g}",
            ]
        )
    print_table(["method", "steps", "bits/dim", "standard error", "from draws", "discretisation"], rows, keys=2)
    for record in records:
        if record.prior is not None:
            _print_terms(record, prior=record.prior.bits)
        for text in record.notes:
            note(f"note: {with_options(text)}")


def _print_terms(record: "LikelihoodRecord", *, prior: float) -> None:
    """The bound's parts, neighbouring timesteps together where there are many."""
    first, rest = record.terms[0], record.terms[1:]
    size = max(1, -(-len(rest) // _ROWS))
    rows = [["t = 0 (256 grey levels)", f"{first.bits:.5f}"]]
    for start in range(0, len(rest), size):
        group = rest[start : start + size]
        rows.append([f"t = {group[0].low} to {group[-1].high}", f"{sum(one.bits for one in group):.5f}"])
    rows.append(["prior", f"{prior:.5f}"])
    print_table(["part of the bound", "bits/dim"], rows)
