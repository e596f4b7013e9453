"""Shared parts of data sets: image files, decoding, downloads and archives."""
