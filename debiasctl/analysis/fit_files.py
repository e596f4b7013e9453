"""A fitted curve as a CSV table for `debiasctl`, and as a Python module that needs numpy alone."""

import textwrap
from collections.abc import Sequence

import numpy as np

from debiasctl.analysis.fit_weighting import RULES, Fit
from debiasctl.diffusion.weighting import SNR_MIN

_WIDTH = 8  # numbers in a line

_HEAD = '''"""{title}

{about}
"""

import numpy as np

LOG_SNR = np.array([
{log_snr}
])
{name} = np.array([
{values}
])


def _at(snr):
    """The fitted curve, linear in log SNR; what was not measured is refused."""
    log_snr = np.log(np.maximum(np.asarray(snr, dtype=np.float64), {least}))
    if log_snr.min() < LOG_SNR[0] - {slack} or log_snr.max() > LOG_SNR[-1] + {slack}:
        asked, known = (f"{{min(one):.4g}} to {{max(one):.4g}}" for one in (np.ravel(log_snr), LOG_SNR))
        raise ValueError(f"log SNR {{asked}} is asked for, and {{known}} was measured")
    return np.interp(log_snr, LOG_SNR, {name})

'''
_WEIGHT = '''
def weight(snr, prediction="v", sigma_data=0.5):
    """The weight on the squared error of what your network predicts: eps, x0, v, edm or flow (eps - x0)."""
    snr = np.maximum(np.asarray(snr, dtype=np.float64), {least})
    per_x0 = {{"eps": snr, "x0": 1.0, "v": snr + 1, "edm": snr + sigma_data**-2, "flow": (1 + np.sqrt(snr)) ** 2}}
    return _at(snr) * (snr + 1) / per_x0[prediction]


if __name__ == "__main__":
    for log_snr in np.linspace(LOG_SNR[0], LOG_SNR[-1], 11):
        print(f"log SNR {{log_snr:8.3f}}  weight on v {{weight(np.exp(log_snr)):.6g}}")
'''
_FACTOR = '''
def probabilities(snr, base=None):
    """q(t) and the correction base/q that multiplies the loss, for a schedule's SNRs at t = 0, 1, ... and a base(t)."""
    snr = np.asarray(snr, dtype=np.float64)
    base = np.ones(len(snr)) if base is None else np.asarray(base, dtype=np.float64)
    base = base / base.sum()
    q = base * _at(snr)
    q = q / q.sum()
    return q, base / q


if __name__ == "__main__":
    for log_snr in np.linspace(LOG_SNR[0], LOG_SNR[-1], 11):
        print(f"log SNR {{log_snr:8.3f}}  factor {{_at(np.exp(log_snr)):.6g}}")
'''


def table_text(fitted: Fit) -> str:
    """The rows as CSV, `snr,weight` (on the error of v) or `snr,factor`."""
    rows = zip(fitted.snr.tolist(), fitted.values.tolist(), strict=True)
    return "\n".join([f"snr,{fitted.column}", *(f"{snr!r},{value:.8g}" for snr, value in rows)]) + "\n"


def module_text(fitted: Fit, *, runs: Sequence[str], version: str) -> str:
    """The curve as a module with `weight(snr, prediction)`, or `probabilities(snr, base)`."""
    rule = RULES[fitted.rule]
    is_weight = fitted.column == "weight"
    log_snr = np.log(np.maximum(fitted.snr, SNR_MIN)).tolist()
    title = "A loss weight over noise levels." if is_weight else "A distribution of timesteps, and its correction."
    about = (
        f"Fitted by debiasctl {version} to {', '.join(runs)}. Rule {fitted.rule} ({rule.source}): {rule.says}. It "
        "needs numpy alone. SNR = alpha^2/sigma^2 of x_t = alpha x0 + sigma eps; between SNRs the curve is linear in "
        "log SNR."
    )
    text = _HEAD + (_WEIGHT if is_weight else _FACTOR)
    return text.format(
        title=title,
        about="\n".join(textwrap.wrap(about, 100, break_long_words=False)),
        name="WEIGHT_ON_V" if is_weight else "FACTOR",
        log_snr=_lines([f"{value:.10g}" for value in log_snr]),
        values=_lines([f"{value:.8g}" for value in fitted.values.tolist()]),
        least=SNR_MIN,
        slack=1e-3,
    )


def _lines(numbers: Sequence[str]) -> str:
    return "\n".join(f"    {', '.join(numbers[start : start + _WIDTH])}," for start in range(0, len(numbers), _WIDTH))
