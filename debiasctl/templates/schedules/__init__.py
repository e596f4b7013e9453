"""A noise schedule for debiasctl."""
