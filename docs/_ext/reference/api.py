"""The Python API, `debiasctl.api`, `debiasctl.diffusion` and `debiasctl.testing`, name by name, for autodoc."""

import re
from dataclasses import is_dataclass
from types import FunctionType, ModuleType
from typing import Any

import debiasctl
from debiasctl import api, diffusion, testing
from debiasctl.analysis.identify import Identification, Reading
from debiasctl.python.analyses import Analyses
from debiasctl.python.records import Comparison, Evaluations, Metrics
from debiasctl.python.runs import Run
from debiasctl.python.timesteps import Timesteps, TimestepSample, TimestepSampler
from debiasctl.python.weights import LossWeighting, TimestepWeights
from debiasctl.registry import KINDS

_RETURNED: dict[str, tuple[type, ...]] = {
    "analyze": (Analyses,),
    "compare": (Comparison,),
    "evaluate": (Evaluations,),
    "identify": (Identification, Reading),
    "run": (Run, Metrics),
    "timesteps": (Timesteps, TimestepSampler, TimestepSample),
    "weighting": (LossWeighting, TimestepWeights),
}
_PLAIN = re.compile(r"(?<![`:\w])`([^`\n]+)`(?!`)")


def page() -> str:
    """The body of the page of `debiasctl.api`."""
    return _page(api)


def diffusion_page() -> str:
    """The body of the page of `debiasctl.diffusion`."""
    return _page(diffusion)


def testing_page() -> str:
    """The body of the page of `debiasctl.testing`."""
    return _page(testing)


def python_page() -> str:
    """The body of the page of `import debiasctl`: the functions, each with the objects that it returns."""
    parts = []
    for name in debiasctl.__all__:
        function = getattr(debiasctl, name)
        if isinstance(function, FunctionType):
            lines = [f".. autofunction:: debiasctl.{name}", ""]
            for kind in _RETURNED.get(name, ()):
                lines += [f".. autoclass:: {kind.__module__}.{kind.__name__}()", "   :members:"]
                lines += [
                    "   :inherited-members: dict, list",
                    "   :special-members: __call__",
                    "   :exclude-members: weigh",
                    "",
                ]
            parts.append("\n".join([f"## {name}", "", "```{eval-rst}", *lines, "```"]))
    return "\n\n".join(parts)


def _page(package: ModuleType) -> str:
    """The exported names: the kinds in the registry's order, then what they share."""
    parts: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for name in package.__all__:
        parts.setdefault(_group(getattr(package, name)), []).append(name)
    return "\n\n".join(_section(package, group, names) for group, names in parts.items() if names)


def prepare_docstring(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """A docstring as reStructuredText has it: `code` in two backticks, a blank line before a list."""
    plain, lines[:] = list(lines), []
    for line in plain:
        if line.startswith("- ") and lines and lines[-1] and not lines[-1].startswith(("- ", "  ")):
            lines.append("")
        lines.append(_PLAIN.sub(r"``\1``", line))


def _group(member: Any) -> str:
    if isinstance(member, float):
        return "constants"
    package, _, module = getattr(member, "__module__", "").rpartition(".")
    return module if package.partition(".")[0] == "debiasctl" else "types"


def _section(package: ModuleType, group: str, names: list[str]) -> str:
    lines = [f"## {group.replace('_', ' ')}", "", "```{eval-rst}"]
    for name in names:
        member = getattr(package, name)
        if isinstance(member, type):
            bases = ["   :show-inheritance:"] if member.__bases__ != (object,) else []
            fields = [] if is_dataclass(member) else ["   :undoc-members:"]  # those of a dataclass are in its signature
            calls = ["   :special-members: __call__, __len__", "   :exclude-members: model_config, model_post_init"]
            lines += [f".. autoclass:: {package.__name__}.{name}", "   :members:", *calls, *fields, *bases, ""]
        elif isinstance(member, FunctionType):
            lines += [f".. autofunction:: {package.__name__}.{name}", ""]
        else:
            lines += [f".. autodata:: {package.__name__}.{name}", ""]
    return "\n".join([*lines, "```"])
