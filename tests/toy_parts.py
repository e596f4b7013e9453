"""Parts of an analysis that measure next to nothing, for tests of what is around the parts."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from debiasctl.analysis.book import Arrays, Book
from debiasctl.analysis.parts.part import Choices, Found, Part
from debiasctl.analysis.record import AnalysisRecord, Quantity, Series
from debiasctl.analysis.subject import Subject
from debiasctl.errors import UsageError
from debiasctl.reporting.picture import Picture

UNITS = 4


class Toy(Part):
    """The mean of a few weights, unit by unit; `on_unit` is told of every unit that is computed."""

    name: ClassVar[str] = "existence"
    title: ClassVar[str] = "Existence: a toy"

    def __init__(self, on_unit: Callable[[str], None] = lambda name: None, *, refused: str = "") -> None:
        self.on_unit, self.refused = on_unit, refused

    def settings(self, subject: Subject, others: Sequence[Subject], choices: Choices) -> dict[str, Any]:
        if self.refused and subject.run.name.startswith(self.refused):
            raise UsageError("it has no images that it was not trained on. Hold some out")
        return {"num": choices.num or 8, "seed": choices.seed, "steps": subject.request.num_steps}

    def measure(self, subject: Subject, others: Sequence[Subject], settings: dict[str, Any], book: Book) -> Found:
        weights = torch_mean(subject)

        def unit(number: int) -> Arrays:
            self.on_unit(f"{subject.run.name}.{number}")
            return {"value": np.array([weights + number])}

        found = book.all(
            {f"u{number}": (lambda number=number: unit(number)) for number in range(UNITS)},
            text="some weights", begin=0.0, end=1.0,
        )  # fmt: skip
        values = [float(one["value"][0]) for one in found.values()]
        return Found(
            [
                Quantity(name="mean_shift[r]", value=values[0], se=0.01, unit="of [-1, 1]", text="a mean of weights"),
                Quantity(name="shared", value=1.0, low=0.5, high=2.0, text="what is equal in all runs"),
            ],
            [
                Series(
                    name="drift",
                    axis="log_snr",
                    x=[-2.0, 0.0, 2.0],
                    value=[*values[:2], None],
                    se=[0.1, 0.1, None],
                    unit="of [-1, 1]",
                    text="a drift",
                ),
                Series(
                    name="band", axis="t", x=[1.0, 2.0], value=[1.0, 2.0], low=[0.5, 1.0], high=[1.5, 4.0], text="two"
                ),
            ],
            {"samples": np.zeros((2, 1, 8, 8))},
            ["intervals cover images, not seeds: more with `num`"],
        )

    def findings(self, record: AnalysisRecord) -> list[str]:
        shift = record.quantity("mean_shift[r]")
        assert shift is not None
        return [f"The weights have a mean of {shift.value:.3g}."]

    def pictures(self, records: Sequence[AnalysisRecord], images: Sequence[Arrays]) -> list[Picture]:
        from matplotlib.figure import Figure

        assert len(records) == len(images)
        drawn = {record.network.run: images[number]["samples"].shape for number, record in enumerate(records)}
        return [
            Picture("samples", "Samples", "What was drawn.", "A grid.", drawn, lambda width: Figure((2, 1))),
        ]  # fmt: skip


class Stitched(Toy):
    """A toy of two runs."""

    name: ClassVar[str] = "stitching"
    title: ClassVar[str] = "Stitching: a toy"
    needs_other: ClassVar[bool] = True
    asked_as: ClassVar[str | None] = "impact"


class Ranking(Toy):
    """A toy of all runs."""

    name: ClassVar[str] = "validation"
    title: ClassVar[str] = "Validation: a toy"
    needs_all: ClassVar[bool] = True
    optional: ClassVar[bool] = True


def torch_mean(subject: Subject) -> float:
    """A figure that differs between runs."""
    parameters = list(subject.denoiser.network.parameters())
    return float(sum(one.double().sum() for one in parameters)) / sum(one.numel() for one in parameters)


def toys(**changes: Part) -> dict[str, Part]:
    """All toys, by name."""
    return {"existence": Toy(), "stitching": Stitched(), "validation": Ranking()} | changes
