"""Samples as the run draws them and under each intervention, from the same noise, unit by unit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from debiasctl.analysis.book import Arrays, Book
from debiasctl.analysis.ideal import Ideal, ideal_of
from debiasctl.analysis.parts.colour.denoisers import Corrected, NoisedStart, Recorder, Replaced, TrueImages
from debiasctl.analysis.parts.colour.interventions import Intervention, Setup
from debiasctl.analysis.parts.colour.statistics import LEVEL, Array, chunk_of, shift_p_value
from debiasctl.analysis.parts.colour.true_errors import TrueErrors
from debiasctl.analysis.subject import Subject
from debiasctl.api import Denoiser, Level, Split, spread_indices
from debiasctl.data.pixels import as_measured
from debiasctl.data.spread import spread_over
from debiasctl.diffusion.grid import levels_at
from debiasctl.diffusion.process import per_image
from debiasctl.evaluation.metrics.colour import mean_colours, mean_squares
from debiasctl.sampling.drawing import Drawer

NEIGHBOURS = 20.0  # that an ideal denoiser of a finite set needs, in the middle of its images
_CHUNKS = 4  # a unit
_REFERENCE, _BLOCK = 50_000, 1024  # images of a split at most, and at a time
_LEVELS = 50  # at which true x_t are looked at, at most
_TRIED = 64  # images at which neighbours are counted
_SHOWN = 12  # samples of each intervention that are kept for pictures
_LEAST_SCALE = 5e-4  # by which the norms of eps_hat have to differ

DrawerOf = Callable[[range], Drawer]


@dataclass(frozen=True)
class Measured:
    """Everything that was measured; arrays of samples are `colours` and `squares` [N, C] and `images` [n, C, H, W]."""

    channels: int
    train: Array  # mean colours [M, C] of the training images
    train_squares: Array
    heldout: Array | None
    baseline: Arrays
    arms: dict[Intervention, Arrays]
    errors: TrueErrors
    notes: list[str]


@dataclass
class Measurement:
    """The measurement of one run: `num` samples, whose chunks each have a true image for each sample."""

    subject: Subject
    book: Book
    num: int
    seed: int

    def measure(self) -> Measured:
        """Measure, unit by unit."""
        setup = Setup.of(self.subject)
        notes = setup.ruled_out()
        true = TrueImages(self.subject, seed=self.seed)
        colours = self._references()
        baseline = self._recorded("as-sampled", setup.drawer, text="samples as they are", begin=0.02, end=0.1)
        drawn = {}
        for one in setup.possible():
            if one.name == "more_steps":
                drawn[one] = self._recorded("more-steps", setup.with_more_steps, text=one.text, begin=0.1, end=0.4)
        along, centre = next(iter(drawn.values()), baseline), colours["train"]["colours"].mean(axis=0)
        errors = self._true_errors(true, baseline, along, centre)
        arms = self._arms(setup, true, errors, notes)
        if drawn and shift_p_value(along["colours"], centre) >= LEVEL:
            notes.append(
                f"With {setup.more_steps} steps no shift is distinguishable, so that exposure bias has none to explain."
            )
        else:
            self._add_scaled(arms, setup, errors, notes)
        begin = 0.48
        for number, (one, drawer_of) in enumerate(arms.items()):
            ends = [begin + (1 - begin) * (number + more) / len(arms) for more in (0, 1)]
            drawn[one] = self._samples(one, drawer_of, begin=ends[0], end=ends[1])
        heldout = colours.get("heldout")
        return Measured(
            self.subject.shape[0], colours["train"]["colours"], colours["train"]["squares"],
            None if heldout is None else heldout["colours"], baseline, drawn, errors, notes,
        )  # fmt: skip

    # ------------------------------------------------------------ what is measured once

    def _references(self) -> dict[str, Arrays]:
        data = as_measured(self.subject.data)
        splits = {"train": data.train} | ({"heldout": data.heldout} if len(data.heldout) > 1 else {})
        units = {f"colours-{name}": lambda split=split: self._colours(split) for name, split in splits.items()}
        found = self.book.all(units, text="colours of the data set", begin=0.0, end=0.02)
        return {name: found[f"colours-{name}"] for name in splits if len(found[f"colours-{name}"]["colours"]) > 1}

    def _colours(self, split: Split) -> Arrays:
        """Mean colours and squares of a split's images; if one class is drawn, of that class alone."""
        indices = spread_over(split, _REFERENCE)
        if self.subject.request.label is not None:
            labels = split.labels(indices)
            assert labels is not None, "a class can be drawn where there are labels"
            indices = indices[labels == self.subject.request.label]
        if len(indices) == 0:
            return {name: np.zeros((0, self.subject.shape[0])) for name in ("colours", "squares")}
        images = [split.images(part) for part in torch.split(indices, _BLOCK)]
        rows = {"colours": [mean_colours(one) for one in images], "squares": [mean_squares(one) for one in images]}
        return {name: torch.cat(blocks).numpy() for name, blocks in rows.items()}

    def _recorded(
        self, name: str, drawer_of: Callable[[Denoiser], Drawer], *, text: str, begin: float, end: float
    ) -> Arrays:
        """Samples, the timesteps of all forwards, and the mean of eps_hat² at each."""

        def unit(part: range) -> Arrays:
            recorder = Recorder(self.subject.denoiser)
            found = _drawn(drawer_of(recorder), [part])
            ts = sorted(recorder.seen)
            return found | {"ts": np.array(ts), "norms": np.array([[recorder.mean(t) for t in ts]])}

        return self._units(name, unit, text=text, begin=begin, end=end)

    def _true_errors(self, true: TrueImages, baseline: Arrays, along: Arrays, centre: Array) -> TrueErrors:
        """The network's estimates on noised training images, at the timesteps that sampling visits.

        The norms of eps_hat are compared with those `along` samples of many steps: few steps change them too.
        """
        ts = baseline["ts"][spread_indices(len(baseline["ts"]), _LEVELS).numpy()]
        levels = levels_at(self.subject.process, ts.tolist())
        text = "estimates on true images"
        found = self._units("true", lambda part: self._on_true(true, levels, part), text=text, begin=0.4, end=0.48)
        sampled = np.interp(ts, along["ts"], along["norms"].mean(axis=0))
        return TrueErrors.of(
            ts, estimates=found["estimates"], x0=found["x0"], centre=centre,
            ratio=np.sqrt(sampled / found["norms"].mean(axis=0)),
        )  # fmt: skip

    def _on_true(self, true: TrueImages, levels: Sequence[Level], part: range) -> Arrays:
        positions = torch.arange(part.start, part.stop)
        x0, labels = true.images(positions), self.subject.labels(positions)
        labels = None if labels is None else labels.to(x0.device)
        estimates, norms = [], []
        for number, level in enumerate(levels):
            x_t = _noised(x0, true.noise(positions, number=number), level)
            found = self.subject.denoiser(x_t, level.t, labels)
            estimates.append(found.x0.double().mean(dim=(2, 3)).cpu().numpy())
            norms.append(float(found.eps.double().square().mean()))
        return {
            "estimates": np.stack(estimates, axis=1), "norms": np.array([norms]),
            "x0": x0.double().mean(dim=(2, 3)).cpu().numpy(),
        }  # fmt: skip

    # ------------------------------------------------------------ interventions

    def _arms(
        self, setup: Setup, true: TrueImages, errors: TrueErrors, notes: list[str]
    ) -> dict[Intervention, DrawerOf]:
        """What draws the samples of each intervention; a note says why one is left out."""
        arms: dict[Intervention, DrawerOf] = {}
        self._add_ideal(arms, setup, true, errors, notes)
        chunk = chunk_of(self.num)
        corrected = Intervention(
            "mean_error_subtracted",
            "with the network's mean error on noised training images subtracted at every timestep",
        )  # fmt: skip
        arms[corrected] = lambda part: setup.drawer(
            Corrected(self.subject.denoiser, ts=errors.ts, error=errors.of_chunk(part.start // chunk))
        )
        for one in setup.possible():
            if one.name != "more_steps":
                arms[one] = _arm(setup, one, true)
        return arms

    def _add_scaled(
        self, arms: dict[Intervention, DrawerOf], setup: Setup, errors: TrueErrors, notes: list[str]
    ) -> None:
        """Add the scale of eps that mends its norm along sampling, after more steps, as few change that norm too."""
        scale = errors.eps_scale()
        if setup.option("eps_scale") is None:
            notes.append("The sampler cannot scale eps, so that exposure bias was not measured.")
        elif abs(scale - 1) < _LEAST_SCALE:
            notes.append(
                "The norms of eps_hat along sampling are those on true images within 0.05 %, so that there is no "
                "exposure bias for a scale of eps to mend."
            )
        else:
            value = round(setup.option("eps_scale") * scale, 5)
            scaled = Intervention(
                "eps_scaled",
                f"with eps_hat divided by {value:g}, by which its norm along sampling differs from that on true images"
                + (f", both with {setup.more_steps} steps" if setup.more_steps else ""),
                after="more_steps" if setup.more_steps else "fixed_variance" if setup.learned_variance else None,
            )  # fmt: skip
            arms[scaled] = lambda _: setup.with_more_steps(eps_scale=value)

    def _add_ideal(
        self, arms: dict[Intervention, DrawerOf], setup: Setup, true: TrueImages, errors: TrueErrors, notes: list[str]
    ) -> None:
        """Add the ideal denoiser in place of the network where there is so much noise that it means something."""
        ideal = ideal_of(self.subject, seed=self.seed)
        levels = levels_at(self.subject.process, sorted(errors.ts.tolist(), reverse=True))
        above = -1.0 if ideal.exact else self._lowest(ideal, levels, true)
        if above is None:
            notes.append(
                f"Even at the first noise level the ideal denoiser of {ideal.name} has fewer than {NEIGHBOURS:g} "
                "effective neighbours, so that none was put in the network's place."
            )
            return

        def x0(x_t: torch.Tensor, t: float, labels: torch.Tensor | None) -> torch.Tensor:
            return ideal(x_t, levels_at(self.subject.process, [t])[0], labels).mean

        denoiser: Denoiser = Replaced(self.subject.denoiser, x0, above=above, learned_variance=setup.learned_variance)
        where = "everywhere" if ideal.exact else f"at t > {above:.0f}"
        text = f"with the ideal denoiser ({ideal.name}) in the network's place {where}"
        arms[Intervention("ideal_denoiser", text)] = lambda _: setup.drawer(denoiser)

    def _lowest(self, ideal: Ideal, levels: Sequence[Level], true: TrueImages) -> float | None:
        """The timestep above which the ideal denoiser of a finite set has enough neighbours, None if it never has."""
        positions = torch.arange(_TRIED)
        heldout = self.subject.heldout(_TRIED)
        own = None if len(heldout.x0) else true.indices(positions).to(self.subject.device)
        x0 = true.images(positions) if own is not None else heldout.x0
        labels = self.subject.labels(positions) if own is not None else heldout.labels
        labels = None if labels is None else labels.to(x0.device)
        positions, lowest = positions[: len(x0)], None
        for number, level in enumerate(levels):
            x_t = _noised(x0, true.noise(positions, number=number), level)
            if float(ideal(x_t, level, labels, own=own).neighbours.median()) < NEIGHBOURS:
                return None if lowest is None else (lowest + level.t) / 2
            lowest = level.t
        return -1.0

    # ------------------------------------------------------------ drawing

    def _samples(self, one: Intervention, drawer_of: DrawerOf, *, begin: float, end: float) -> Arrays:
        chunk = chunk_of(self.num)

        def unit(part: range) -> Arrays:
            parts = [range(start, start + chunk) for start in range(part.start, part.stop, chunk)]
            if one.name != "mean_error_subtracted":
                return _drawn(drawer_of(part), [part])
            found = [_drawn(drawer_of(chunk), [chunk]) for chunk in parts]
            return {name: np.concatenate([arrays[name] for arrays in found]) for name in found[0]}

        return self._units(one.name.replace("_", "-"), unit, text=one.text, begin=begin, end=end)

    def _units(self, name: str, unit: Callable[[range], Arrays], *, text: str, begin: float, end: float) -> Arrays:
        """The arrays of all units, one after another; timesteps are those of the first."""
        size = _CHUNKS * chunk_of(self.num)
        parts = [range(start, min(start + size, self.num)) for start in range(0, self.num, size)]
        units = {f"{name}-{number}": lambda part=part: unit(part) for number, part in enumerate(parts)}
        found = list(self.book.all(units, text=text, begin=begin, end=end).values())
        joined = {key: np.concatenate([arrays[key] for arrays in found]) for key in found[0] if key != "ts"}
        return joined | ({"ts": found[0]["ts"]} if "ts" in found[0] else {})


def _arm(setup: Setup, one: Intervention, true: TrueImages) -> DrawerOf:
    first = setup.first
    if one.name == "noised_start" and first is not None:
        return lambda _: NoisedStart(setup.drawer(), first=first, images=true.images)
    return lambda _: setup.changed(one.name)


def _noised(x0: torch.Tensor, noise: torch.Tensor, level: Level) -> torch.Tensor:
    alpha, sigma = per_image(
        *(torch.tensor([value], dtype=torch.float64) for value in (level.alpha, level.sigma)), like=x0
    )
    return alpha * x0 + sigma * noise


def _drawn(drawer: Drawer, parts: list[range]) -> Arrays:
    """Mean colours and squares of samples, as they are stored; the very first ones also as images."""
    images = torch.cat([one.images for one in drawer(parts)])
    shown = images[: max(0, _SHOWN - parts[0].start)] if parts[0].start < _SHOWN else images[:0]
    return {
        "colours": mean_colours(images).numpy(), "squares": mean_squares(images).numpy(),
        "images": shown.numpy() / 127.5 - 1,
    }  # fmt: skip
