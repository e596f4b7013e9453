"""The parts of an analysis by name, in the order in which they are made and shown."""

from collections.abc import Mapping

from debiasctl.analysis.parts.colour.doctor import Colour
from debiasctl.analysis.parts.existence.part import Existence
from debiasctl.analysis.parts.impact import Impact
from debiasctl.analysis.parts.part import Part
from debiasctl.analysis.parts.reasons.part import Reasons
from debiasctl.analysis.parts.stitching import Stitching
from debiasctl.analysis.parts.validation.part import Validation

_ALL: tuple[Part, ...] = (Existence(), Impact(), Stitching(), Reasons(), Colour(), Validation())
PARTS: Mapping[str, Part] = {part.name: part for part in _ALL}
