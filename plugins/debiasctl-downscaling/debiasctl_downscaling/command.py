"""`debiasctl downscale`: fit a map, sample, measure, and compare."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Turn biased low-resolution images into true high-resolution ones: debias, then sample (arXiv 2305.15618).",
)


class Split(StrEnum):
    """A split of a data set."""

    train = "train"
    heldout = "heldout"


class Spectra(StrEnum):
    """The kinds of spectrum."""

    rows = "rows"
    columns = "columns"
    rings = "rings"


SOURCE = "a data set, such as kuramoto-sivashinsky:fidelity=coarse, or an .npz or .npy of images"
OperatorOption = Annotated[
    str, typer.Option("--operator", help="the downsampling: mean:4, mean:8x2, subsample:4, or an .npy with a matrix")
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON")]
EpsilonOption = Annotated[float, typer.Option("--epsilon", help="the entropic regularisation, over the mean cost")]
ToleranceOption = Annotated[float, typer.Option("--tolerance", help="the largest error (L1) of the plan's marginal")]
IterationsOption = Annotated[int, typer.Option("--iterations", min=1, help="the most Sinkhorn iterations")]
StepsOption = Annotated[int, typer.Option("--steps", min=1, help="sampling steps")]
SamplerOption = Annotated[str, typer.Option("--sampler", help="the sampler, with options")]
AlphaOption = Annotated[
    float | None, typer.Option("--alpha", min=0, help="the strength of the guidance", show_default="0.5")
]
ExactOption = Annotated[
    int, typer.Option("--exact", min=0, help="in place of alpha: conjugate gradient iterations for Gaussian guidance")
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="the seed of the noise")]
BatchOption = Annotated[int, typer.Option("--batch-size", min=1, help="images drawn at a time")]
SpectrumOption = Annotated[
    Spectra, typer.Option("--spectrum", help="of MELR: along rows' axis, along columns', or in rings of both")
]
SAMPLER, STEPS = "ddpm:spacing=karras", 64


@app.command("fit-map")
def fit_map(
    biased: Annotated[str, typer.Argument(help=f"biased low-resolution images: {SOURCE}")],
    true: Annotated[str, typer.Argument(help=f"true images, high- or low-resolution: {SOURCE}")],
    out: Annotated[Path, typer.Option("--out", help="the .npz to write the map to")],
    operator: Annotated[
        str | None,
        typer.Option("--operator", help="the downsampling of high-resolution ones, as in sample (default: mean:4)"),
    ] = None,
    num: Annotated[int | None, typer.Option("--num", min=2, help="images of each; all training images")] = None,
    epsilon: EpsilonOption = 0.01,
    tolerance: ToleranceOption = 1e-3,
    iterations: IterationsOption = 20_000,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Fit the entropic optimal-transport map from biased to true low-resolution images."""
    from debiasctl.api import UsageError
    from debiasctl_downscaling import transport
    from debiasctl_downscaling.images import check_npz, images_of
    from debiasctl_downscaling.network import device_of
    from debiasctl_downscaling.operators import operator as operator_of

    check_npz(out)
    place, downsample = device_of(device), operator_of(operator or "mean:4")
    low = images_of(biased, split="train", num=num)
    high = images_of(true, split="train", num=num)
    if high.shape[1:] != low.shape[1:]:
        high = downsample(high)
    elif operator is not None:
        raise UsageError(f"{true} has the size of the biased images, and is not downsampled: leave --operator out")
    found = transport.fit_map(low, high, epsilon=epsilon, tolerance=tolerance, iterations=iterations, device=place)
    found.save(out)
    facts = {
        "map": str(out), "images": [found.num_sources, len(found.targets)], "shape": list(found.shape),
        "epsilon": found.epsilon, "epsilon_over_mean_cost": found.relative, "mean_cost": found.scale,
        "iterations": found.convergence.iterations, "marginal_error": found.convergence.error,
        "tolerance": found.convergence.tolerance,
    }  # fmt: skip
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    typer.echo(f"{out}: a map from {found.num_sources:,} images to {len(found.targets):,}")
    typer.echo(f"epsilon {found.epsilon:.4g}, {found.relative:g} of the mean cost {found.scale:.4g}")
    typer.echo(
        f"converged in {found.convergence.iterations:,} iterations: the marginal is off by "
        f"{found.convergence.error:.2g} (at most {found.convergence.tolerance:g})"
    )


@app.command()
def sample(
    run: Annotated[str, typer.Argument(help="the run whose network is sampled: a name, its beginning, or a path")],
    low: Annotated[str, typer.Argument(help=f"low-resolution images: {SOURCE}")],
    out: Annotated[Path, typer.Option("--out", help="the .npz to write the images to")],
    map_file: Annotated[
        Path | None, typer.Option("--map", help="the map to debias them with; none: as they are")
    ] = None,
    split: Annotated[Split, typer.Option("--split", help="of a data set")] = Split.heldout,
    operator: OperatorOption = "mean:4",
    num: Annotated[int, typer.Option("--num", min=1, help="images, of as many low-resolution ones")] = 64,
    steps: StepsOption = STEPS,
    sampler: SamplerOption = SAMPLER,
    alpha: AlphaOption = None,
    exact: ExactOption = 0,
    seed: SeedOption = 0,
    batch_size: BatchOption = 64,
    weights: Annotated[str, typer.Option("--weights", help="ema, ema:LENGTH or raw")] = "ema",
    checkpoint: Annotated[int | None, typer.Option("--checkpoint", min=0, help="of this step; the last")] = None,
    device: DeviceOption = "auto",
) -> None:
    """Draw a high-resolution image for each low-resolution one, which agrees with it once it is debiased."""
    from debiasctl_downscaling.images import check_npz, images_of, write_images
    from debiasctl_downscaling.network import device_of, network_of
    from debiasctl_downscaling.operators import operator as operator_of
    from debiasctl_downscaling.transport import TransportMap

    check_npz(out)
    _check_guidance(alpha, exact)
    place, downsample = device_of(device), operator_of(operator)
    network = network_of(run, device=place, weights=weights, checkpoint=checkpoint)
    debias = None if map_file is None else TransportMap.read(map_file).to(place)
    given = images_of(low, split=split.value, num=num)
    wanted = given if debias is None else debias(given.to(place)).cpu()
    drawn = _drawn(
        network, downsample, wanted, sampler=sampler, steps=steps, seed=seed, alpha=alpha, exact=exact,
        batch_size=batch_size,
    )  # fmt: skip
    write_images(out, drawn, operator=downsample.identity, low=wanted, given=given)
    off = (downsample(drawn).flatten(1) - wanted.flatten(1)).square().mean().sqrt()
    typer.echo(f"{out}: {len(drawn):,} images of {'x'.join(map(str, drawn.shape[1:]))}, float32")
    typer.echo(f"they agree with the low-resolution ones to {float(off):.2g} (root mean square)")


@app.command()
def evaluate(
    samples: Annotated[str, typer.Argument(help=f"images to measure: {SOURCE}")],
    true: Annotated[str, typer.Argument(help=f"true high-resolution images: {SOURCE}")],
    split: Annotated[Split, typer.Option("--split", help="of data sets")] = Split.heldout,
    operator: Annotated[
        str | None, typer.Option("--operator", help="the downsampling by a matrix, an .npy; others the samples state")
    ] = None,
    num: Annotated[int | None, typer.Option("--num", min=2, help="images of each; all")] = None,
    spectrum: SpectrumOption = Spectra.rings,
    as_json: JsonOption = False,
) -> None:
    """Measure images against true ones, with 95 % intervals; and against what they were drawn for, if it is known."""
    from debiasctl_downscaling import table as tables
    from debiasctl_downscaling.images import drawn_for, images_of
    from debiasctl_downscaling.metrics import measure
    from debiasctl_downscaling.operators import stated_operator

    one, other = (images_of(source, split=split.value, num=num) for source in (samples, true))
    low, stated = drawn_for(Path(samples).expanduser()) or (None, None)
    downsample = stated_operator(operator, stated)
    figures = measure(
        one,
        other,
        spectrum=spectrum.value,
        operator=downsample,
        low=None if low is None else low[: len(one)],
    )
    _print({samples: figures}, as_json=as_json, text=tables.listed(figures), facts={"images": [len(one), len(other)]})


@app.command()
def table(
    run: Annotated[str, typer.Argument(help="the run whose network is sampled: a name, its beginning, or a path")],
    biased: Annotated[str, typer.Argument(help=f"biased low-resolution images: {SOURCE}")],
    true: Annotated[str, typer.Argument(help=f"true high-resolution images: {SOURCE}")],
    operator: OperatorOption = "mean:4",
    num: Annotated[int, typer.Option("--num", min=48, help="held-out images, drawn and measured")] = 256,
    num_map: Annotated[int | None, typer.Option("--num-map", min=2, help="training images for the map; all")] = None,
    epsilon: EpsilonOption = 0.01,
    tolerance: ToleranceOption = 1e-3,
    iterations: IterationsOption = 20_000,
    steps: StepsOption = STEPS,
    sampler: SamplerOption = SAMPLER,
    alpha: AlphaOption = None,
    exact: ExactOption = 0,
    seed: SeedOption = 0,
    batch_size: BatchOption = 64,
    spectrum: SpectrumOption = Spectra.rings,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Compare bicubic enlargement and conditional sampling, each with debiasing and without, as a Markdown table.

    The last fifth of a file's images counts as held out. The last row is of training images: what perfect samples get.
    """
    from debiasctl_downscaling import table as tables
    from debiasctl_downscaling import transport
    from debiasctl_downscaling.images import images_of
    from debiasctl_downscaling.metrics import measure
    from debiasctl_downscaling.network import bicubic, device_of, network_of
    from debiasctl_downscaling.operators import operator as operator_of

    _check_guidance(alpha, exact)
    place, downsample = device_of(device), operator_of(operator)
    network = network_of(run, device=place)
    reference = images_of(true, split="heldout", num=num, divided=True)
    train = images_of(true, split="train", num=None, divided=True)
    low_train = images_of(biased, split="train", num=num_map, divided=True)
    low = images_of(biased, split="heldout", num=num, divided=True)
    typer.echo("fitting the map", err=True)
    debias = transport.fit_map(
        low_train,
        downsample(train[:num_map]),
        epsilon=epsilon,
        tolerance=tolerance,
        iterations=iterations,
        device=place,
    )
    debiased = debias(low.to(place)).cpu()
    options: dict[str, Any] = {
        "sampler": sampler, "steps": steps, "seed": seed, "alpha": alpha, "exact": exact, "batch_size": batch_size
    }  # fmt: skip
    ways = {
        "bicubic": (bicubic(low, downsample, network.shape), low),
        "bicubic, debiased": (bicubic(debiased, downsample, network.shape), debiased),
        "conditioned": (_drawn(network, downsample, low, **options), low),
        "conditioned, debiased": (_drawn(network, downsample, debiased, **options), debiased),
        "true images": (train[:num], None),
    }
    rows = {}
    for way, (images, condition) in ways.items():
        typer.echo(f"measuring {way}", err=True)
        rows[way] = measure(images, reference, spectrum=spectrum.value, operator=downsample, low=condition, seed=seed)
    facts = {"images": num, "map": vars(debias.convergence), "epsilon_over_mean_cost": epsilon}
    _print(rows, as_json=as_json, text=tables.markdown(rows), facts=facts)


def _drawn(
    network: Any,
    downsample: Any,
    low: Any,
    *,
    sampler: str,
    steps: int,
    alpha: float | None,
    exact: int,
    **options: Any,
) -> Any:
    from debiasctl_downscaling.conditioning import ALPHA, draw
    from debiasctl_downscaling.network import sampler_of

    made, clip = sampler_of(sampler)
    return draw(
        network.denoiser, downsample, low, shape=network.shape, sampler=made, num_steps=steps,
        alpha=ALPHA if alpha is None else alpha, iterations=exact, clip=clip, device=network.device,
        on_progress=lambda done: typer.echo(f"drew {done}/{len(low)}", err=True), **options,
    )  # fmt: skip


def _check_guidance(alpha: float | None, exact: int) -> None:
    """Raise UsageError where one way of guidance would leave the other without effect."""
    from debiasctl.api import UsageError

    if exact and alpha is not None:
        raise UsageError(
            f"`alpha={alpha:g}` has no effect with `exact={exact}`, which computes the guidance in its place. Leave "
            "one of the two out"
        )


def _print(rows: Any, *, as_json: bool, text: str, facts: dict[str, Any]) -> None:
    from debiasctl_downscaling import table as tables

    typer.echo(json.dumps({**facts, "figures": tables.as_json(rows)}, indent=2) if as_json else text)
