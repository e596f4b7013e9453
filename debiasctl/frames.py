"""What the interpreter is amid when a signal comes."""

from types import FrameType


def is_importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported: packages turn an exception amid their imports into another."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
