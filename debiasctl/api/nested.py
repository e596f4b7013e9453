"""Other plugins among a plugin's options: `uncertainty:base=edm`, `product:factors=[debiased,"p2:gamma=0.5"]`."""

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
from debiasctl.api.timesteps import TimestepDistribution
from debiasctl.api.weightings import Weighting
from debiasctl.errors import UsageError


class Origin(Protocol):
    """Where a plugin comes from."""

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
    """A plugin that was found, with every option filled in."""

    @property
    def record(self) -> Origin:
        """Where it comes from."""
        ...

    @property
    def options(self) -> PluginOptions:
        """Its options."""
        ...

    def create(self) -> Any:
        """The plugin itself."""
        ...


class Resolver(Protocol):
    """What finds plugins; whoever validates options that name some gives one as pydantic's context."""

    def __call__(self, kind: str, value: Any) -> Resolved:
        """The plugin that `value` names: `name:key=value,...`, or a mapping with a name and options.

        Raises:
            UsageError: if there is no such plugin, or its options do not fit it.
        """
        ...


class NestedPlugin(BaseModel):
    """A plugin that another's options name; a spec stores its name, every option, distribution and version."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    kind: ClassVar[str]

    name: str = Field(description="the plugin's name")
    options: dict[str, Any] = Field(default_factory=dict, description="its options")
    distribution: str | None = Field(None, description="the distribution that offers it")
    version: str | None = Field(None, description="that distribution's version")
    _resolved: Resolved = PrivateAttr()

    @model_validator(mode="wrap")
    @classmethod
    def _resolve(cls, value: Any, check: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        if isinstance(value, cls):  # found before
            return check(value)
        if info.context is None:
            raise ValueError("plugins are found by debiasctl.registry.resolve alone. Have it validate these options")
        resolve: Resolver = info.context
        if not isinstance(value, str):
            stored = check(value)
            value = {"name": stored.name, "options": stored.options}
        try:
            resolved = resolve(cls.kind, value)
        except UsageError as error:
            raise ValueError(str(error).partition("\nSee: ")[0]) from error
        found = check(
            {
                "name": resolved.record.name,
                "options": resolved.options.model_dump(mode="json"),
                "distribution": resolved.record.distribution,
                "version": resolved.record.version,
            }
        )
        found._resolved = resolved
        return found


class NestedWeighting(NestedPlugin):
    """A weighting that another plugin's options name."""

    kind = "weightings"

    def create(self) -> Weighting:
        """The weighting itself."""
        made: Weighting = self._resolved.create()
        return made


class NestedTimesteps(NestedPlugin):
    """A distribution of t that another plugin's options name."""

    kind = "timesteps"

    def create(self) -> TimestepDistribution:
        """The distribution itself."""
        made: TimestepDistribution = self._resolved.create()
        return made
