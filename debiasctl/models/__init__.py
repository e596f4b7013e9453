"""A trained network: building it, its weights, averages and checkpoint files."""
