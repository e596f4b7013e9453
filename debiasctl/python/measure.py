"""Evaluating images and comparing runs: `debiasctl.evaluate` and `debiasctl.compare`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from debiasctl.api import ArraySplit, DatasetInfo, LoadedDataset, hash_splits
from debiasctl.comparison.evaluations import Reader
from debiasctl.comparison.external_figures import figures_of
from debiasctl.comparison.external_images import measured_arms, parse_arms
from debiasctl.comparison.observations import ArmData
from debiasctl.comparison.printed import compared, one_seed_table
from debiasctl.comparison.study import study_of
from debiasctl.errors import EvaluationError, UsageError
from debiasctl.evaluation.choices import Choices, check_choices, check_images
from debiasctl.evaluation.evaluate import evaluate_images, evaluate_loaded
from debiasctl.evaluation.record import EvaluationRecord
from debiasctl.python.machine import computing, location
from debiasctl.python.records import Comparison, Evaluations
from debiasctl.python.runs import Run
from debiasctl.python.values import check_choice_types, check_dense, check_kind, check_names, check_path, number
from debiasctl.reading.user_text import user_path
from debiasctl.runs.selection import matching_runs
from debiasctl.wording import kind_of, quoted

_NAME = "images in memory"


def evaluate(
    images: Tensor | NDArray[Any] | str | Path,
    *,
    reference: str | Path,
    features: str | None = None,
    metrics: Sequence[str] | None = None,
    feature_weights: str | Path | None = None,
    device: str = "auto",
) -> Evaluations:
    """Measure images against real ones, and return what `debiasctl evaluate --samples PATH --json` prints.

    `images` is a folder, .zip, .tar or .npz; or a uint8 tensor [N, C, H, W] or array [N, H, W, C], grey or RGB and
    square. `reference` is a data set's name, a folder, .zip, .tar or .npz of images, or an .npz of statistics. Without
    `features` and `metrics` they are chosen as the command does. The record is stored as the command stores it.

    Raises:
        UsageError: if the images or the reference are not there or of another form, or a name is unknown.
        EvaluationError: if the features are not available, or the images cannot be measured against the reference.
    """
    if not isinstance(reference, str | Path):
        raise UsageError(
            f"`reference` is {kind_of(reference)}: name a data set, such as 'digits', or give the path of a "
            "folder, .zip, .tar or .npz of images, or of an .npz of statistics"
        )
    check_path(reference, name="reference")
    check_choice_types(features, metrics)
    if feature_weights is not None:
        check_path(feature_weights, name="feature_weights")
    if isinstance(images, str | Path):
        check_path(images, name="images")
    weights = None if feature_weights is None else Path(feature_weights)
    choices = Choices(features, weights, _names(metrics), str(reference))
    if isinstance(images, str | Path):
        check_images(Path(images), choices)
    check_choices(choices, None)
    with computing(device, kind=EvaluationError, doing="while evaluating") as place:
        if isinstance(images, str | Path):
            records = evaluate_images(Path(images), location(), choices=choices, device=place)
        else:
            records = evaluate_loaded(_loaded(images), _NAME, location(), choices=choices, device=place)
    return Evaluations({"evaluations": [record.to_json() for record in records]})


def compare(
    *runs: str | Run,
    arms: Mapping[str, str | Path] | None = None,
    against: str | Path | None = None,
    features: str | None = None,
    figures: str | Path | None = None,
    by: Sequence[str] = (),
    metric: str | None = None,
    primary: str | None = None,
    reference: str | None = None,
    margin: float = 0.05,
    paired: bool | None = None,
    borrowed: bool = False,
    blocks: Sequence[str] = (),
    levels: Mapping[str, float] | None = None,
    skip_damaged: bool = False,
    device: str = "auto",
) -> Comparison:
    """Compare arms, and return what `debiasctl compare --json` prints, verdicts and answer included.

    `runs` are runs, names or patterns such as `"digits-*"`, which have been evaluated. `arms` are images made
    elsewhere, each a name and a pattern of folders, .npz, .zip or .tar files, one a seed, which are measured `against`
    a data set or images by `features`; `figures` is a CSV of figures made elsewhere. The others are as the command
    has them.

    Raises:
        UsageError: if there is nothing to compare, or arguments contradict one another.
        ComparisonError: if figures were measured differently, or a record is damaged or missing.
    """
    wrong = [one for one in runs if not isinstance(one, str | Run)]
    if wrong:
        raise UsageError(f"{kind_of(wrong[0])} names no run. Give names, patterns or runs: compare('a', 'b')")
    _check_types(arms, levels, against=against, figures=figures, margin=margin, paired=paired)
    for several, called in ((by, "by"), (blocks, "blocks")):
        check_names(several, name=called)
    check_choice_types(features, None)
    for one, called in ((metric, "metric"), (primary, "primary"), (reference, "reference")):
        if one is not None:
            check_kind(one, str, name=called, wanted="a name")
    _check_arms(runs, arms, against, features, figures, by)
    if not 0 <= margin <= 1:
        raise UsageError(f"`margin={margin}` must be from 0 to 1")
    found = matching_runs([str(run.path) if isinstance(run, Run) else run for run in runs]) if runs else []
    if len(found) == 1 and not (arms or by):
        raise UsageError(
            "one run alone is nothing to compare: give two or more different runs, a pattern such as 'digits-*', or "
            "an axis along which it was measured, such as `by=['weights']`"
        )
    reader = Reader()
    study = study_of(
        found,
        external=_external(arms or {}, against, features, figures, metric=metric, device=device),
        by=_names(by) or [],
        metric=metric,
        primary=primary,
        reference=reference,
        margin=margin,
        paired="auto" if paired is None else "yes" if paired else "no",
        borrowed=borrowed,
        blocks=_names(blocks) or [],
        levels=levels,
        skip_damaged=skip_damaged,
        reader=reader,
    )
    return Comparison(compared(study, one_seed_table(study, found, metric=metric, reader=reader), found))


def _check_arms(
    runs: Sequence[Any], arms: Any, against: Any, features: str | None, figures: Any, by: Sequence[str]
) -> None:
    """Refuse what contradicts itself or has no effect."""
    if not (runs or arms or figures):
        raise UsageError("give two or more different runs, for example compare('a', 'b') or compare('digits-*')")
    if arms and against is None:
        raise UsageError("`arms` are images, which are measured: say `against` what")
    if not arms and not (against is None and features is None):
        raise UsageError("`against` and `features` say how the images of `arms` are measured, and none are given")
    if figures is not None and (runs or arms or by):
        raise UsageError(
            "`figures` made elsewhere are compared with one another alone. Leave out runs, `arms` and `by`"
        )


def _check_types(arms: Any, levels: Any, *, against: Any, figures: Any, margin: Any, paired: Any) -> None:
    """Refuse arguments of another type than is documented."""
    if arms is not None:
        check_kind(arms, Mapping, name="arms", wanted="a dictionary of names and patterns: {'other': 'images/*'}")
        for name, pattern in arms.items():
            if not isinstance(name, str) or not name or "=" in name:
                raise UsageError(f"`arms`: {quoted(str(name))} is no name of an arm. Give text without '='")
            check_path(pattern, name=f"arms[{name!r}]")
    if levels is not None:
        check_kind(levels, Mapping, name="levels", wanted="a dictionary of metrics and levels: {'fd_local': 3.0}")
        for name, level in levels.items():
            number(level, name=f"levels[{name!r}]")
    for value, called in ((against, "against"), (figures, "figures")):
        if value is not None:
            check_path(value, name=called)
    number(margin, name="margin")
    if paired is not None:
        check_kind(paired, bool, name="paired", wanted="True, False or None")


def _external(
    arms: Mapping[str, str | Path],
    against: str | Path | None,
    features: str | None,
    figures: str | Path | None,
    *,
    metric: str | None,
    device: str,
) -> list[ArmData]:
    """The arms made elsewhere; images that were not measured before are measured."""
    if figures is not None:
        return figures_of(user_path(figures, argument="`figures`"), metric=metric)
    if not arms:
        return []
    choices = Choices(features, metrics=None if metric is None else [metric], reference=str(against))

    def measure(path: Path) -> EvaluationRecord:
        with computing(device, kind=EvaluationError, doing="while evaluating") as place:
            (record,) = evaluate_images(path, location(), choices=choices, device=place)
        return record

    given = parse_arms([f"{name}={pattern}" for name, pattern in arms.items()])
    return measured_arms(given, choices, location(), measure)


def _names(names: Sequence[str] | None) -> list[str] | None:
    """A list of names; a single one may be given as it is."""
    return [names] if isinstance(names, str) else None if names is None else list(names)


def _loaded(images: Any) -> LoadedDataset:
    """Images in memory as the training split of a data set.

    Raises:
        UsageError: if they are not uint8 of the form that `evaluate` takes.
    """
    form = "Give uint8, a tensor [N, C, H, W] or an array [N, H, W, C], with 1 or 3 channels and H = W"
    if isinstance(images, np.ndarray):
        array = images[..., None] if images.ndim == 3 else images
        given, shape = str(images.dtype), list(images.shape)
        if images.dtype == np.uint8 and array.ndim == 4:
            tensor = torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2)))
    elif isinstance(images, Tensor):
        check_dense(images, name="images")
        tensor = images.detach().cpu()
        given, shape = str(images.dtype).removeprefix("torch."), list(images.shape)
    else:
        hint = "A run's own images are measured by run.evaluate()" if isinstance(images, Run) else "Give a path"
        raise UsageError(f"`images` is {kind_of(images)}. {hint}. {form}")
    if given != "uint8":
        scaled = " (floats in [-1, 1] become ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8))"
        raise UsageError(f"`images` are {given}{scaled if 'float' in given else ''}. {form}")
    if len(shape) not in (3, 4) or tensor.ndim != 4:
        raise UsageError(f"`images` have the shape {shape}. {form}")
    number, channels, height, width = tensor.shape
    if not number or channels not in (1, 3) or height != width:
        raise UsageError(f"`images` have the shape {shape}. {form}")
    split, empty = ArraySplit(tensor.contiguous()), ArraySplit(tensor[:0])
    info = DatasetInfo(height, channels, (), number, 0)
    return LoadedDataset(info, split, empty, hash_splits(list(tensor.shape), [split]))
