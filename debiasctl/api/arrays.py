"""Reading arrays that others wrote: plain numbers of the stated size, never Python objects."""

from debiasctl.reading.arrays import UNREADABLE, Npz, ObjectArrayError, open_npz, read_header

__all__ = ["UNREADABLE", "Npz", "ObjectArrayError", "open_npz", "read_header"]
