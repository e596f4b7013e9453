"""Metrics of a set of images: distances, neighbours, colours and spectra."""
