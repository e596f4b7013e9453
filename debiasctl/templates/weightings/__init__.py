"""A loss weighting for debiasctl."""
