"""Sparse-to-sparse training of diffusion models (arXiv 2504.21380) as an extension of training."""
