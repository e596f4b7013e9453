"""Analyses of several runs: which parts are made of which runs, means over seeds, differences, and reports."""
