"""Pictures: grids, enlargements and how they are written."""
