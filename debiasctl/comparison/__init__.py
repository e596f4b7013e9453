"""Runs set beside one another."""
