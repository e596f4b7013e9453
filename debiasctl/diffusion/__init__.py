"""The diffusion process, its parameterizations, weights and losses."""
