"""The networks that images are drawn with, loaded once: a run's at a checkpoint, and its guide's."""

import logging
from pathlib import Path

import torch
from torch import nn

from debiasctl.compute.allocator import prepare_process
from debiasctl.diffusion.denoiser import NetworkDenoiser
from debiasctl.errors import RunError
from debiasctl.models.build import build_parameterization, network_for
from debiasctl.models.latent_space import LatentSpace, latent_space
from debiasctl.models.weights import load_named_weights
from debiasctl.runs.guides import Guide
from debiasctl.runs.store import Run
from debiasctl.sampling.request import SampleRequest
from debiasctl.specs.sections import RunSpec

_LOG = logging.getLogger(__name__)
_NetworkKey = tuple[Path, int, str, bool]  # the run's folder, the step, the weights, whether it is compiled
_DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Networks:
    """A run's network, loaded once for all requests of a checkpoint, which training may remove in the meantime.

    With it goes that of its guide, likewise.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, tuple[_NetworkKey, tuple[nn.Module, str]]] = {}
        self._spaces: dict[Path, LatentSpace | None] = {}
        self._batch_size: int | None = None

    def space(self, run: Run, spec: RunSpec, *, device: torch.device) -> LatentSpace | None:
        """The run's latent space, loaded once; None for a network that makes images.

        Raises:
            RunError: if the run's autoencoder is missing or damaged.
        """
        if run.path not in self._spaces:
            self._spaces = {run.path: latent_space(run, spec, device=device)}
        return self._spaces[run.path]

    def note_batch_size(self, size: int) -> None:
        """Note, once, how many images are drawn at a time."""
        if size != self._batch_size:
            _LOG.info("drawing %d images at a time", size)
        self._batch_size = size

    def get(
        self, run: Run, spec: RunSpec, request: SampleRequest, *, device: torch.device
    ) -> tuple[NetworkDenoiser, str]:
        """The network of the request's checkpoint and weights on the device, and the weights' SHA-256.

        Raises:
            CheckpointError: if the checkpoint is damaged; RunError: if torch.compile does not work here.
        """
        return self._get("main", run, spec, (run.path, request.step, request.weights, request.compile), request, device)

    def guide(self, guide: Guide, request: SampleRequest, *, device: torch.device) -> tuple[NetworkDenoiser, str]:
        """The guide's network, likewise."""
        key = (guide.run.path, guide.step, guide.weights, request.compile)
        return self._get("guide", guide.run, guide.run.spec(), key, request, device)

    def _get(
        self, role: str, run: Run, spec: RunSpec, key: _NetworkKey, request: SampleRequest, device: torch.device
    ) -> tuple[NetworkDenoiser, str]:
        content = run.content(spec)
        there = self._loaded.get(role)
        if there is None or there[0] != key:
            _, step, weights, compiled = key
            prepare_process()
            network = network_for(spec, content)
            checksum = load_named_weights(run, network, step=step, weights=weights)
            network.to(device).eval()
            if compiled:
                _compile(network, device)
            there = key, (network, checksum)
            self._loaded[role] = there  # one at a time: networks are large
        network, checksum = there[1]
        denoiser = NetworkDenoiser(
            network,
            build_parameterization(spec),
            null_label=len(content.classes) if spec.model.label_dropout else None,
            shape=content.trained_shape,
            num_classes=len(content.classes) if spec.model.conditional else 0,
            autocast=_DTYPES[request.precision],
        )
        return denoiser, checksum


def _compile(network: nn.Module, device: torch.device) -> None:
    """Have the network compiled at its first forward, after a check that torch can compile here.

    Raises:
        RunError: if torch cannot compile here.
    """
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.zeros(8, device=device))
    except (RuntimeError, ImportError, OSError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise RunError(f"`compile`: torch cannot compile on this machine ({reason}). Leave `compile` out") from error
    network.compile()
