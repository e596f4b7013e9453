"""What the extensions of a training report, recorded where it has changed."""

from debiasctl.runs.records import ExtensionFigures, ExtensionsRecord
from debiasctl.runs.store import Run, read_metrics
from debiasctl.training.training import Training


class Summaries:
    """Reads the extensions' summaries, and remembers what was recorded last, by this process or the one before."""

    def __init__(self, run: Run, training: Training) -> None:
        self._run, self._training = run, training
        self._recorded: list[ExtensionFigures] = []

    def resume(self) -> None:
        """Continue from what the run's metrics hold."""
        if self._training.extensions:
            records = [one for one in read_metrics(self._run) if isinstance(one, ExtensionsRecord)]
            self._recorded = records[-1].extensions if records else []

    def changed(self, step: int) -> ExtensionsRecord | None:
        """The record of what is reported now, if it differs from the one before."""
        named = zip(self._training.spec.extensions, self._training.extensions, strict=True)
        found = [ExtensionFigures(name=choice.name, figures=dict(one.summary())) for choice, one in named]
        found = [one for one in found if one.figures]
        if found == self._recorded:
            return None
        self._recorded = found
        return ExtensionsRecord(step=step, extensions=found)
