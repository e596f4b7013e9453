"""The base of all plugins."""

from abc import ABC
from typing import Any, ClassVar

from debiasctl.api.options import PluginOptions


class Plugin(ABC):
    """What the plugins of every kind have in common; derive from the base of a kind, not from this class.

    A plugin with options has an inner `class Options(PluginOptions)` and, where its code is type-checked, the
    annotation `options: Options` below it. A plugin that does more when it is made overrides `__init__(self, options)`
    and calls `super().__init__(options)`.
    """

    Options: ClassVar[type[PluginOptions]] = PluginOptions
    options: Any

    def __init__(self, options: Any) -> None:
        self.options = options
