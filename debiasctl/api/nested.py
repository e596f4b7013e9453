"""Plugins as options of other plugins: `uncertainty:base=edm`, `product:factors=[debiased,"p2:gamma=0.5"]`."""

from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Protocol, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationInfo,
    model_validator,
)

from debiasctl.api.options import PluginOptions
from debiasctl.api.schedules import Schedule
from debiasctl.api.timesteps import TimestepDistribution
from debiasctl.api.weightings import Weighting
from debiasctl.errors import UsageError


class Origin(Protocol):
    """The distribution that a plugin comes from."""

    @property
    def name(self) -> str:
        """The plugin's name."""
        ...

    @property
    def distribution(self) -> str:
        """The distribution that offers it."""
        ...

    @property
    def version(self) -> str:
        """That distribution's version."""
        ...


class Resolved(Protocol):
    """A plugin found by its reference, with every option filled in."""

    @property
    def record(self) -> Origin:
        """The plugin's origin."""
        ...

    @property
    def options(self) -> PluginOptions:
        """The plugin's options."""
        ...

    def create(self) -> Any:
        """Make the plugin."""
        ...

    def stored_options(self) -> dict[str, Any]:
        """Return every option as JSON holds it."""
        ...


class Resolver(Protocol):
    """A function that finds plugins; validating options that name plugins needs one as pydantic's context."""

    def __call__(self, kind: str, value: Any) -> Resolved:
        """Find the plugin that `value` names, as `name:key=value,...` or a mapping with a name and options.

        Raises:
            UsageError: if there is no such plugin, or its options are not valid.
        """
        ...


class StoredPlugin(BaseModel):
    """A plugin as a spec stores it: its name, every option, and the distribution that it came from."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(description="the plugin's name")
    options: dict[str, Any] = Field(default_factory=dict, description="its options")
    distribution: str | None = Field(None, description="the distribution that offers it")
    version: str | None = Field(None, description="that distribution's version")


_PARTS = tuple(StoredPlugin.model_fields)
_MISSPELT = ("option", "opts")  # left to be refused, with the right name


def with_loose_options(value: Mapping[str, Any], *, beside: Collection[str] = _PARTS) -> Mapping[str, Any]:
    """A plugin's parts, with what stands beside its name, except for the parts `beside`, moved into its options.

    Raises:
        UsageError: if an option stands both beside the name and among the options.
    """
    loose = {name: one for name, one in value.items() if name not in (*beside, *_MISSPELT)}
    options = value.get("options") or {}
    if not loose or not isinstance(options, Mapping):
        return value
    twice = sorted(map(str, loose.keys() & options.keys()))
    if twice:
        raise UsageError(
            f"the option '{twice[0]}' is given both beside the plugin's name and in 'options'. Give it once"
        )
    return {**{name: one for name, one in value.items() if name not in loose}, "options": {**options, **loose}}


class NestedPlugin(StoredPlugin):
    """A plugin named in another's options."""

    kind: ClassVar[str]
    _resolved: Resolved = PrivateAttr()

    @model_validator(mode="wrap")
    @classmethod
    def _resolve(cls, value: Any, check: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        if isinstance(value, cls):  # found before
            return check(value)
        if info.context is None:
            raise ValueError("plugins are found by debiasctl.registry.resolve only. Validate these options through it")
        resolve: Resolver = info.context
        try:
            if not isinstance(value, str):
                stored = check(with_loose_options(value) if isinstance(value, Mapping) else value)
                value = {"name": stored.name, "options": stored.options}
            resolved = resolve(cls.kind, value)
        except UsageError as error:
            raise ValueError(str(error).partition("\nSee: ")[0]) from error
        found = check(
            {
                "name": resolved.record.name,
                "options": resolved.stored_options(),
                "distribution": resolved.record.distribution,
                "version": resolved.record.version,
            }
        )
        found._resolved = resolved
        return found


class NestedWeighting(NestedPlugin):
    """A weighting named in another plugin's options."""

    model_config = ConfigDict(title="weighting reference")

    kind = "weightings"

    def create(self) -> Weighting:
        """Make the weighting."""
        made: Weighting = self._resolved.create()
        return made


class NestedTimesteps(NestedPlugin):
    """A distribution of t named in another plugin's options."""

    model_config = ConfigDict(title="timestep distribution reference")

    kind = "timesteps"

    def create(self) -> TimestepDistribution:
        """Make the distribution."""
        made: TimestepDistribution = self._resolved.create()
        return made


class NestedSchedule(NestedPlugin):
    """A noise schedule named in another plugin's options."""

    model_config = ConfigDict(title="schedule reference")

    kind = "schedules"

    def create(self) -> Schedule:
        """Make the schedule."""
        made: Schedule = self._resolved.create()
        return made
