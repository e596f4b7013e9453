"""Distributions of t in training, one a file."""
