"""The parts of an analysis by name, in the order in which they are made and shown."""

from collections.abc import Mapping

from debiasctl.analysis.parts.part import Part

PARTS: Mapping[str, Part] = {}
