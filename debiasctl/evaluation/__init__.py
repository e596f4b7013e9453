"""Measuring sets of images: metrics, their uncertainty, references and likelihoods."""
