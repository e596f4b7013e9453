"""The Python API as its users know it: names and signatures, and what importing it costs."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import debiasctl
from debiasctl.analysis.identify import Identification, Reading
from debiasctl.python.records import Analyses, Comparison, Evaluations, Metrics
from debiasctl.python.runs import Run
from debiasctl.python.timesteps import Timesteps, TimestepSample, TimestepSampler
from debiasctl.python.weights import LossWeighting, TimestepWeights

# Renaming or removing one of these breaks its users' programs: CHANGELOG.md says so when it must be.
NAMES = [
    "__version__", "analyze", "compare", "dataset", "evaluate", "identify", "run", "sampler", "timesteps", "weighting"
]  # fmt: skip
SIGNATURES = {
    "analyze": "(*runs, only=None, validation=False, metric=None, counterfactual=(), reference=None, num=None, seed=0, "
    "steps=None, trajectories=None, sampler='ddim', checkpoint=None, weights='ema', device='auto')",
    "weighting": "(reference)",
    "timesteps": "(reference)",
    "dataset": "(reference, *, data_dir=None)",
    "sampler": "(reference)",
    "run": "(name)",
    "identify": "(function, prediction=None, *, argument=None, schedule=None, given=None)",
    "evaluate": "(images, *, reference, features=None, metrics=None, feature_weights=None, device='auto')",
    "compare": "(*runs, arms=None, against=None, features=None, figures=None, by=(), metric=None, primary=None, "
    "reference=None, margin=0.05, paired=None, borrowed=False, blocks=(), levels=None, skip_damaged=False, "
    "device='auto')",
}
MEMBERS: dict[type[Any], dict[str, str]] = {
    LossWeighting: {
        "__call__": "(self, snr=None, *, sigma=None, s=None, prediction='eps', sigma_data=0.5, progress=None, "
        "normalize='none')",
        "for_schedule": "(self, schedule, *, prediction='eps', normalize='none', timesteps=None, sigma_data=0.5)",
        "for_scheduler": "(self, scheduler, *, prediction=None, normalize='none', timesteps=None, sigma_data=0.5)",
    },
    TimestepWeights: {
        "__call__": "(self, timesteps=None, *, snr=None, sigma=None, s=None, progress=None)",
        "prediction": "property",
        "table": "(self, *, progress=None)",
    },
    Timesteps: {
        "for_schedule": "(self, schedule, *, weighting=None, prediction='eps')",
        "for_scheduler": "(self, scheduler, *, weighting=None, prediction=None)",
        "sample": "(self, n, *, generator=None, device=None)",
    },
    TimestepSampler: {
        "observe": "(self, t, losses)",
        "probabilities": "(self, *, progress=None)",
        "sample": "(self, n, *, generator=None, device=None, progress=None)",
    },
    TimestepSample: {"s": "property", "sigma": "property"},
    Identification: {
        "is_named": "property",
        "levels": "property",
        "verdict": "property",
        "plot": "(self, path)",
        "to_dict": "(self)",
    },
    Reading: {
        "changes": "property",
        "is_named": "property",
        "is_of_its_unit": "property",
        "misfit": "property",
        "off": "property",
        "scheme": "property",
        "to_dict": "(self)",
        "weighting": "property",
        "where": "property",
    },
    Evaluations: {"rows": "(self)", "to_frame": "(self)"},
    Analyses: {"rows": "(self)", "to_frame": "(self)"},
    Comparison: {"rows": "(self)", "to_frame": "(self)"},
    Metrics: {"rows": "(self)", "to_frame": "(self)"},
    Run: {
        "autoencoder": "(self, *, device='auto')",
        "denoiser": "(self, *, weights='ema', checkpoint=None, device='auto')",
        "evaluate": "(self, *, num=1000, steps=None, features=None, metrics=None, reference=None, sampler='ddim', "
        "guide=None, seed=None, checkpoint=None, weights='ema', precision='fp32', batch_size=None, device='auto')",
        "metrics": "(self)",
        "model": "(self, *, weights='ema', checkpoint=None)",
        "name": "property",
        "path": "property",
        "sample": "(self, num=64, *, steps=None, sampler='ddim', guide=None, seed=None, class_name=None, "
        "checkpoint=None, weights='ema', precision='fp32', batch_size=None, device='auto')",
        "spec": "property",
    },
}


def shown(member: Any) -> str:
    """A signature without its annotations."""
    if isinstance(member, property):
        return "property"
    signature = inspect.signature(member)
    plain = [one.replace(annotation=inspect.Parameter.empty) for one in signature.parameters.values()]
    return str(signature.replace(parameters=plain, return_annotation=inspect.Signature.empty))


def test_the_names_are_these() -> None:
    assert debiasctl.__all__ == NAMES
    assert set(NAMES) <= set(dir(debiasctl))
    assert {name: shown(getattr(debiasctl, name)) for name in SIGNATURES} == SIGNATURES
    assert set(SIGNATURES) == set(NAMES) - {"__version__"}


@pytest.mark.parametrize("kind", MEMBERS, ids=lambda kind: kind.__name__)
def test_the_objects_have_these_members(kind: type[Any]) -> None:
    own = {
        name: member
        for name, member in vars(kind).items()
        if (name == "__call__" or not name.startswith("_")) and (callable(member) or isinstance(member, property))
    }
    inherited = {"to_frame": kind.to_frame} if hasattr(kind, "to_frame") else {}
    found = {name: shown(member) for name, member in {**inherited, **own}.items() if name != "weigh"}
    assert found == MEMBERS[kind]
    assert all(member.__doc__ for member in own.values())


def test_importing_it_imports_nothing_heavy() -> None:
    """Neither do `dir` and names that are not there; in a process of its own, as pytest has imported everything."""
    code = (
        "import sys, debiasctl; assert 'weighting' in dir(debiasctl); assert not hasattr(debiasctl, 'wieghting'); "
        "print(sorted({name.partition('.')[0] for name in sys.modules} & "
        "{'torch', 'numpy', 'pydantic', 'scipy', 'accelerate', 'typer', 'rich', 'PIL'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_type_checkers_see_every_name() -> None:
    tree = ast.parse(Path(debiasctl.__file__).read_text(encoding="utf-8"))
    (branch,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    imports = [node for node in branch.body if isinstance(node, ast.ImportFrom)]
    assert {alias.name: node.module for node in imports for alias in node.names} == debiasctl._HOMES
    assert Path(debiasctl.__file__).with_name("py.typed").is_file()


def test_a_name_that_is_not_there_is_said_with_those_that_are() -> None:
    with pytest.raises(AttributeError, match=re.escape("no attribute 'wieghting'")) as error:
        debiasctl.wieghting  # noqa: B018
    assert "weighting" in str(error.value)


def test_data_sets_and_samplers_are_given_by_their_references(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEBIASCTL_HOME", str(tmp_path))
    data = debiasctl.dataset("gaussian-mixture:image_size=8,num=8")
    assert (len(data.train), len(data.heldout), data.info.image_size) == (8, 2, 8)
    assert debiasctl.sampler("ddpm:variance=fixed-large").options.variance == "fixed-large"
    monkeypatch.setattr("debiasctl.python.plugins.load_dataset", lambda reference, location: location)
    assert debiasctl.dataset("cifar10", data_dir=str(tmp_path)).data_dir == tmp_path
