"""The noncentral t distribution, solved for its noncentrality."""

import numpy as np
from scipy.special import nctdtrinc

_FAR = 1e3  # beyond, the noncentrality grows in proportion to t; the solver gets slow there, and does not always end


def noncentrality(freedom: "np.ndarray", observed: "np.ndarray", tail: float) -> "np.ndarray":
    """The noncentrality at which a t below `observed` has the probability `tail`."""
    beyond = np.maximum(np.abs(observed) / _FAR, 1.0)
    found: np.ndarray = nctdtrinc(freedom, tail, observed / beyond) * beyond
    return found
