"""How figures are said in sentences."""

from decimal import Decimal

from debiasctl.analysis.record import Quantity

CHANNEL_WORDS = {"": "mean", "grey": "mean", "r": "red", "g": "green", "b": "blue"}


NEGLIGIBLE = 5e-4  # of a mean pixel in [-1, 1]: less than a tenth of one of 256 grey levels


def number(value: float, *, signed: bool = True) -> str:
    """Two digits of a number, without an exponent and with a true minus sign."""
    return format(Decimal(f"{value:.2g}"), f"{'+' if signed else ''}f").replace("-", "−")


def brief(figure: Quantity) -> str:
    """A figure with its interval in brackets, as in `+0.012 (+0.005 to +0.019)`."""
    if figure.low is None or figure.high is None:
        return f"{number(figure.value)} (no interval)"
    return f"{number(figure.value)} ({number(figure.low)} to {number(figure.high)})"


def is_negligible(figure: Quantity) -> bool:
    """Whether a mean pixel's figure lies within `NEGLIGIBLE` of 0, and all of its interval if it has one."""
    ends = [end for end in (figure.value, figure.low, figure.high) if end is not None]
    return max(map(abs, ends)) < NEGLIGIBLE


def said(figure: Quantity, *, signed: bool = True) -> str:
    """A figure with its interval, as in `+0.012 (95 % interval +0.005 to +0.019)`."""
    value = number(figure.value, signed=signed)
    if figure.low is None or figure.high is None:
        return f"{value} (no interval)"
    return f"{value} (95 % interval {number(figure.low, signed=signed)} to {number(figure.high, signed=signed)})"


def leaves_out_0(figure: Quantity) -> bool:
    """Whether the figure's interval leaves out 0."""
    return figure.low is not None and figure.high is not None and (figure.low > 0 or figure.high < 0)


def case(name: str, base: str) -> list[str] | None:
    """The cases in brackets of a figure called `base`, or None for another figure."""
    head, bracket, rest = name.partition("[")
    if head != base:
        return None
    return rest.removesuffix("]").split(", ") if bracket else []
