"""Run specs: all settings that determine what a run trains."""
