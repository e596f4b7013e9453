"""Feature extractors for evaluation, one a file."""
