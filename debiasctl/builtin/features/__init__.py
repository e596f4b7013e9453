"""Feature extractors for evaluation, one per file."""
