"""Numbers as people read them."""


def format_bytes(count: float) -> str:
    """A number of bytes in MB or GB (powers of ten)."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
