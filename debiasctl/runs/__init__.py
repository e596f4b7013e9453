"""The store of runs: one folder a run."""
