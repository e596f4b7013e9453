"""Training: setup, one step, the loop, EMA and checkpoints."""
