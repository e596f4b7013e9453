"""The process that a scheduler's configuration stands for: what a network was trained on."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from debiasctl.api import ModelError, Prediction
from debiasctl.api.files import one_line, quoted
from debiasctl_diffusers.folder import INDEX, SCHEDULER, read_config
from debiasctl_diffusers.schedulers import KINDS, REFUSED, arguments, class_named

_PREDICTIONS: Mapping[str, Prediction] = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
_FLOW_TIME = 1000  # what a flow network's time is a multiple of
# what determines betas in every scheduler on a table; the rest says how it samples
_OF_BETAS = (
    "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr",
    "snr_shift_scale",
)  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """A process: a schedule with its options, and what is predicted. `sampler` names the same scheduler here."""

    schedule: str
    options: Mapping[str, Any]
    prediction: Prediction
    sampler: str
    sigma_data: float = 0.5
    variance_type: str | None = None
    notes: tuple[str, ...] = field(default=(), kw_only=True)


def scheduler_path(folder: Path, given: Path | None) -> Path:
    """Where the scheduler's configuration is: as given, in the folder, or beside it.

    Raises:
        ModelError: if there is none.
    """
    if given is not None:
        path = given if given.is_file() else given / SCHEDULER
        path = path if path.exists() else given / "scheduler" / SCHEDULER
        if not path.is_file():
            raise ModelError(f"{given} holds no {SCHEDULER}. Give the folder of a scheduler of diffusers")
        return path
    places = [folder / "scheduler" / SCHEDULER, folder / SCHEDULER]
    if not (folder / INDEX).exists():
        places.append(folder.parent / "scheduler" / SCHEDULER)  # of a network's folder, or a checkpoint of training's
    for path in places:
        if path.is_file():
            return path
    raise ModelError(
        f"{folder} holds no scheduler/{SCHEDULER}, which says what the network was trained on. Give the folder of the "
        "scheduler: scheduler=FOLDER"
    )


def trained_on(path: Path) -> Trained:
    """The process that the scheduler's configuration at `path` stands for.

    Raises:
        ModelError: if it is damaged, or the process is none that a run can have; the message names the setting.
    """
    config = read_config(path)
    name = config.get("_class_name")
    cls = class_named(name) if isinstance(name, str) and name in KINDS else None
    if cls is None:
        why = f": {REFUSED[name]}" if isinstance(name, str) and name in REFUSED else ""
        shown = "no scheduler" if name is None else quoted(str(name))
        raise ModelError(f"{path} names {shown}, which states no process that a run can have{why}")
    known = arguments(cls.__init__)
    settings = {key: value for key, value in config.items() if key in known}
    ignored = [key for key in config if key not in known and not key.startswith("_")]
    notes = [f"{path.name} has {', '.join(ignored)}, which {name} ignores"] if ignored else []
    given = {**known, **settings}
    try:
        found = _process(path, cls, given, settings)
    except (ValueError, TypeError, KeyError, IndexError, NotImplementedError, RuntimeError, ImportError) as error:
        raise ModelError(f"{path}: {name} refuses its own settings: {one_line(error)[:300]}") from error
    return Trained(**{**vars(found), "notes": (*found.notes, *notes)})


def _process(path: Path, cls: Any, given: Mapping[str, Any], settings: Mapping[str, Any]) -> Trained:
    name = cls.__name__
    size = given.get("num_train_timesteps", _FLOW_TIME)
    if isinstance(size, bool) or not isinstance(size, int) or not 2 <= size <= 1_000_000:
        raise ModelError(f"{path}: num_train_timesteps={size!r} is no number of timesteps")
    kind = KINDS[name]
    predicted = given.get("prediction_type", "epsilon")
    if kind == "flow" or given.get("use_flow_sigmas") or predicted == "flow_prediction":
        return _flow(path, cls, given, settings, size, sigmas=kind != "flow")
    if predicted not in _PREDICTIONS:
        raise ModelError(f"{path}: prediction_type={predicted!r} is not known. Known: {', '.join(_PREDICTIONS)}")
    if kind == "edm":
        return _edm(path, cls, given, predicted, size)
    if given.get("timestep_type") == "continuous" and predicted == "v_prediction":
        raise ModelError(
            f"{path}: with timestep_type=continuous the network is given ln(sigma)/4 in place of timesteps, which "
            "v-prediction here does not have"
        )
    schedule, options, notes = _table(path, cls, given, size)
    variance = given.get("variance_type")
    if variance == "learned":
        raise ModelError(f"{path}: variance_type=learned is a log-variance by itself, and only learned_range is known")
    return Trained(
        schedule, options, _PREDICTIONS[predicted], _sampler(cls, given, settings), variance_type=variance, notes=notes
    )


def _flow(
    path: Path, cls: Any, given: Mapping[str, Any], settings: Mapping[str, Any], size: int, *, sigmas: bool
) -> Trained:
    if size != _FLOW_TIME:
        raise ModelError(
            f"{path}: num_train_timesteps={size} has the network's time run to {size}, and flow networks here are "
            f"given {_FLOW_TIME} s. That of a network with another time cannot be read"
        )
    if given.get("invert_sigmas"):
        raise ModelError(f"{path}: invert_sigmas=true counts the noise the other way round, which no run does")
    if sigmas and (given.get("prediction_type") != "flow_prediction" or not given.get("use_flow_sigmas")):
        raise ModelError(
            f"{path}: prediction_type={given.get('prediction_type')} and use_flow_sigmas="
            f"{str(bool(given.get('use_flow_sigmas'))).lower()} contradict one another: a flow has both"
        )
    shift = given.get("flow_shift" if sigmas else "shift", 1.0)
    if isinstance(shift, bool) or not isinstance(shift, int | float) or not shift > 0:
        raise ModelError(f"{path}: shift={shift!r} is not above 0")
    notes: tuple[str, ...] = ()
    if given.get("use_dynamic_shifting"):
        notes = (
            "use_dynamic_shifting=true has pipelines shift the levels by the size of their images; the run's are "
            "without a shift, and the network is the same at each",
        )
        shift = 1.0
    sampler = _sampler(cls, given, settings, leave=("shift", "use_dynamic_shifting"))
    return Trained("flow", {"shift": float(shift), "num_timesteps": size}, "flow", sampler, notes=notes)


def _edm(path: Path, cls: Any, given: Mapping[str, Any], predicted: str, size: int) -> Trained:
    if predicted != "epsilon":
        raise ModelError(
            f"{path}: prediction_type={predicted} of {cls.__name__} has the network's output with the other sign, "
            "which no run has"
        )
    options = {name: float(given[name]) for name in ("sigma_min", "sigma_max")}
    return Trained(
        "edm", {**options, "num_timesteps": size}, "edm", _sampler(cls, given, {}), float(given["sigma_data"])
    )


def _table(path: Path, cls: Any, given: Mapping[str, Any], size: int) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    """The schedule of a scheduler's betas: one of debiasctl's own where it is that, or else the betas themselves."""
    rescaled = bool(given.get("rescale_betas_zero_snr", False))
    options: dict[str, Any] = {"num_timesteps": size, "zero_terminal_snr": rescaled}
    betas, kind, shifted = given.get("trained_betas"), given["beta_schedule"], given.get("snr_shift_scale", 1.0)
    if betas is not None:
        if not isinstance(betas, list) or not all(type(one) in (int, float) for one in betas):
            raise ModelError(f"{path}: trained_betas is no list of numbers")
        if len(betas) != size:
            raise ModelError(f"{path}: trained_betas has {len(betas)} values, and num_train_timesteps is {size}")
    if betas is None and shifted == 1:
        start, end = (float(given[name]) * size / 1000 for name in ("beta_start", "beta_end"))
        if kind in ("linear", "scaled_linear") and 0 < start < 1 and 0 < end < 1:
            return kind.replace("_", "-"), {**options, "beta_start": start, "beta_end": end}, ()
        if kind == "squaredcos_cap_v2":
            return "cosine", options, ()
    if betas is None or shifted != 1:
        names = {name: given[name] for name in _OF_BETAS if name in arguments(cls.__init__)}
        table = cls(**{**names, "rescale_betas_zero_snr": False} if "rescale_betas_zero_snr" in names else names)
        alphas_cumprod = table.alphas_cumprod.to(torch.float64)
        betas = (1 - alphas_cumprod / torch.cat([alphas_cumprod.new_ones(1), alphas_cumprod[:-1]])).tolist()
    wrong = next((t for t, beta in enumerate(betas) if not 0 < beta < 1), None)
    if wrong is None:
        return "diffusers-betas", {**options, "betas": betas}, (f"its betas are stored in the run's schedule ({size})",)
    if wrong == size - 1 and betas[-1] == 1:
        raise ModelError(
            f"{path}: the last of its betas is 1, which leaves no signal. State it as rescale_betas_zero_snr=true, "
            "with the betas before that"
        )
    raise ModelError(f"{path}: beta {wrong} is {betas[wrong]:g}, and betas lie between 0 and 1")


def _sampler(cls: Any, given: Mapping[str, Any], settings: Mapping[str, Any], leave: tuple[str, ...] = ()) -> str:
    """The reference of a sampler that is this scheduler with these settings."""
    own = {
        name: value
        for name, value in settings.items()
        if name not in (*_OF_BETAS, *leave, "prediction_type", "clip_sample", "variance_type")
        and value != arguments(cls.__init__).get(name)
    }
    reference = f"diffusers:scheduler={cls.__name__}"
    if given.get("clip_sample") is False and arguments(cls.__init__).get("clip_sample"):
        reference += ",clip_x0=false"
    return f"{reference},config={json.dumps(own, separators=(',', ':'))}" if own else reference
