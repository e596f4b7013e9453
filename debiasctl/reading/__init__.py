"""Reading what others wrote: regular files alone, bounded by declared and by actual size, and well-formed."""
