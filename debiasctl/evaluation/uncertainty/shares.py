"""Score intervals for shares of images and their differences, which are informative even where none or all count."""

import math
from collections.abc import Sequence

from debiasctl.evaluation.uncertainty.intervals import LEVEL, Interval

SHARE_METHOD = "Wilson score"


def share_interval(successes: int, num: int, *, level: float = LEVEL) -> Interval:
    """Wilson's score interval (1927) for the share that `successes` of `num` independent images estimate."""
    z = _normal_quantile(level)
    share = successes / num
    centre = (share + z**2 / (2 * num)) / (1 + z**2 / num)
    half = z / (1 + z**2 / num) * math.sqrt(share * (1 - share) / num + z**2 / (4 * num**2))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == num else min(1.0, centre + half)
    return Interval(share, low, high, level)


def reaching(found: Interval, num: int, *others: float) -> Interval:
    """Widen the interval of a share of `num` images, which is `others` where an uncertain threshold is at its limits.

    Both parts of the error are independent, and their distances from the share are added as squares on either side
    (MOVER; Zou & Donner, 2008). With k images that count, Wilson's interval is about √(1 + z²/4k) times as long as
    1.96 standard errors, and that of the threshold, which is made of counts too, likewise. Their sum is divided by
    this, with k + 1 for k, though it is never shorter than the share's own interval.
    """
    estimate, z = found.estimate, _normal_quantile(found.level)
    moves = [0.0, *(other - estimate for other in others)]
    down, up = min(moves), max(moves)
    excess = math.sqrt(1 + z**2 / (4 * (estimate * num + 1)))
    low = min(found.low, estimate - math.hypot(estimate - found.low, down) / excess)
    high = max(found.high, estimate + math.hypot(found.high - estimate, up) / excess)
    return Interval(estimate, max(low, 0.0), min(high, 1.0), found.level)


def paired_difference(first: Sequence[bool], second: Sequence[bool], *, level: float = LEVEL) -> Interval:
    """Tango's score interval (1998) for the difference of two shares among the same `num` images, `second` - `first`.

    `first[i]` and `second[i]` say whether the i-th image of each set counts; sets that share nothing are a special
    case. Without any image in which the sets differ it reaches from -z²/(n + z²) to z²/(n + z²).

    Raises:
        ValueError: if the numbers of images differ.
    """
    gained = sum(b and not a for a, b in zip(first, second, strict=True))
    lost = sum(a and not b for a, b in zip(first, second, strict=True))
    num, estimate = len(first), (gained - lost) / len(first)
    z = _normal_quantile(level)
    low, high = (_reach(gained, lost, num, z=z, sign=sign) for sign in (-1, 1))
    at_zero = (gained - lost) / math.sqrt(gained + lost) if gained + lost > 0 else 0.0
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


def unpaired_difference(first: Interval, second: Interval) -> Interval:
    """Newcombe's interval (1998, method 10) for the difference of two shares, from the interval of each.

    It is for shares of which no more is known, and wider than needed if the sets share noise or a threshold.
    """
    estimate = second.estimate - first.estimate
    low = estimate - math.hypot(second.estimate - second.low, first.high - first.estimate)
    high = estimate + math.hypot(second.high - second.estimate, first.estimate - first.low)
    return Interval(estimate, low, high, first.level, _p(estimate, low, high, level=first.level))


def _p(estimate: float, low: float, high: float, *, level: float) -> float:
    """The p value of a difference being 0, from the limit on that side."""
    reach = (estimate - low) if estimate > 0 else (high - estimate)
    z = _normal_quantile(level)
    return math.erfc(abs(estimate) * z / reach / math.sqrt(2)) if reach > 0 else float(estimate == 0)


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
