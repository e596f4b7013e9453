"""The plugins of debiasctl's own, a folder a kind: they import `debiasctl.api` and `debiasctl.diffusion` alone."""
