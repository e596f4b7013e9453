"""Monitoring a model during training: grids from fixed noise, and metrics of a few samples."""

import copy

import torch

from debiasctl import paths, registry
from debiasctl.api import ArraySplit, Features, LoadedDataset, MetricNames, PreparedFeatures
from debiasctl.data.pixels import as_measured
from debiasctl.diffusion.denoiser import NetworkDenoiser
from debiasctl.evaluation.extractor import defaults, prepare_first
from debiasctl.evaluation.measure import measure
from debiasctl.models.latent_space import LatentSpace
from debiasctl.reporting.pictures import make_grid, save_grid
from debiasctl.runs.records import MonitorRecord
from debiasctl.runs.store import Run
from debiasctl.sampling import SampleRequest, draw, labels_of
from debiasctl.sampling.request import check_steps
from debiasctl.training.tracking import track_image
from debiasctl.training.training import Training

_SEED = 0  # for the noise: the same for every run, so that grids of any two are comparable
_BATCH = 256  # fixed, because processes with sharded weights draw in lockstep


class Monitor:
    """Draws and measures samples of the averaged weights after every `monitor.every` training images."""

    def __init__(self, training: Training, data: LoadedDataset, space: LatentSpace | None = None) -> None:
        """Check before the first step that monitoring is possible; `data` are images, and `space` decodes latents.

        Raises:
            UsageError: if the sampling steps do not fit the schedule.
            EvaluationError: if the features are not available.
        """
        self.training, self.data, self._space = training, as_measured(data), space
        assert training.spec.monitor is not None, "a monitor is made only for a spec with this section"
        self.spec = training.spec.monitor
        self._features: tuple[MetricNames, PreparedFeatures] | None = None
        check_steps(self.spec.sampler, training.objective.process, self.spec.steps)
        if training.accelerator.is_main_process:
            self._prepared()

    def due(self, step: int) -> bool:
        """Whether the step completes another `every` images."""
        size = self.training.spec.training.batch_size
        return step * size // self.spec.every > (step - 1) * size // self.spec.every

    def __call__(self, run: Run, step: int) -> list[MonitorRecord]:
        """Return records for the metrics file; write the grid to the run's folder and pass it to trackers.

        Raises:
            EvaluationError: if the features are not available, or the samples cannot be measured.
        """
        spec, content = self.training.spec, self.training.spec.content
        assert content is not None, "a training's spec states its data's content"
        labels = None
        if spec.model.conditional:
            labels = labels_of(torch.arange(self.spec.num), content, seed=_SEED, label=None)
        request = SampleRequest(self.spec.num, self.spec.steps, self.spec.sampler, _SEED, step, "ema")
        network = self.training.ema.network
        if self.training.dtype != torch.float32:
            network = copy.deepcopy(network).float()
        images, nfe = draw(
            NetworkDenoiser(network, self.training.objective.parameterization, null_label=self.training.null_label),
            request,
            labels,
            shape=content.trained_shape,
            device=self.training.accelerator.device,
            batch_size=_BATCH,
            decode=None if self._space is None else self._space.decode,
        )
        if not self.training.accelerator.is_main_process:
            return []
        if self.spec.grid:
            save_grid(run.grids_dir / f"{step:08d}.png", images[: self.spec.grid])
            grid = make_grid(images[: self.spec.grid])
            track_image(self.training.accelerator, "samples", grid, step=step)
        names, prepared = self._prepared()
        found = measure(
            ArraySplit(images, labels),
            self.data,
            prepared,
            names=names,
            metrics=None,
            cache_dir=paths.cache_dir(),
        )
        record = MonitorRecord(
            step=step,
            images=step * spec.training.batch_size,
            num=self.spec.num,
            sampler=str(self.spec.sampler.ref),
            steps=self.spec.steps,
            nfe=nfe,
            weights="ema",
            metrics={name: figure.value for name, figure in found.metrics.items()},
            floors={name: figure.floor for name, figure in found.metrics.items()},
        )
        return [record]

    def _prepared(self) -> tuple[MetricNames, PreparedFeatures]:
        if self._features is None:
            device, cache_dir = self.training.accelerator.device, paths.cache_dir()
            if self.spec.features is None:
                found = prepare_first(defaults(self.data), self.data, device=device)
                self._features = found.names, found.prepared
            else:
                resolved = registry.resolve("features", self.spec.features.ref)
                plugin: Features = resolved.create()
                prepared = plugin.prepare(self.data, cache_dir=cache_dir, device=device)
                self._features = plugin.metric_names(resolved.record.name), prepared
        return self._features
