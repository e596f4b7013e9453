"""Any function of (x_t, noise level, labels) as a network: the user's own code in the user's own process."""

import copy
import inspect
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from torch import Tensor, nn

from debiasctl.api import Backbone, ImageShape, ModelError, PluginOptions, Prediction, Space, UsageError
from debiasctl.api.files import expanded, quoted
from debiasctl.builtin.backbones import user_code
from debiasctl.builtin.backbones.layers import check_inputs
from debiasctl.builtin.backbones.user_code import Code
from debiasctl.diffusion import convert

FLOW_TIME = 1000  # the time of a network with flow-prediction is this times s
_LOG = logging.getLogger(__name__)
Input = Literal["vp", "edm", "flow"]
Level = Literal["t", "sigma", "c_noise", "s", "1000s"]
LEVELS: dict[Input, tuple[Level, ...]] = {"vp": ("t",), "edm": ("sigma", "c_noise"), "flow": ("s", "1000s")}
PREDICTS: dict[Input, tuple[Space, ...]] = {
    "vp": ("eps", "x0", "v"),
    "edm": ("x0", "eps", "v"),
    "flow": ("flow", "x0", "v"),
}
_SAID: set[tuple[str, str]] = set()  # the notes of this process


def _canonical(value: Any) -> Any:
    return "x0" if value == "denoised" else value


class Contract(PluginOptions):
    """What the callable takes and returns."""

    factory: str = Field(
        description="module:function, or FILE.py:function: a function without arguments that returns the callable, or "
        "the callable itself"
    )
    folder: Annotated[str, AfterValidator(lambda folder: str(expanded(folder)))] | None = Field(
        None, description="folder that the module is imported from; unset: the working directory, or installed packages"
    )
    arguments: dict[str, Any] = Field(
        default_factory=dict, description='keyword arguments of the factory, such as {"width":64}'
    )
    input: Input = Field(
        description="what x_t is: vp: alpha x0 + sigma eps with alpha² + sigma² = 1; edm: x0 + sigma eps; "
        "flow: (1 - s) x0 + s eps"
    )
    predicts: Annotated[Space, BeforeValidator(_canonical)] = Field(
        description="what is returned: eps, x0 (or denoised), v = (alpha eps - sigma x0)/√(alpha² + sigma²), or "
        "flow = eps - x0"
    )
    level: Level | None = Field(
        None,
        description="the noise level that it takes: vp: t, the timestep, 0 … T - 1; edm: sigma (default) or c_noise = "
        "ln(sigma)/4; flow: s (default) or 1000s",
    )

    @model_validator(mode="before")
    @classmethod
    def _file_as_module(cls, data: Any) -> Any:
        """Name a file as the module that it is in its folder."""
        named, folder = (data.get("factory"), data.get("folder")) if isinstance(data, Mapping) else (None, None)
        if not isinstance(named, str) or not isinstance(folder, str | None):
            return data
        file, _, function = named.rpartition(":")
        if not file.endswith(".py"):
            return data
        path = (expanded(folder) if folder else Path()).joinpath(expanded(file)).absolute()
        return {**data, "factory": f"{path.stem}:{function}", "folder": str(path.parent)}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not user_code.NAME.fullmatch(self.factory):
            raise ValueError(
                f"factory {quoted(self.factory)}: write module:function, such as toy:make for the function make in "
                "toy.py, or FILE.py:function. The file's name is of letters, digits, _ and -"
            )
        for name, value, allowed in (
            ("predicts", self.predicts, PREDICTS[self.input]),
            ("level", self.told, LEVELS[self.input]),
        ):
            if value not in allowed:
                why = ": at s = 1 no image follows from eps" if (self.input, value) == ("flow", "eps") else ""
                raise ValueError(f"{name}={value} with input={self.input}{why}. Choose {' or '.join(allowed)}")
        return self

    @property
    def told(self) -> Level:
        """The noise level that the callable takes."""
        return self.level or LEVELS[self.input][0]

    @property
    def prediction(self) -> Prediction:
        """The prediction type of the network that is made of it."""
        if self.input != "vp":
            return self.input
        assert self.predicts != "flow", "refused above"
        return self.predicts


class Python(Backbone):
    """Your own function of (x_t, noise level, labels), as `debiasctl runs add-model NAME python:…` adds it.

    Whatever uses it runs your code. A torch.nn.Module is stored in checkpoints and can be trained further; a plain
    function holds its own weights, and has none to train.
    """

    class Options(Contract):
        """What the callable takes and returns, and the file that it was found in."""

        sigma_data: float = Field(
            0.5, gt=0, description="edm: the run's own sigma_data; what the callable computes does not depend on it"
        )
        sha256: str | None = Field(None, description="SHA-256 of the module's file when the run was made")

    options: Options

    @classmethod
    def resolve_options(cls, options: Options, shape: ImageShape) -> Options:
        """Note where the module is, and its SHA-256.

        Raises:
            UsageError: if there is no such module.
        """
        if options.sha256 is not None:
            return options
        code = find(options)
        folder = None if code.folder is None else str(code.folder)
        return options.model_copy(update={"folder": folder, "sha256": code.sha256, "level": options.told})

    def check_prediction(self, prediction: Prediction, *, sigma_data: float) -> None:
        """Check that a run's prediction type is what the callable predicts, on its input.

        Raises:
            UsageError: if it is another.
        """
        own = self.options.prediction
        if prediction != own:
            raise UsageError(
                f"python: input={self.options.input} and predicts={self.options.predicts} make a network of "
                f"`model.prediction={own}`, not {prediction}"
            )
        if own == "edm" and sigma_data != self.options.sigma_data:
            raise UsageError(
                f"python: sigma_data={self.options.sigma_data:g}, and the run's is {sigma_data:g}. Give both the same"
            )

    def code_sha256(self) -> str:
        """The SHA-256 of the module's file as it is now."""
        return find(self.options).sha256

    def build(self, shape: ImageShape, num_classes: int) -> "PythonNetwork":
        """Import the module, call the factory, and adapt what it returns.

        Raises:
            UsageError: if there is no such module; ModelError: if the code fails, or makes something else.
        """
        code = find(self.options)
        _say(code, self.options.sha256)
        return PythonNetwork(made(code, self.options), code, self.options, shape, num_classes=num_classes)


def find(options: Python.Options) -> Code:
    """The code that options name."""
    folder = None if options.folder is None else Path(options.folder).absolute()
    if options.sha256 is None:
        return user_code.find(options.factory, folder)
    return user_code.find_again(options.factory, folder, sha256=options.sha256)


def made(code: Code, contract: Contract) -> Callable[..., Any]:
    """The callable: what the factory returns, or what is named, if that takes an image and a noise level itself.

    Raises:
        ModelError: if the import or the factory fails, or there is no callable.
    """
    named = user_code.load(code)
    if not callable(named):
        raise ModelError(f"{code}: it is {_kind(named)}, which cannot be called")
    takes_images = _binds(named, 1, 2) or _binds(named, 1, 2, 3)
    if not isinstance(named, type) and not contract.arguments and not _binds(named) and takes_images:
        return copy.deepcopy(named) if isinstance(named, nn.Module) else named
    if not _binds(named, **contract.arguments):
        given = f", not {', '.join(contract.arguments)}" if contract.arguments else ""
        raise ModelError(
            f"{code}: the factory takes {_signature(named)}{given}. Give it what it needs by the option arguments "
            '(arguments={"width":64}), or name a function without arguments'
        )
    found = user_code.call(code, "the factory", lambda: named(**contract.arguments))
    if not callable(found):
        raise ModelError(f"{code}: it returned {_kind(found)} in place of a callable of (x_t, noise level, labels)")
    return found  # type: ignore[no-any-return]  # callable() tells no more


class PythonNetwork(nn.Module):
    """A callable as a network of the prediction type that `Contract.prediction` states."""

    def __init__(
        self, function: Callable[..., Any], code: Code, contract: Python.Options, shape: ImageShape, *, num_classes: int
    ) -> None:
        super().__init__()
        self.code, self.contract, self.shape, self.num_classes = code, contract, shape, num_classes
        self.network = function  # a module among them is registered as one
        self.takes_labels = _binds(function, 1, 2, 3)
        if not self.takes_labels and (num_classes or not _binds(function, 1, 2)):
            asked = "(x_t, noise level, labels)" if num_classes else "(x_t, noise level, labels), or of two of them"
            raise ModelError(f"{code}: {_kind(function)}{_signature(function)} is no function of {asked}")

    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation mode.

        Raises:
            ModelError: if the callable is a module that fails at it.
        """
        user_code.call(self.code, "its train" if mode else "its eval", super().train, mode)
        return self

    def forward(self, x: Tensor, noise_level: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map x [N, in_channels, H, W], noise_level [N] and labels (int64 [N] or None) to [N, out_channels, H, W].

        Raises:
            ModelError: if the callable fails, or returns something else, or NaN or infinity.
        """
        check_inputs(x, noise_level, labels, shape=self.shape, num_classes=self.num_classes)
        given, level, alpha, sigma = self._given(x, noise_level)
        arguments = (given, level, labels) if self.takes_labels else (given, level)
        versions = [one._version for one in arguments if one is not None]
        output = user_code.call(self.code, f"its call with x_t {list(x.shape)}", self.network, *arguments)
        if versions != [one._version for one in arguments if one is not None]:
            raise ModelError(f"{self.code}: it changes what it is given in place, which others use too. Change a copy")
        self._check(output, x, level)
        output = output.to(x.dtype)
        if self.contract.input == "vp":
            return output  # type: ignore[no-any-return]  # it was checked
        value, rest = output[:, : x.shape[1]], output[:, x.shape[1] :]
        found = convert(value, self.contract.predicts, x_t=given, alpha=_wide(alpha, x), sigma=_wide(sigma, x))
        if self.contract.input == "flow":
            return torch.cat([found.eps - found.x0, rest], dim=1)
        # the target of EDM's network for these x0 and eps, at alpha = 1 (`Parameterization.target`)
        sigma_data = self.contract.sigma_data
        norm = torch.sqrt(sigma**2 + sigma_data**2)
        to_x0, to_eps = _wide(sigma / (sigma_data * norm), x), _wide(sigma_data / norm, x)
        return torch.cat([to_x0 * found.x0 - to_eps * found.eps, rest], dim=1)

    def _given(self, x: Tensor, noise_level: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the callable is given, x_t and the noise level, and alpha and sigma of that x_t, float64 [N]."""
        noise = noise_level.double()
        if self.contract.input == "vp":
            return x, noise_level, noise, noise
        if self.contract.input == "flow":
            s = noise / FLOW_TIME
            return x, noise_level if self.contract.told == "1000s" else s.to(noise_level.dtype), 1 - s, s
        sigma = torch.exp(4 * noise)
        given = _wide(torch.sqrt(sigma**2 + self.contract.sigma_data**2), x) * x
        return (
            given,
            noise_level if self.contract.told == "c_noise" else sigma.to(noise_level.dtype),
            torch.ones_like(sigma),
            sigma,
        )

    def _check(self, output: Any, x: Tensor, level: Tensor) -> None:
        shape = (x.shape[0], self.shape.out_channels, *x.shape[2:])
        asked = f"{_dtype(x)} {list(shape)} on {x.device}"
        if not isinstance(output, Tensor):
            raise ModelError(f"{self.code}: it returned {_kind(output)} in place of a tensor, {asked}")
        double = output.dtype == torch.float64
        if tuple(output.shape) != shape or not output.is_floating_point() or double != (x.dtype == torch.float64):
            raise ModelError(f"{self.code}: it returned {_dtype(output)} {list(output.shape)} in place of {asked}")
        if output.device != x.device:
            raise ModelError(f"{self.code}: it returned a tensor on {output.device} in place of {asked}")
        if torch.is_grad_enabled() and x.requires_grad and not output.requires_grad:
            raise ModelError(
                f"{self.code}: its result does not follow from x_t by torch's differentiable operations (no_grad, "
                "detach or NumPy stand between), and this needs its derivative. Leave those out"
            )
        if self.training or output.is_meta:  # training reports the step, t and weight at which a loss is not finite
            return
        if not bool(output.detach().isfinite().all()) and bool(x.detach().isfinite().all()):
            bad = int((~output.detach().isfinite()).flatten(1).any(dim=1).nonzero()[0])
            raise ModelError(
                f"{self.code}: it returned NaN or infinity for finite images at noise level {float(level[bad]):.6g} "
                f"({self.contract.told})"
            )


def _wide(values: Tensor, x: Tensor) -> Tensor:
    """Values [N] as [N, 1, 1, 1] in x's dtype."""
    return values.to(x.dtype).reshape(-1, 1, 1, 1)


def _say(code: Code, recorded: str | None) -> None:
    """Note once in a process that code of the user's runs, and whether it is what the run was made with."""
    if (str(code), code.sha256) in _SAID:
        return
    _SAID.add((str(code), code.sha256))
    _LOG.info("running code of yours: %s", code)
    if recorded is not None and recorded != code.sha256:
        _LOG.warning(
            "%s has changed since the model was added (SHA-256 %.12s…, now %.12s…). Results are those of the file as "
            "it is now; earlier ones are not reused",
            code.path,
            recorded,
            code.sha256,
        )


def _binds(function: Callable[..., Any], *args: Any, **named: Any) -> bool:
    """Whether a callable takes so many arguments; one whose signature is unknown takes any."""
    try:
        inspect.signature(function.forward if isinstance(function, nn.Module) else function).bind(*args, **named)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def _signature(function: Callable[..., Any]) -> str:
    try:
        return str(inspect.signature(function.forward if isinstance(function, nn.Module) else function))
    except (TypeError, ValueError):
        return ""


def _kind(value: object) -> str:
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
