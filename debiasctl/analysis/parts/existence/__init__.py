"""Existence: the error of a network's estimates by noise level, split into what could be learned and what could not."""
