"""diffusers' networks, schedulers and pipeline folders as plugins of debiasctl."""
