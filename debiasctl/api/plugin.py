"""The base of all plugins."""

from abc import ABC
from typing import Any, ClassVar

from debiasctl.api.options import PluginOptions


class Plugin(ABC):
    """The common base of plugins of every kind; derive from the base of a kind, not from this class.

    A plugin with options has an inner `class Options(PluginOptions)` and, if its code is type-checked, the annotation
    `options: Options` below it. A plugin that needs its own initialisation overrides `__init__(self, options)` and
    calls `super().__init__(options)`.
    """

    Options: ClassVar[type[PluginOptions]] = PluginOptions
    options: Any

    def __init__(self, options: Any) -> None:
        self.options = options
