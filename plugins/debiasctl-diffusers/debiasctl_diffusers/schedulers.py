"""diffusers' schedulers: which of them draw images, which do not and why, and how they are found by name."""

import difflib
import inspect
from collections.abc import Mapping
from typing import Any, Literal

from debiasctl.api import UsageError

Kind = Literal["table", "flow", "edm"]

# x_t of a table of betas, itself or (the second line) divided by alpha
_ON_X_T = (
    "CogVideoXDDIM", "DDIM", "DDIMParallel", "DDPM", "DDPMParallel", "DEISMultistep", "DPMSolverMultistep",
    "DPMSolverSinglestep", "LCM", "PNDM", "SASolver", "TCD", "UniPCMultistep",
)  # fmt: skip
_ON_RATIOS = (
    "EulerAncestralDiscrete", "EulerDiscrete", "HeunDiscrete", "KDPM2AncestralDiscrete", "KDPM2Discrete", "LMSDiscrete",
)  # fmt: skip
_ON_SHARES = ("FlowMatchEulerDiscrete", "FlowMatchHeunDiscrete", "FlowMatchLCM", "LTXEulerAncestralRF")
_ON_EDM = ("EDMDPMSolverMultistep", "EDMEuler")
_OF_KIND: Mapping[Kind, tuple[str, ...]] = {"table": _ON_X_T + _ON_RATIOS, "flow": _ON_SHARES, "edm": _ON_EDM}
KINDS: Mapping[str, Kind] = {f"{name}Scheduler": kind for kind, names in _OF_KIND.items() for name in names}

_WORDS = "it draws tokens of text or of codes, not images of real numbers"
_TO_NOISE = "it leads from images to noise"
_BROWNIAN = "its noise is a Brownian tree of torchsde's, which cannot be given to it"
REFUSED: Mapping[str, str] = {
    "AmusedScheduler": _WORDS,
    "BlockRefinementScheduler": _WORDS,
    "CMStochasticIterativeScheduler": "it is for consistency models, whose network is another than a denoiser",
    "CogVideoXDPMScheduler": "each of its steps needs two timesteps and an earlier estimate, which CogVideoX's own "
    "pipeline alone gives",
    "ConsistencyDecoderScheduler": "it is for the decoder of latents by a consistency model, and has its own levels",
    "CosineDPMSolverMultistepScheduler": _BROWNIAN,
    "DDIMInverseScheduler": _TO_NOISE,
    "DDPMWuerstchenScheduler": "its noise levels are its own, and no table of betas can be given to it",
    "DPMSolverMultistepInverseScheduler": _TO_NOISE,
    "DPMSolverSDEScheduler": _BROWNIAN,
    "DiscreteDDIMScheduler": _WORDS,
    "EntropyBoundScheduler": _WORDS,
    "FlowMapEulerDiscreteScheduler": "it is for flow maps, whose network takes two times",
    "HeliosDMDScheduler": "it is for Helios, whose videos are drawn in stages of several sizes",
    "HeliosScheduler": "it is for Helios, whose videos are drawn in stages of several sizes",
    "IPNDMScheduler": "it takes its network to have been trained on its own noise levels, whatever betas are given",
    "KarrasVeScheduler": "its images have noise added without scale (variance exploding), and its step needs two "
    "estimates; EulerDiscreteScheduler and HeunDiscreteScheduler draw by the same equations",
    "MiniMaxH3Scheduler": "its time runs from noise to image and its velocity the other way round; "
    "FlowMatchEulerDiscreteScheduler draws the same",
    "PiflowScheduler": "it is for policies that were distilled from a flow",
    "RFD4ProteinaScheduler": "it draws the coordinates of proteins",
    "RePaintScheduler": "it fills holes in images, and needs an image and a mask",
    "SCMScheduler": "it is for consistency models with trigonometric flow",
    "ScoreSdeVeScheduler": "its images have noise added without scale (variance exploding), and its steps are those of "
    "a score, with a corrector; EDMEulerScheduler draws from such levels",
    "ScoreSdeVpScheduler": "it has a continuous variance-preserving process of its own",
    "UnCLIPScheduler": "its noise levels are its own, and no table of betas can be given to it",
    "VQDiffusionScheduler": _WORDS,
}
_DROPPED = ((), ("discrete",), ("multistep",))  # words that a short name may leave out
_SHORT = {"eulera": "EulerAncestralDiscrete", "dpmpp2m": "DPMSolverMultistep", "kdpm2a": "KDPM2AncestralDiscrete"}


def installed() -> dict[str, Any]:
    """The scheduler classes of the installed diffusers by name; those that need another package are left out."""
    import diffusers

    names = (name for name in dir(diffusers) if name.endswith("Scheduler") and not name.startswith("Flax"))
    return {name: found for name in names if (found := class_named(name)) is not None}


def class_named(name: str) -> Any:
    """The scheduler class of that name; None if the installed diffusers has none that can be used."""
    import diffusers
    from diffusers import SchedulerMixin

    found = getattr(diffusers, name, None)
    return found if isinstance(found, type) and issubclass(found, SchedulerMixin) else None


def scheduler_class(given: str) -> Any:
    """The scheduler class that a name or a short name such as `unipc` or `dpm-solver-multistep` stands for.

    Raises:
        UsageError: if there is none, or it cannot draw a run's images; the message says why, or names the nearest.
    """
    import diffusers

    name = _full(given)
    if name in REFUSED:
        raise UsageError(f"sampler 'diffusers': {name} cannot draw a run's images: {REFUSED[name]}")
    if name in KINDS:
        found = class_named(name)
        if found is not None:
            return found
        raise UsageError(f"sampler 'diffusers': diffusers {diffusers.__version__} has no {name}. Install a newer one")
    if name.endswith("Scheduler") and class_named(name) is not None:
        raise UsageError(
            f"sampler 'diffusers': {name} is a scheduler of diffusers that is not known here. Known: {_listed(KINDS)}"
        )
    short = {_shortened(one, drop): one for drop in reversed(_DROPPED) for one in KINDS}
    near = difflib.get_close_matches(_bare(given), list(short), n=1, cutoff=0.5)
    hint = f" Did you mean {short[near[0]]}?" if near else ""
    raise UsageError(f"sampler 'diffusers': diffusers has no scheduler '{given}'.{hint} Known: {_listed(KINDS)}")


def arguments(function: Any) -> dict[str, Any]:
    """The named arguments of a function, with their defaults."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = inspect.signature(function).parameters
    return {name: one.default for name, one in found.items() if one.kind in named and name != "self"}


def _full(given: str) -> str:
    """The class's name for any spelling of it; what is not known stays as it is."""
    bare = _bare(given)
    bare = _bare(_SHORT.get(bare, bare))
    found = (name for drop in _DROPPED for name in (*KINDS, *REFUSED) if _shortened(name, drop) == bare)
    return next(found, given)


def _shortened(name: str, drop: tuple[str, ...]) -> str:
    bare = _bare(name)
    for word in drop:
        bare = bare.replace(word, "")
    return bare


def _bare(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum()).removesuffix("scheduler")


def _listed(names: Any) -> str:
    return ", ".join(name.removesuffix("Scheduler") for name in names)
