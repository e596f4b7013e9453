"""Image grids and plots, and writing them to files."""
