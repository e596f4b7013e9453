"""Sweeps: the same training in several arms and with several seeds, measured and compared."""
