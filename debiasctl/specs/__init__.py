"""Run specs: everything that decides what a run trains."""
