"""A backbone for debiasctl."""
