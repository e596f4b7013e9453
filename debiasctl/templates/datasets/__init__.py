"""A data set for debiasctl."""
