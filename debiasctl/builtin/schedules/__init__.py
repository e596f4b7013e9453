"""Noise schedules, one a file."""
