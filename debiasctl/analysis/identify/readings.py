"""What weights were identified as, in plain words and as a record."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from debiasctl.analysis.identify.points import Points
from debiasctl.analysis.identify.search import Found
from debiasctl.api import Prediction
from debiasctl.errors import UsageError

_PUBLISHED = 1e-3  # relative: a factor that is 1


@dataclass(frozen=True)
class Reading:
    """One formula that the weights agree with, if what the network predicts is `prediction`.

    `normalized` is what the weights are divided by, if anything; `equal` are other names of the same function; `flags`
    the options with which debiasctl trains the same, tried, and None if there are none.
    """

    prediction: Prediction
    found: Found
    normalized: str | None
    equal: tuple[str, ...] = ()
    flags: str | None = None

    @property
    def weighting(self) -> str:
        """The weighting, as the command line takes it."""
        form = self.found.fit.form
        return form.scheme.reference(form.split(self.found.fit.values)[0])

    @property
    def is_named(self) -> bool:
        """Whether it agrees well enough to be what the weights are."""
        return self.found.grade < 3

    @property
    def is_of_its_unit(self) -> bool:
        """Whether the formula is the scheme's own for what the network predicts."""
        return self.found.fit.form.unit == self.prediction and not self.found.fit.form.plus_one

    @property
    def scheme(self) -> str:
        """The scheme with its numbers, in words: `min-snr with gamma 5`."""
        fit = self.found.fit
        own, sigma_data = fit.form.split(fit.values)
        numbers = [f"{one.name} {value:.6g}" for one, value in zip(fit.form.scheme.parameters, own, strict=True)]
        numbers += [f"{name} {value}" for name, value in fit.form.scheme.choices.items()]
        if fit.form.any_sigma_data and sigma_data != 0.5:
            numbers.append(f"the network's sigma_data {sigma_data:.6g}")
        return fit.form.scheme.name + (f" with {', '.join(numbers)}" if numbers else "")

    @property
    def changes(self) -> list[str]:
        """What is done to the scheme's formula."""
        fit, found = self.found.fit, []
        if fit.form.plus_one:
            found.append(f"in its formula for {fit.form.unit}, with SNR + 1 in place of SNR")
        elif not self.is_of_its_unit:
            found.append(f"in its formula for {fit.form.unit}, applied to {self.prediction} as it is")
        if fit.clamp is not None:
            found.append(f"clamped at SNR {fit.clamp:.6g}")
        if self.found.schedule is not None:
            found.append(f"at the SNRs of the schedule {self.found.schedule}")
        if self.normalized == "mean":
            found.append("normalised to mean 1")
        elif self.normalized is not None:
            found.append(f"divided by the batch's {self.normalized.removeprefix('batch ')}")
        elif abs(fit.scale - 1) > _PUBLISHED:
            found.append(f"times {fit.scale:.4g}")
        return found

    @property
    def misfit(self) -> str:
        """How far it is off, where most, and on how many levels it agrees."""
        if self.found.grade == 0:
            return "exact, but for rounding"
        share = 100 * self.found.fit.share_within(0.01)
        return f"{self.off} off at {self.where}, within 1 % on {_share(share)} of the levels"

    @property
    def off(self) -> str:
        """How far it is off at most."""
        return _percent(float(self.found.fit.errors.max()))

    @property
    def where(self) -> str:
        """The level where it is off most."""
        fit = self.found.fit
        return f"{self.found.place} = {fit.points.places[fit.worst]} (SNR {fit.points.snr[fit.worst]:.4g})"

    def __str__(self) -> str:
        unit = "the network's output F (edm)" if self.prediction == "edm" else self.prediction
        changes = "".join(f", {one}" for one in self.changes)
        return f"{self.scheme} on {unit}{changes}"

    def to_dict(self) -> dict[str, Any]:
        """The reading as JSON holds it."""
        fit = self.found.fit
        return {
            "prediction": self.prediction,
            "weighting": self.weighting,
            "formula": fit.form.unit,
            "snr_plus_one": fit.form.plus_one,
            "sigma_data": fit.form.split(fit.values)[1] if fit.form.unit == "edm" else None,
            "clamp": fit.clamp,
            "scale": fit.scale,
            "normalized": self.normalized,
            "schedule": self.found.schedule,
            "named": self.is_named,
            "exact": fit.is_exact,
            "largest_error": float(fit.errors.max()),
            "largest_error_at": int(fit.points.places[fit.worst]),
            "largest_error_snr": float(fit.points.snr[fit.worst]),
            "within_1_percent": fit.share_within(0.01),
            "equal": list(self.equal),
            "flags": self.flags,
        }


@dataclass(frozen=True)
class Identification:
    """What a weight function computes: `readings` are the named ones, the plainest first, or else the nearest ones.

    `findings` are sentences on how the function behaves; `notes` on what was assumed.
    """

    taken: str
    schedule: str
    prediction: Prediction | None
    readings: tuple[Reading, ...]
    findings: tuple[str, ...]
    notes: tuple[str, ...] = ()
    points: Points | None = field(default=None, repr=False)
    by_timestep: bool = True

    @property
    def levels(self) -> int:
        """How many levels have a usable weight."""
        return 0 if self.points is None else len(self.points.snr)

    @property
    def is_named(self) -> bool:
        """Whether a known scheme was found."""
        return bool(self.readings) and self.readings[0].is_named

    @property
    def verdict(self) -> str:
        """The answer in a sentence or a few."""
        if not self.readings:
            return "No weighting can be named: see what was found."
        best = self.readings[0]
        if not best.is_named:
            return f"No known scheme. The nearest is {best}: up to {best.misfit}."
        if len(self.readings) == 1:
            return f"{best}: {best.misfit}.{_explained(best)}"
        lines = [f"  {reading.prediction}: {reading}: {reading.misfit}" for reading in self.readings]
        return "\n".join(["What it is depends on what the network predicts. If that is", *lines])

    def plot(self, path: str | Path) -> None:
        """Draw the weights on those of the readings, and their ratio, as .png, .svg or .pdf.

        Raises:
            UsageError: if there are no usable weights, or the ending is another.
        """
        from debiasctl.analysis.identify.picture import draw

        points = self.points
        if points is None:
            raise UsageError("there are no weights to draw: they are not finite, negative or all 0")
        known = [
            (one.weighting, f"on {one.prediction}: {', '.join([one.weighting, *one.changes])}", one.found.fit.formula)
            for one in self.readings
        ]
        title = self.verdict.partition("\n")[0] if self.readings else "No known scheme"
        draw(Path(path), points.snr, points.weight, known, title=title)

    def to_dict(self) -> dict[str, Any]:
        """The identification as JSON holds it."""
        return {
            "verdict": self.verdict,
            "named": self.is_named,
            "taken": self.taken,
            "schedule": self.schedule,
            "prediction": self.prediction,
            "levels": self.levels,
            "findings": list(self.findings),
            "notes": list(self.notes),
            "readings": [reading.to_dict() for reading in self.readings],
        }

    def __str__(self) -> str:
        return "\n".join([self.verdict, *self.findings, *self.notes])


def _explained(reading: Reading) -> str:
    """What it means that a formula is not the scheme's own for this prediction."""
    if reading.is_of_its_unit:
        return ""
    return (
        f" This is not {reading.found.fit.form.scheme.name} on {reading.prediction}: a weighting's formula changes "
        "with what the network predicts."
    )


def _percent(error: float) -> str:
    return "more than 10-fold" if error > 9.99 else f"{100 * error:.0f} %" if error >= 0.1 else f"{100 * error:.2g} %"


def _share(percent: float) -> str:
    return "all" if percent == 100 else f"{min(percent, 99.9):.3g} %"
