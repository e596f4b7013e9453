"""The part `colour`: what shifts the brightness and colour of a run's samples."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import JsonValue

from debiasctl.analysis.book import Arrays, Book
from debiasctl.analysis.parts.colour.findings import sentences
from debiasctl.analysis.parts.colour.interventions import Setup
from debiasctl.analysis.parts.colour.measurement import NEIGHBOURS, Measurement
from debiasctl.analysis.parts.colour.pictures import pictures_of
from debiasctl.analysis.parts.colour.results import found_of
from debiasctl.analysis.parts.colour.statistics import chunk_of
from debiasctl.analysis.parts.part import Choices, Found, Part
from debiasctl.analysis.record import AnalysisRecord
from debiasctl.analysis.subject import Subject
from debiasctl.errors import UsageError
from debiasctl.reporting.picture import Picture

_NUM = 320
LEAST = 20  # samples, of which ten chunks have two each


class Colour(Part):
    """The shift of the samples' colour, and what each intervention takes away of it, on the same noises.

    By default 320 samples are drawn, about twelve times where more steps can be tried.
    """

    name: ClassVar[str] = "colour"
    title: ClassVar[str] = "Colour doctor: what shifts the samples' brightness and colour"
    averages: ClassVar[bool] = True

    def settings(self, subject: Subject, others: Sequence[Subject], choices: Choices) -> dict[str, JsonValue]:
        """See `Part.settings`; the number of samples is raised to whole chunks, which a note says."""
        num = _NUM if choices.num is None else choices.num
        if subject.space is not None:
            raise UsageError(
                f"run '{subject.run.name}' makes latents, whose channels are no colours, and the causes of a shift are "
                "told apart by changing the colours of what the network sees. The shift of its decoded samples is "
                f"measured: debiasctl evaluate {subject.run.typed}"
            )
        if num < LEAST:
            raise UsageError(
                f"`num={num}`: a shift of colour is attributed to its causes by at least {LEAST} samples. "
                "Choose a larger `num`"
            )
        while num % chunk_of(num):
            num += 1
        request, setup = subject.request, Setup.of(subject)
        return {
            "num": num, "seed": choices.seed, "sampling_seed": request.seed,
            "sampler": str(request.sampler.ref), "sampler_version": request.sampler.version,
            "num_steps": request.num_steps, "more_steps": setup.more_steps, "label": request.label,
            "precision": request.precision, "interventions": [one.name for one in setup.possible()],
            "neighbours": NEIGHBOURS,
        }  # fmt: skip

    def measure(self, subject: Subject, others: Sequence[Subject], settings: dict[str, JsonValue], book: Book) -> Found:
        """See `Part.measure`."""
        num, seed = settings["num"], settings["seed"]
        assert isinstance(num, int)
        assert isinstance(seed, int)
        with torch.no_grad():
            found = found_of(Measurement(subject, book, num=num, seed=seed).measure())
        found.notes.insert(
            0, f"shifts were measured on {num} samples of each intervention, in chunks of {chunk_of(num)}"
        )
        return found

    def findings(self, record: AnalysisRecord) -> list[str]:
        """See `Part.findings`."""
        return sentences(record)

    def pictures(self, records: Sequence[AnalysisRecord], images: Sequence[Arrays]) -> list[Picture]:
        """See `Part.pictures`."""
        return pictures_of(records, images)
