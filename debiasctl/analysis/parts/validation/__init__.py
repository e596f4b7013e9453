"""Validation: whether held-out errors rank runs and checkpoints as the distance of their samples does."""
