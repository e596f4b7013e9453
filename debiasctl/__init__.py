"""Find out which loss weighting to train a diffusion model with, and why (arXiv 2310.08442)."""

__version__ = "0.1.0"
