"""A feature extractor for debiasctl."""
