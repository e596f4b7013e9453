"""Trained networks: building them, their weights, averages and checkpoint files."""
