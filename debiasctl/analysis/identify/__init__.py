"""Names the loss weighting that a function or a table computes, or says that it is none that is known."""

from debiasctl.analysis.identify.flags import write_weights
from debiasctl.analysis.identify.identification import identify, identify_table
from debiasctl.analysis.identify.readings import Identification, Reading

__all__ = ["Identification", "Reading", "identify", "identify_table", "write_weights"]
