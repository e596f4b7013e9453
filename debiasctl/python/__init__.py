"""The Python API, which `import debiasctl` offers: weights, timesteps, evaluations, comparisons and runs."""
