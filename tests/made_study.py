"""A study of four arms and three seeds made by hand, as plain figures: nothing is trained or measured."""

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from debiasctl.comparison.study_record import STUDY_VERSION, Study

ARMS = ("constant", "p2", "min-snr", "debiased")
METRICS = {
    "fd_local": ("lower", 1.2, 0.04), "kd_local": ("lower", 0.08, 0.006), "precision": ("higher", 0.71, 0.012),
    "recall": ("higher", 0.55, 0.02), "mean_shift_r": ("zero", -0.031, 0.006), "mean_shift_g": ("zero", -0.02, 0.006),
    "mean_shift_b": ("zero", 0.004, 0.006), "colour_fd": ("lower", 0.0009, 0.00012),
}  # fmt: skip
STEPS = (10, 50)
SEEDS = (0, 1, 2)
_T = 4.303  # Student's quantile of 2 degrees of freedom


def made_study(
    arms: Sequence[str] = ARMS, *, seeds: Sequence[int] = SEEDS, metrics: Mapping[str, Any] = METRICS
) -> Study:
    """The first arm is the reference, and later ones are better by 6 % each in most metrics."""
    draw = random.Random(0)
    first = (next(iter(metrics)), STEPS[-1])
    cells = [
        _cell(name, steps, arms, seeds, draw, metrics=metrics, primary=(name, steps) == first)
        for name in metrics
        for steps in STEPS
    ]
    primary = next(cell for cell in cells if cell["primary"])
    verdicts = [_verdict(cell, arm, arms[0]) for cell in cells for arm in arms[1:]]
    curves = [
        _curve(name, axis, x, arms, seeds, draw, metrics=metrics)
        for name in metrics
        for axis, x in (("images_seen", (16e3, 32e3, 64e3, 128e3, 192e3)), ("steps", (5.0, 10.0, 20.0, 50.0)))
    ]
    return Study.model_validate({
        "schema_version": STUDY_VERSION,
        "answer": f"{arms[-1]} is better than {arms[0]}: {primary['metric']} at {STEPS[-1]} steps is 18 % lower (95 % "
        f"interval 12 to 24 %, {len(seeds)} seeds an arm).",
        "primary": primary["key"], "reference": arms[0], "margin": 0.05, "paired": True,
        "differing": ["loss.weighting"], "by": [],
        "arms": [_arm(name, seeds) for name in arms],
        "cells": cells, "verdicts": verdicts, "curves": curves,
        "efficiency": [_efficiency(arm, arms[0], kind, next(iter(metrics)), seeds) for arm in arms[1:]
                       for kind in ("training", "sampling")],
        "warnings": [], "notes": ["All figures are corrected for the bias in 1/N where they can be."], "skipped": [],
        "environment": {"device": "cpu"},
    })  # fmt: skip


def _arm(name: str, seeds: Sequence[int]) -> dict[str, Any]:
    members = [
        {"seed": seed, "source": f"digits-{name}-{seed}", "run": f"digits-{name}-{seed}", "run_identity": None,
         "path": f"/runs/digits-{name}-{seed}", "checkpoint": 1500, "images_seen": 192_000, "sampling_seeds": [seed]}
        for seed in seeds
    ]  # fmt: skip
    return {"name": name, "kind": "runs", "settings": {"loss.weighting": name}, "members": members}


def _cell(
    name: str, steps: int, arms: Sequence[str], seeds: Sequence[int], draw: random.Random, *,
    metrics: Mapping[str, Any], primary: bool,
) -> dict[str, Any]:  # fmt: skip
    better, base, spread = metrics[name]
    found = []
    for number, arm in enumerate(arms):
        factor = 1 + (0.06 if better == "higher" else -0.06) * number + 0.2 * (steps < 50)
        values = [base * factor + draw.gauss(0, spread) for _ in seeds]
        mean, sd = _mean(values)
        found.append({
            "arm": arm, "missing": [], "mean": mean, "sd": sd, "withheld": None,
            "figures": [
                {"seed": seed, "value": value, "low": value - spread, "high": value + spread, "record": f"{seed:016x}"}
                for seed, value in zip(seeds, values, strict=True)
            ],
        })  # fmt: skip
    return {
        "key": f"{name}@{steps}", "metric": name, "steps": steps, "better": better, "primary": primary,
        "description": "how far the samples are from real images", "figure": "corrected",
        "floor": base * 0.6 if better == "lower" else None,
        "measured": {"dataset": "digits", "features": "local", "num": 1000, "sampler": "ddim", "steps": steps,
                     "weights": "ema"},
        "arms": found,
    }  # fmt: skip


def _mean(values: Sequence[float]) -> tuple[float, float | None]:
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, None
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _verdict(cell: Mapping[str, Any], arm: str, reference: str) -> dict[str, Any]:
    own = next(one for one in cell["arms"] if one["arm"] == arm)
    base = next(one for one in cell["arms"] if one["arm"] == reference)
    num = len(own["figures"])
    found = dict.fromkeys((
        "low", "high", "ratio_low", "ratio_high", "ratio_note", "p", "p_corrected", "probability_low",
        "probability_high", "seeds_more", "seeds_more_equivalence", "seed_correlation", "reason", "probability_better",
        "seeds_alone",
    ))  # fmt: skip
    difference, margin, word = own["mean"] - base["mean"], 0.05 * abs(base["mean"]), "one seed"
    if own["sd"] is not None:
        half = _T * math.sqrt((own["sd"] ** 2 + base["sd"] ** 2) / num)
        sign = 1 if cell["better"] == "higher" else -1
        low, high = difference - half, difference + half
        word = "better" if min(sign * low, sign * high) > 0 else "worse" if max(sign * low, sign * high) < 0 else ""
        word = word or ("equivalent" if -margin < low and high < margin else "inconclusive")
        found |= {"low": low, "high": high, "p": 0.03, "p_corrected": 0.06, "probability_better": 0.8}
        if word == "inconclusive":
            found |= {"seeds_more": 4, "reason": "the interval holds 0 and reaches beyond the margin"}
    ratio = own["mean"] / base["mean"]
    return found | {
        "cell": cell["key"], "arm": arm, "reference": reference, "word": word, "difference": difference,
        "ratio": ratio, "ratio_low": ratio * 0.9, "ratio_high": ratio * 1.1, "margin": margin, "method": "pooled t",
        "num": [num, num], "primary": cell["primary"],
        "evidence": f"{num} seeds of {arm} against {num} of {reference}, by the spread of all arms.",
    }  # fmt: skip


def _curve(
    name: str, axis: str, places: Sequence[float], arms: Sequence[str], seeds: Sequence[int], draw: random.Random, *,
    metrics: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    better, base, spread = metrics[name]
    lines = []
    for number, arm in enumerate(arms):
        for seed in seeds:
            shift = draw.gauss(0, spread)
            values = [base * (1 - 0.06 * number) * (1 + 1.2 * (places[0] / x) ** 0.7) + shift for x in places]
            points = [
                {"x": x, "value": value + draw.gauss(0, spread / 4), "low": None, "high": None}
                for x, value in zip(places, values, strict=True)
            ]
            lines.append({"arm": arm, "seed": seed, "points": points})
    measured = {"steps": 50, "sampler": "ddim"} if axis == "images_seen" else {"sampler": "ddim"}
    return {"key": f"{name}:{axis}", "metric": name, "better": better, "axis": axis, "measured": measured,
            "lines": lines}  # fmt: skip


def _efficiency(arm: str, reference: str, kind: str, metric: str, seeds: Sequence[int]) -> dict[str, Any]:
    return {
        "kind": kind, "metric": metric, "level": 1.4, "curve": f"{metric}:steps", "arm": arm, "reference": reference,
        "ratio": 1.31, "low": 1.12, "high": 1.55, "at_least": kind == "sampling", "at_most": False,
        "reached": {arm: [64e3 for _ in seeds], reference: [None for _ in seeds]}, "note": None,
    }  # fmt: skip
