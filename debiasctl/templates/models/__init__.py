"""A format of trained models for debiasctl."""
