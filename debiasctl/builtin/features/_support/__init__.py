"""Shared parts of feature extractors: preprocessing, caching and networks."""
