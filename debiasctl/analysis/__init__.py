"""Analyses of weightings: the weights that a scheme gives, as tables and plots."""
