"""Loss weightings, one per file."""
