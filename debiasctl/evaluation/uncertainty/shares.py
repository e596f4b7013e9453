"""Score intervals for shares of images and their differences, which are informative even where none or all count."""

import math
from collections.abc import Sequence

from debiasctl.evaluation.uncertainty.intervals import LEVEL, Interval

SHARE_METHOD = "Wilson score"


def share_interval(successes: int, num: int, *, level: float = LEVEL, effect: float = 0.0) -> Interval:
    """Wilson's score interval (1927) for the share that `successes` of `num` independent images estimate.

    `effect` is a standard deviation that the images measured against add: with it, the images count as the smaller
    number of independent ones that would have as large a variance.
    """
    z = _normal_quantile(level)
    middle = (successes + z**2 / 2) / (num + z**2)
    counted = num / (1 + num * effect**2 / (middle * (1 - middle)))
    share = successes / num
    centre = (share + z**2 / (2 * counted)) / (1 + z**2 / counted)
    half = z / (1 + z**2 / counted) * math.sqrt(share * (1 - share) / counted + z**2 / (4 * counted**2))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == num else min(1.0, centre + half)
    return Interval(share, low, high, level)


def paired_difference(
    first: Sequence[bool], second: Sequence[bool], *, level: float = LEVEL, effect: float = 0.0
) -> Interval:
    """Tango's score interval (1998) for the difference of two shares among the same `num` images, `second` - `first`.

    `first[i]` and `second[i]` say whether the i-th image of each set counts; sets that share nothing are a special
    case. Without any image in which the sets differ it reaches from -z²/(n + z²) to z²/(n + z²). `effect` is as for
    `share_interval`.

    Raises:
        ValueError: if the numbers of images differ.
    """
    gained = sum(b and not a for a, b in zip(first, second, strict=True))
    lost = sum(a and not b for a, b in zip(first, second, strict=True))
    num, estimate = len(first), (gained - lost) / len(first)
    z = _normal_quantile(level)
    spread = (gained + lost + z**2 / 2) / num - estimate**2  # of one image's difference
    counted = num / (1 + num * effect**2 / spread)
    b, c = gained * counted / num, lost * counted / num
    low, high = (_reach(b, c, counted, z=z, sign=sign) for sign in (-1, 1))
    at_zero = (b - c) / math.sqrt(b + c) if b + c > 0 else 0.0
    return Interval(estimate, low, high, level, math.erfc(abs(at_zero) / math.sqrt(2)))


def _reach(gained: float, lost: float, num: float, *, z: float, sign: int) -> float:
    """The difference furthest in a direction that the score test does not reject, by bisection."""
    if sign < 0:
        return -_reach(lost, gained, num, z=z, sign=1)
    low, high = (gained - lost) / num, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _score(gained, lost, num, middle) > -z:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _score(gained: float, lost: float, num: float, difference: float) -> float:
    """Tango's statistic: the distance of the observed difference from `difference` in its standard errors there."""
    above = gained - lost - num * difference
    b = -gained - lost + (2 * num - gained + lost) * difference
    c = -lost * difference * (1 - difference)
    lost_share = (math.sqrt(max(b * b - 8 * num * c, 0.0)) - b) / (4 * num)
    variance = num * (2 * lost_share + difference * (1 - difference))
    return above / math.sqrt(variance) if variance > 0 else -math.inf if above < 0 else 0.0


def unpaired_difference(first: Interval, second: Interval, *, effect: float = 0.0) -> Interval:
    """Newcombe's interval (1998, method 10) for the difference of two shares, from the interval of each.

    It is for shares of which no more is known, and wider than needed if the sets share noise. `effect` is the part of
    both intervals' error that the images measured against add to the difference.
    """
    estimate = second.estimate - first.estimate
    low = estimate - math.hypot(second.estimate - second.low, first.high - first.estimate, effect)
    high = estimate + math.hypot(second.high - second.estimate, first.estimate - first.low, effect)
    z = _normal_quantile(first.level)
    reach = (estimate - low) if estimate > 0 else (high - estimate)
    p = math.erfc(abs(estimate) * z / reach / math.sqrt(2)) if reach > 0 else float(estimate == 0)
    return Interval(estimate, low, high, first.level, p)


def _normal_quantile(level: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(0.5 + level / 2))


def packed(ones: Sequence[bool]) -> str:
    """Which images count, as hexadecimal digits of one bit an image."""
    return bytes(
        sum(bool(one) << (7 - place) for place, one in enumerate(ones[start : start + 8]))
        for start in range(0, len(ones), 8)
    ).hex()


def unpacked(text: str, num: int) -> list[bool]:
    """The inverse of `packed` for `num` images; ValueError: if the text holds another number of images."""
    octets = check_packed(text, num)
    return [bool(octets[index // 8] >> (7 - index % 8) & 1) for index in range(num)]


def check_packed(text: str, num: int) -> bytes:
    """The bytes of what `packed` made of `num` images; ValueError: if the text holds another number of images."""
    octets = bytes.fromhex(text)
    if len(octets) != -(-num // 8):
        raise ValueError(f"{len(octets)} bytes hold no bit for each of {num} images")
    return octets
