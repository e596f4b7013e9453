"""A distribution of timesteps for debiasctl."""
