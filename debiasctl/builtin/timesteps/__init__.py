"""Distributions of t in training, one per file."""
