"""A trained run in Python: `debiasctl.run`."""

import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from torch import Tensor

from debiasctl.api import DatasetInfo, Denoiser, ExternalModel, PreparedAutoencoder
from debiasctl.errors import EvaluationError, RunError, UsageError
from debiasctl.evaluation.choices import Choices, check_choices
from debiasctl.evaluation.evaluate import evaluate as evaluate_run
from debiasctl.models.export import model_of
from debiasctl.models.latent_space import latent_space
from debiasctl.python.machine import computing, location
from debiasctl.python.records import Evaluations, Metrics
from debiasctl.python.values import check_choice_types, check_kind, check_path
from debiasctl.runs.guides import pin_guide
from debiasctl.runs.pins import pin_trained
from debiasctl.runs.standing import standing_of
from debiasctl.runs.store import Run as StoredRun
from debiasctl.runs.store import find_run, read_metrics
from debiasctl.sampling import SampleRequest, default_steps, make_request, sample
from debiasctl.sampling.samples import prepare
from debiasctl.specs.sections import RunSpec
from debiasctl.wording import kind_of


def run(name: str | Path) -> "Run":
    """Return the run of that name, of a name that begins so if it is the only one, or at that path.

    Raises:
        RunNameError: if no run matches, or several do; UsageError: if it is neither a name nor a path.
    """
    if not isinstance(name, str | Path):
        raise UsageError(f"a run is given by its name or its path, not by {kind_of(name)}")
    return Run(find_run(str(name)))


class Run:
    """A trained run; made by `debiasctl.run`. Nothing is read until it is asked for, and then anew."""

    def __init__(self, stored: StoredRun) -> None:
        self._stored = stored

    def __repr__(self) -> str:
        return f"debiasctl.run({self._stored.typed!r})"

    @property
    def name(self) -> str:
        """The run's name."""
        return self._stored.name

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self._stored.path

    @property
    def spec(self) -> RunSpec:
        """All settings that the run was trained with, such as `run.spec.training.steps`.

        Raises:
            RunError: if they are damaged, or a newer version wrote them.
        """
        return self._stored.spec()

    def metrics(self) -> Metrics:
        """Return the records of training, in order: dictionaries with the keys of metrics.jsonl, and `to_frame()`.

        Raises:
            RunError: if the file is damaged.
        """
        return Metrics(record.to_json() for record in read_metrics(self._stored))

    def denoiser(self, *, weights: str = "ema", checkpoint: int | None = None, device: str = "auto") -> Denoiser:
        """Return the trained network as a function: `denoiser(x_t, t, labels)` estimates x0, eps and v.

        x_t is [N, C, H, W] with alpha² + sigma² = 1, and t one timestep for all of them. `weights` are `ema`,
        `ema:LENGTH` or `raw`, of the last checkpoint or of the one at that step. See `debiasctl.api.Denoiser`.

        Raises:
            UsageError: if there is no such checkpoint, or no such weights; CheckpointError: if it is damaged.
        """
        with ExitStack() as pins, computing(device, kind=RunError, doing="while loading a network") as place:
            request = self._request(pins, checkpoint, num=1, steps=None, sampler="ddim", seed=None, weights=weights)
            return prepare(self._stored, self.spec, request, device=place)[0].denoiser

    def model(self, *, weights: str = "ema", checkpoint: int | None = None) -> ExternalModel:
        """Return the trained network as other software may take it: its tensors, its backbone and its process.

        `weights` are `ema`, `ema:LENGTH` or `raw`, of the last checkpoint or of the one at that step; tensors are on
        the CPU. The schedule's options are those of the run's spec.

        Raises:
            UsageError: if there is no such checkpoint, or no such weights; CheckpointError: if it is damaged.
        """
        check_whole(checkpoint=checkpoint)
        check_kind(weights, str, name="weights", wanted="a name")
        spec = self.spec
        with ExitStack() as pins:
            step = pin_trained(self._stored, None if checkpoint is None else str(checkpoint), pins)
            for text in standing_of(self._stored, spec, step):
                warnings.warn(text, stacklevel=2)
            return model_of(self._stored, spec, step=step, weights=weights)

    def autoencoder(self, *, device: str = "auto") -> PreparedAutoencoder | None:
        """Return the autoencoder whose latents the network makes, which the run keeps; None if it makes images.

        The network sees (latent - shift) * scale, by `run.spec.content.latents`.

        Raises:
            RunError: if its file is missing or damaged; UsageError: if a package is missing.
        """
        with computing(device, kind=RunError, doing="while loading an autoencoder") as place:
            space = latent_space(self._stored, self.spec, device=place)
            return None if space is None else space.autoencoder

    def sample(
        self,
        num: int = 64,
        *,
        steps: int | None = None,
        sampler: str = "ddim",
        guide: str | None = None,
        seed: int | None = None,
        class_name: str | int | None = None,
        checkpoint: int | None = None,
        weights: str = "ema",
        precision: str = "fp32",
        batch_size: int | None = None,
        device: str = "auto",
    ) -> Tensor:
        """Draw images, uint8 [N, C, H, W] on the CPU, the same as `debiasctl sample` does, which keeps them in the run.

        Images that were drawn before are read. Without `steps` there are 50; without `seed`, it is that of training.
        `guide` names a weaker network for the sampler's guidance to lead away from, such as `self:checkpoint=500`.
        What a reader must know of the checkpoint is a Python warning: that training has not ended, or failed.

        Raises:
            UsageError: if a name is unknown, or the sampler cannot make these steps on the run's schedule.
            CheckpointError: if the checkpoint is damaged or missing.
        """
        check_whole(batch_size=batch_size)
        with ExitStack() as pins, computing(device, kind=RunError, doing="while sampling") as place:
            request = self._request(
                pins, checkpoint, num=num, steps=steps, sampler=sampler, seed=seed, weights=weights,
                class_name=class_name, precision=precision, guide=guide,
            )  # fmt: skip
            return sample(self._stored, self.spec, request, device=place, batch_size=batch_size).images.clone()

    def evaluate(
        self,
        *,
        num: int = 1000,
        steps: int | Sequence[int] | None = None,
        features: str | None = None,
        metrics: Sequence[str] | None = None,
        reference: str | Path | None = None,
        sampler: str = "ddim",
        guide: str | None = None,
        seed: int | None = None,
        checkpoint: int | None = None,
        weights: str = "ema",
        precision: str = "fp32",
        batch_size: int | None = None,
        device: str = "auto",
    ) -> Evaluations:
        """Draw images and measure them; return what `debiasctl evaluate RUN --json` prints, and store it in the run.

        Several `steps` give a record each. Without `reference`, the images are measured against the run's own data.
        `guide` is that of `sample`.

        Raises:
            UsageError: if a name is unknown; CheckpointError: if the checkpoint is damaged or missing.
            EvaluationError: if the features are not available, or the images cannot be measured.
        """
        check_choice_types(features, metrics)
        if reference is not None:
            check_path(reference, name="reference")
        check_whole(batch_size=batch_size)
        names = [metrics] if isinstance(metrics, str) else metrics
        choices = Choices(features, metrics=names, reference=None if reference is None else str(reference))
        spec = self.spec
        if spec.content is not None:
            about = spec.content
            sizes = about.image_size, about.channels, about.classes, about.num_train, about.num_heldout
            check_choices(choices, DatasetInfo(*sizes))
        if steps is not None and not isinstance(steps, int):
            check_kind(steps, Sequence, name="steps", wanted="a whole number, or a list of them")
            if not steps:
                raise UsageError("`steps` is an empty list. Give a whole number, or a list of them")
        counts = [steps] if steps is None or isinstance(steps, int) else list(steps)
        with ExitStack() as pins, computing(device, kind=EvaluationError, doing="while evaluating") as place:
            requests = [
                self._request(
                    pins, checkpoint, num=num, steps=count, sampler=sampler, seed=seed, weights=weights,
                    precision=precision, guide=guide,
                )
                for count in counts
            ]  # fmt: skip
            records = evaluate_run(
                self._stored, spec, requests, location(), choices=choices, device=place, batch_size=batch_size
            )
        return Evaluations({"evaluations": [record.to_json() for record in records]})

    def _request(
        self,
        pins: ExitStack,
        checkpoint: int | None,
        *,
        num: int,
        steps: int | None,
        sampler: str,
        seed: int | None,
        weights: str,
        class_name: str | int | None = None,
        precision: str = "fp32",
        guide: str | None = None,
    ) -> SampleRequest:
        """What to draw, from a checkpoint that training keeps until `pins` ends."""
        spec = self.spec
        check_whole(num=num, steps=steps, seed=seed, checkpoint=checkpoint)
        for text, called in ((sampler, "sampler"), (weights, "weights"), (precision, "precision")):
            check_kind(text, str, name=called, wanted="a name")
        if guide is not None:
            check_kind(guide, str, name="guide", wanted="a name")
        step = pin_trained(self._stored, None if checkpoint is None else str(checkpoint), pins)
        for text in standing_of(self._stored, spec, step):
            warnings.warn(text, stacklevel=3)
        return make_request(
            self._stored,
            spec,
            num=num,
            num_steps=default_steps([spec]) if steps is None else steps,
            sampler=sampler,
            seed=seed,
            checkpoint=str(step),
            weights=weights,
            class_name=None if class_name is None else str(class_name),
            precision=precision,
            guide=None if guide is None else pin_guide(guide, self._stored, pins),
        )


def check_whole(**numbers: object) -> None:
    """Raise UsageError for a number that is given and is not whole."""
    for name, number in numbers.items():
        if number is not None and (isinstance(number, bool) or not isinstance(number, int)):
            raise UsageError(f"`{name}={number!r}` must be a whole number")
        least = {"seed": 0, "batch_size": 1}.get(name)
        if isinstance(number, int) and least is not None and number < least:
            raise UsageError(f"`{name}={number}` must be a whole number from {least}")
