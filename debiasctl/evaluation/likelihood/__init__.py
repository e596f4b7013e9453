"""Bits per dimension of held-out images."""
