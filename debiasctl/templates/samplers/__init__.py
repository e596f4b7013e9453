"""A sampler for debiasctl."""
