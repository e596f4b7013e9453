"""How figures are said in sentences."""

from debiasctl.analysis.record import Quantity

CHANNEL_WORDS = {"": "mean", "grey": "mean", "r": "red", "g": "green", "b": "blue"}


NEGLIGIBLE = 5e-4  # of a mean pixel in [-1, 1]: less than a tenth of one of 256 grey levels


def brief(figure: Quantity) -> str:
    """A figure with its interval in brackets, as in `+0.012 (+0.005 to +0.019)`."""
    if figure.low is None or figure.high is None:
        return f"{figure.value:+.2g} (no interval)"
    return f"{figure.value:+.2g} ({figure.low:+.2g} to {figure.high:+.2g})"


def is_negligible(figure: Quantity) -> bool:
    """Whether a mean pixel's figure lies within `NEGLIGIBLE` of 0, and all of its interval if it has one."""
    ends = [end for end in (figure.value, figure.low, figure.high) if end is not None]
    return max(map(abs, ends)) < NEGLIGIBLE


def said(figure: Quantity, *, signed: bool = True) -> str:
    """A figure with its interval, as in `+0.012 (95 % interval +0.005 to +0.019)`."""
    sign = "+" if signed else ""
    value = f"{figure.value:{sign}.2g}"
    if figure.low is None or figure.high is None:
        return f"{value} (no interval)"
    return f"{value} (95 % interval {figure.low:{sign}.2g} to {figure.high:{sign}.2g})"


def leaves_out_0(figure: Quantity) -> bool:
    """Whether the figure's interval leaves out 0."""
    return figure.low is not None and figure.high is not None and (figure.low > 0 or figure.high < 0)


def case(name: str, base: str) -> list[str] | None:
    """The cases in brackets of a figure called `base`, or None for another figure."""
    head, bracket, rest = name.partition("[")
    if head != base:
        return None
    return rest.removesuffix("]").split(", ") if bracket else []
