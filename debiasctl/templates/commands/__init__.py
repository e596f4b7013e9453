"""A command for debiasctl."""
