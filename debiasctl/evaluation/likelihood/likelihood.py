"""A run's likelihood of held-out images in bits per dimension, measured once and stored with all it depends on."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from debiasctl.api import DataLocation
from debiasctl.data.heldout_set import HeldoutSet
from debiasctl.data.load import load_data
from debiasctl.data.pixels import as_measured
from debiasctl.diffusion.likelihood import VARIANCES, check_num_steps, strata
from debiasctl.errors import EvaluationError, ForeignPartError, UsageError
from debiasctl.evaluation.likelihood.bits_per_dim import Bound, Draws, Model, Ode, OnProgress, bound_bits, ode_bits
from debiasctl.evaluation.record import LIKELIHOOD_VERSION, HeldoutConditions, LikelihoodRecord, read_own_record
from debiasctl.files import content_key, write_json
from debiasctl.models.build import build_parameterization, network_for
from debiasctl.models.initial_share import reached_note
from debiasctl.models.weights import load_named_weights, weights_name
from debiasctl.runs.pins import choose_step
from debiasctl.runs.store import Run
from debiasctl.sampling.drawing import check_batch_size
from debiasctl.specs.recorded import ContentSection
from debiasctl.specs.sections import RunSpec
from debiasctl.wording import did_you_mean

_IMAGES = 256
_MOST_DRAWS = 10_000  # for each image
_TERMS = 100
_VERSION = 2  # of the computation: increased when the same request would give another figure


@dataclass(frozen=True)
class LikelihoodRequest:
    """A measurement to make: `num` held-out images with `draws` independent noises each, at a checkpoint's `step`."""

    method: Bound | Ode
    num: int
    draws: int
    seed: int
    step: int
    weights: str


def default_terms(spec: RunSpec) -> str:
    """The terms of a bound if none are given: 100, or all timesteps of a schedule that has fewer."""
    return str(min(_TERMS, build_parameterization(spec).process.num_timesteps))


def bound_method(spec: RunSpec, *, terms: str, variance: str | None) -> Bound:
    """Make the method from a user's text; without a variance, it is the learned one if there is one, else fixed-small.

    Raises:
        UsageError: if the terms are not a number in the allowed range, or the variance is unknown or not learned.
    """
    process = build_parameterization(spec).process
    if terms != "all" and not terms.isdecimal():
        raise UsageError(f"`terms` '{terms}': give all, or a number of timesteps from 2 to {process.num_timesteps}")
    num_terms = process.num_timesteps if terms == "all" else int(terms)
    strata(process, num_terms)
    chosen = variance or ("learned" if spec.model.learned_variance else "fixed-small")
    for known in VARIANCES:
        if chosen == known:
            if known == "learned" and not spec.model.learned_variance:
                raise UsageError(
                    "`variance=learned`: this run's model has no learned variance. Choose fixed-small or fixed-large"
                )
            return Bound(num_terms, known)
    raise UsageError(f"unknown variance '{chosen}'.{did_you_mean(chosen, VARIANCES)} Known: {', '.join(VARIANCES)}")


def make_requests(
    run: Run,
    spec: RunSpec,
    methods: Sequence[Bound | Ode],
    *,
    num: int | None,
    draws: int,
    seed: int,
    checkpoint: str | None,
    weights: str,
) -> list[LikelihoodRequest]:
    """Make a request for each method; without `num`, for 256 held-out images or all if there are fewer.

    Raises:
        UsageError: if the steps, weights or checkpoint are invalid, or there are too many draws, or `num` is below 2 or
            more than are held out.
        CheckpointError: if the run has no checkpoint.
    """
    content = run.content(spec)
    if content.latents is not None:
        raise UsageError(
            f"run '{run.name}' makes latents: a likelihood of these is no likelihood of images, and its bits depend on "
            f"the autoencoder's scale. Measure its samples instead: debiasctl evaluate {run.typed}"
        )
    heldout = content.num_heldout
    num = min(_IMAGES, heldout) if num is None else num
    if not heldout:
        raise UsageError(
            f"run '{run.name}' was added without a data set, and a likelihood is one of held-out images. Add the model "
            "again, by another name, with the data set that it was trained on: `dataset=digits`"
        )
    if heldout < 2:
        raise UsageError(
            f"run '{run.name}' has {heldout} held-out images, and a likelihood with its standard error needs 2 or "
            "more. Train on more images, or hold out a larger share of them"
        )
    if not 2 <= num <= heldout:
        raise UsageError(f"`num={num}`: choose from 2 to {heldout}, the number of held-out images")
    if draws > _MOST_DRAWS:
        raise UsageError(f"`draws={draws}`: choose from 1 to {_MOST_DRAWS:,}; their error falls with the square root")
    for method in methods:
        if isinstance(method, Ode):
            check_num_steps(method.num_steps)
    weights, step = weights_name(weights), choose_step(run, checkpoint)
    return [LikelihoodRequest(method, num, draws, seed, step, weights) for method in methods]


def likelihood(
    run: Run,
    spec: RunSpec,
    request: LikelihoodRequest,
    location: DataLocation,
    *,
    device: torch.device,
    batch_size: int,
    on_progress: OnProgress | None = None,
) -> LikelihoodRecord:
    """Measure a run's likelihood of held-out images, or read the stored result of the same measurement.

    Raises:
        CheckpointError: if the checkpoint is damaged.
        EvaluationError: if the likelihood is not finite, or the stored record is damaged.
        DataError: if the images cannot be read.
        UsageError: if `check_batch_size` raises it.
    """
    content = run.content(spec)
    check_batch_size(batch_size, request.num, (content.channels, content.image_size, content.image_size), device)
    network = network_for(spec, content)
    checksum = load_named_weights(run, network, step=request.step, weights=request.weights)
    measured = _measured(spec, content, request)
    key = content_key({"measured": measured.to_json(), "weights_sha256": checksum, "version": _VERSION})
    path = run.evaluations_dir / f"{key}.json"
    if path.is_file():
        way_on = "Remove it to measure again"
        stored = read_own_record(path, run, way_on=way_on)
        if not isinstance(stored, LikelihoodRecord):
            raise EvaluationError(f"{path} is damaged (it is not the record of a likelihood). {way_on}")
        if (stored.measured, stored.weights_sha256) != (measured, checksum):
            raise ForeignPartError(f"the record in {path} is that of another measurement, by its content. {way_on}")
        return stored
    heldout = as_measured(load_data(spec, location)).heldout
    images = HeldoutSet.of(
        heldout, num_images=request.num, conditional=bool(spec.model.conditional), device=device, dtype=torch.float32
    )
    network.to(device).eval().requires_grad_(False)
    model = Model(network, build_parameterization(spec), images)
    draws = Draws(request.draws, request.seed, batch_size)
    progress = on_progress or (lambda done, total: None)
    method = request.method
    if isinstance(method, Bound):
        found = bound_bits(model, method, draws=draws, on_progress=progress)
    else:
        found = ode_bits(model, method, draws=draws, on_progress=progress)
    average = reached_note(request.weights, spec.ema, request.step, batch_size=spec.training.batch_size)
    record = LikelihoodRecord(
        schema_version=LIKELIHOOD_VERSION,
        run=run.name,
        run_identity=run.identity(),
        checkpoint=request.step,
        measured=measured,
        weights_sha256=checksum,
        nfe=found.nfe,
        metrics={found.metric: found.figure},
        terms=list(found.terms),
        notes=[*([average] if average else []), *found.notes],
        **({} if found.prior is None else {"prior": found.prior}),
    )
    write_json(path, record.to_json())
    return record


def _measured(spec: RunSpec, content: ContentSection, request: LikelihoodRequest) -> HeldoutConditions:
    method = request.method
    return HeldoutConditions(
        dataset=spec.data.dataset.name,
        dataset_hash=content.content_hash,
        features="none",
        reference="heldout",
        num=request.num,
        draws=request.draws,
        sampler=f"bound:variance={method.variance}" if isinstance(method, Bound) else "ode",
        steps=method.num_terms if isinstance(method, Bound) else method.num_steps,
        seed=request.seed,
        weights=request.weights,
    )
