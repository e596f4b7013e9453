"""Arms made elsewhere, for `debiasctl compare`: images, which are measured here, and figures."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from debiasctl.cli.output import note
from debiasctl.errors import UsageError

if TYPE_CHECKING:
    from debiasctl.comparison.observations import ArmData
    from debiasctl.evaluation.record import EvaluationRecord


@dataclass(frozen=True)
class External:
    """What was given of arms made elsewhere; `against` and `features` say how images are measured."""

    arms: list[str]
    against: str | None
    features: str | None
    figures: Path | None
    data_dir: Path | None
    device: str

    def check(self, *, num_runs: int, by: bool) -> None:
        """Refuse what contradicts itself or has no effect.

        Raises:
            UsageError: if it does.
        """
        if self.arms and self.against is None:
            raise UsageError("--arm gives images, which are measured. Say against what: --against DATASET or a folder")
        if not self.arms and (self.against is not None or self.features is not None):
            raise UsageError(
                "--against and --features say how the images of --arm are measured. Give --arm NAME=PATTERN"
            )
        if self.figures is not None and (self.arms or num_runs):
            raise UsageError(
                "--figures does not say how its figures were measured, so that they are compared with one another "
                "alone. Leave out the runs and --arm"
            )
        if self.figures is not None and by:
            raise UsageError("--by names axes of measurement, and --figures has no measurements. Leave one of them out")

    def read(self, *, metric: str | None) -> "list[ArmData]":
        """The arms; images that were not measured before are measured."""
        if self.figures is not None:
            from debiasctl.comparison.external_figures import figures_of

            return figures_of(self.figures, metric=metric)
        return self._images(metric) if self.arms else []

    def _images(self, metric: str | None) -> "list[ArmData]":
        from debiasctl.cli.locations import data_location
        from debiasctl.comparison.external_images import measured_arms, parse_arms
        from debiasctl.evaluation.choices import Choices

        location = data_location(self.data_dir)
        arms = parse_arms(self.arms)
        for arm in arms:
            if arm.note is not None:
                note(f"note: {arm.note}")
        metrics = None if metric is None else [metric]
        choices = Choices(features=self.features, metrics=metrics, reference=self.against)

        def measure(path: Path) -> "EvaluationRecord":
            from debiasctl.cli.output import show_log
            from debiasctl.cli.progress import images_progress
            from debiasctl.compute.device import make_accelerator
            from debiasctl.evaluation.evaluate import evaluate_images

            show_log()
            place = make_accelerator(self.device).device
            with images_progress() as show:
                (record,) = evaluate_images(path, location, choices=choices, device=place, on_progress=show)
            return record

        return measured_arms(arms, choices, location, measure)
