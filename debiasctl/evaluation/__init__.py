"""Distances between sets of images, and what they are measured with."""
