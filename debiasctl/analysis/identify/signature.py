"""What a weight function's parameters are, by their names or as the user says."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from debiasctl.analysis.identify.levels import DIFFUSERS
from debiasctl.errors import UsageError
from debiasctl.wording import did_you_mean, quoted

Role = Literal["snr", "log_snr", "sigma", "s", "timesteps", "alphas_cumprod", "loss", "scheduler"]
ROLES: tuple[Role, ...] = get_args(Role)
LEVELS: tuple[Role, ...] = ("timesteps", "snr", "log_snr", "sigma", "s", "alphas_cumprod")
_NAMES: dict[Role, str] = {
    "snr": "snr snrs snr_t signal_to_noise signal_to_noise_ratio",
    "log_snr": "log_snr logsnr log_snrs lam lambda lmbda lambda_t logsnr_t",
    "sigma": "sigma sigmas sigma_t",
    "s": "s noise_share",
    "timesteps": "timesteps timestep t ts step_indices time_steps",
    "alphas_cumprod": "alphas_cumprod alpha_cumprod alphas_bar alpha_bar alphas_cumprod_t acp",
    "loss": "loss losses mse_loss loss_per_sample per_sample_loss mse",
    "scheduler": "noise_scheduler scheduler noise_sched sched ddpm_scheduler noise_schedule",
}
_ROLE_OF: dict[str, Role] = {name: role for role, names in _NAMES.items() for name in names.split()}
_FLAGS = ("v_prediction", "v_pred", "is_v_prediction", "is_v_pred", "v_parameterization")


class Attributes:
    """An argument of which some attributes are given, as `args` of a trainer."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise AttributeError(f"no {name!r} was given: `given={self._name}.{name}=VALUE`")


@dataclass(frozen=True)
class Parameters:
    """How a function is called: the roles of parameters by name, in order, and the values of the others.

    `positional` names those that can only be given by place; `said` whether the user told what the level is.
    """

    roles: Mapping[str, Role]
    others: Mapping[str, Any]
    positional: tuple[str, ...] = ()
    said: bool = False

    @property
    def level(self) -> Role:
        """What tells the function its noise level."""
        return next(role for role in LEVELS if role in self.roles.values())

    @property
    def taken(self) -> str:
        """What was taken for what, in words."""
        listed = [f"{name} as {_WORDS[role]}" for name, role in self.roles.items()]
        listed += [f"{name} = {value!r}" for name, value in self.others.items() if not isinstance(value, Attributes)]
        return "; ".join(listed)


_WORDS: dict[Role, str] = {
    "snr": "the SNR",
    "log_snr": "log SNR",
    "sigma": "sigma/alpha, the noise-to-signal ratio",
    "s": "s, the share of noise",
    "timesteps": "timesteps",
    "alphas_cumprod": "alphas_cumprod",
    "loss": "a loss, to be weighted",
    "scheduler": "a diffusers-like scheduler",
}


def parameters_of(
    function: Callable[..., Any], *, argument: str | None, given: Mapping[str, Any], prediction: str | None
) -> Parameters:
    """Decide how to call a function; `argument` names a role, or several by commas, for its parameters in order.

    Raises:
        UsageError: if what a parameter is cannot be told, or a value is missing.
    """
    said = _said(argument)
    try:  # a torch module's own parameters are those of its forward
        listed = list(inspect.signature(getattr(function, "forward", function)).parameters.values())
    except (TypeError, ValueError):  # one that is written in C tells none
        listed = [inspect.Parameter("x", inspect.Parameter.POSITIONAL_ONLY)]
    variable = [one for one in listed if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    named = [one for one in listed if one not in variable]
    if not named and any(one.kind == one.VAR_POSITIONAL for one in variable):
        named = [inspect.Parameter("x", inspect.Parameter.POSITIONAL_ONLY)]
    if not named:
        raise UsageError("the function takes no arguments, so it cannot be asked for a weight at a noise level")
    others = _others(given, named, any(one.kind == one.VAR_KEYWORD for one in variable))
    roles = _roles(named, said, others, argument)
    for one in named:
        if one.name in roles or one.name in others or one.default is not one.empty:
            continue
        filled = _from_prediction(one.name, prediction)
        if filled is None:
            raise UsageError(_missing(one.name, prediction))
        others[one.name] = filled
    return Parameters(
        {one.name: roles[one.name] for one in named if one.name in roles},
        others,
        tuple(one.name for one in named if one.kind == one.POSITIONAL_ONLY),
        said=bool(said),
    )


def _said(argument: str | None) -> list[Role]:
    found: list[Role] = []
    for text in [] if argument is None else argument.split(","):
        name = text.strip().lower().replace("-", "_")
        role = _ROLE_OF.get(name) if name not in ROLES else name
        if role is None:
            raise UsageError(
                f"`argument`: {quoted(text)} is nothing that a weight function is given.{did_you_mean(name, ROLES)} "
                f"Choose among {', '.join(ROLES)}; several, in the order of its parameters, are separated by commas"
            )
        found.append(role)
    return found


def _roles(
    named: Sequence[inspect.Parameter], said: Sequence[Role], others: Mapping[str, Any], argument: str | None
) -> dict[str, Role]:
    free = [one for one in named if one.name not in others]
    required = [one for one in free if one.default is one.empty or one.default is None]
    roles = {one.name: role for one in required if (role := _role_of(one.name)) is not None}
    if all(one.default is None for one in required if roles.get(one.name) in LEVELS):  # one of them is to be given
        first = next((level for level in LEVELS if level in roles.values()), None)
        roles = {name: role for name, role in roles.items() if role not in LEVELS or role == first}
    if len(said) == 1 and said[0] in LEVELS:
        roles = {name: role for name, role in roles.items() if role in ("loss", "scheduler")}
        meant = next((one for one in required if _role_of(one.name) == said[0]), None)
        meant = meant or next((one for one in required if one.name not in roles), None)
        if meant is None:
            raise UsageError(f"`argument={argument}`: the function has no parameter that could be it")
        roles[meant.name] = said[0]
    elif said:
        places = [one for one in named if one.name not in others]
        if len(places) < len(said):
            raise UsageError(
                f"`argument={argument}`: these are {len(said)}, and the function has {len(places)} parameters"
            )
        roles = {one.name: role for one, role in zip(places, said, strict=False)}
    if not any(role in LEVELS for role in roles.values()):
        extra = next((one for one in free if _role_of(one.name) in LEVELS), None)
        if extra is not None and not said:
            return {**roles, extra.name: _role_of(extra.name) or "snr"}
        names = ", ".join(one.name for one in named)
        raise UsageError(
            f"what the function takes cannot be told from its parameters' names ({names}). Say it: `argument=snr`, or "
            f"{', '.join(LEVELS[2:])} or timesteps"
        )
    return roles


def _role_of(name: str) -> Role | None:
    return _ROLE_OF.get(name.lower().strip("_"))


def _others(given: Mapping[str, Any], named: Sequence[inspect.Parameter], is_open: bool) -> dict[str, Any]:
    """Values by parameter; `args.gamma` is an attribute of args."""
    names = [one.name for one in named]
    found: dict[str, Any] = {}
    for key, value in given.items():
        name, dot, attribute = key.partition(".")
        if name not in names and not is_open:
            raise UsageError(f"the function has no parameter {quoted(name)}.{did_you_mean(name, names)}")
        if dot:
            setattr(found.setdefault(name, Attributes(name)), attribute, value)
        else:
            found[name] = value
    return found


def _from_prediction(name: str, prediction: str | None) -> Any:
    if prediction is None:
        return None
    if name == "prediction_type":
        return DIFFUSERS.get(prediction, prediction)
    return prediction == "v" if name in _FLAGS else None


def _missing(name: str, prediction: str | None) -> str:
    if prediction is None and (name == "prediction_type" or name in _FLAGS):
        return f"the function's parameter {name!r} follows from what the network predicts. Say it, as in `prediction=v`"
    if name == "self":
        return "this is a method, which needs an object: name a function, or a method of an object: FILE:object.method"
    return (
        f"the function's parameter {name!r} has no default, and its name does not say what it is. Give its value "
        f"(`given={name}=VALUE`, or `given={name}.ATTRIBUTE=VALUE` for one of its attributes), or say what it is "
        "(`argument`)"
    )
