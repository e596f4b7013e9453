"""What the shell completes: run and plugin names, read without importing torch."""

from collections.abc import Callable

from debiasctl import registry
from debiasctl.runs import store as runs


def complete_run(incomplete: str) -> list[str]:
    """Names of runs in the store."""
    return [name for name in runs.run_names() if name.startswith(incomplete)]


def complete_kind(incomplete: str) -> list[str]:
    """Plugin kinds."""
    return [kind for kind in registry.KINDS if kind.startswith(incomplete)]


def complete_plugin(kind: str) -> Callable[[str], list[str]]:
    """A completion of plugin names of one kind."""

    def complete(incomplete: str) -> list[str]:
        return sorted({record.name for record in registry.records(kind) if record.name.startswith(incomplete)})

    return complete


def complete_any_plugin(incomplete: str) -> list[str]:
    """Plugin names of every kind."""
    return sorted({name for kind in registry.KINDS for name in complete_plugin(kind)(incomplete)})


def complete_section(incomplete: str) -> list[str]:
    """Sections of a run spec; after the dot, the settings of one."""
    from debiasctl.specs.describe import describe_spec
    from debiasctl.specs.sections import RunSpec

    section, dot, _ = incomplete.partition(".")
    if dot and section in RunSpec.model_fields:
        names = dict.fromkeys(setting.name for one in describe_spec(section) for setting in one.settings)
        return [name for name in names if name.startswith(incomplete)]
    return [name for name in RunSpec.model_fields if name.startswith(incomplete)]
