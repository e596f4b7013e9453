"""Devices, processes, memory, signals and counter-based randomness."""
