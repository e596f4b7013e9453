"""What is analysed: a run's network at one checkpoint, and the images that it was trained on and was not."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from debiasctl import paths
from debiasctl.api import Denoiser, LoadedDataset, Split
from debiasctl.data.heldout_set import HeldoutSet
from debiasctl.diffusion.denoiser import NetworkDenoiser
from debiasctl.diffusion.process import DiffusionProcess
from debiasctl.models.latent_space import LatentSpace, trained_data
from debiasctl.runs.store import Run
from debiasctl.sampling.drawing import Drawer, decoded
from debiasctl.sampling.networks import Networks
from debiasctl.sampling.request import SampleRequest, labels_of
from debiasctl.sampling.samples import prepare
from debiasctl.specs.recorded import ContentSection
from debiasctl.specs.sections import RunSpec


@dataclass(frozen=True)
class Subject:
    """A run with its trained network and its data set.

    `data` are what the network was trained on: images, or the latents of the `encoded` ones in `space`. `request`
    names the checkpoint, the weights, the sampler and the seed; `arm` is the name of its settings without the seed,
    which runs that differ in seed alone share.
    """

    run: Run
    spec: RunSpec
    arm: str
    request: SampleRequest
    data: LoadedDataset
    device: torch.device
    weights_sha256: str
    denoiser: NetworkDenoiser
    space: LatentSpace | None = None
    encoded: LoadedDataset | None = None

    @classmethod
    def of(
        cls, run: Run, spec: RunSpec, request: SampleRequest, images: LoadedDataset, *, arm: str, device: torch.device
    ) -> "Subject":
        """Load the network of a request, and encode the images if it was trained on their latents.

        Raises:
            CheckpointError: if the checkpoint is damaged; RunError: if the run's autoencoder is.
        """
        networks = Networks()
        denoiser, checksum = _loaded(run, spec, request, networks, device=device)
        space = networks.space(run, spec, device=device)
        data = images if space is None else trained_data(spec, images, space, cache_dir=paths.cache_dir())
        encoded = None if space is None else images
        return cls(run, spec, arm, request, data, device, checksum, denoiser, space, encoded)

    def at(self, step: int) -> "Subject":
        """The same run at another of its checkpoints.

        Raises:
            CheckpointError: if that is damaged.
        """
        request = replace(self.request, step=step)
        denoiser, checksum = _loaded(self.run, self.spec, request, Networks(), device=self.device)
        return replace(self, request=request, weights_sha256=checksum, denoiser=denoiser)

    @property
    def process(self) -> DiffusionProcess:
        """The process that it was trained on."""
        return self.denoiser.process

    @property
    def content(self) -> ContentSection:
        """The facts of its data set."""
        return self.run.content(self.spec)

    @property
    def is_conditional(self) -> bool:
        """Whether the network is given classes."""
        return bool(self.spec.model.conditional)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of what the network makes, an image or a latent, (C, H, W)."""
        info = self.data.info
        return info.channels, info.image_size, info.image_size

    @property
    def images(self) -> LoadedDataset:
        """The images, whether the network was trained on them or on their latents."""
        return self.encoded or self.data

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Of an image, (C, H, W)."""
        info = self.images.info
        return info.channels, info.image_size, info.image_size

    def images_of(self, x: Tensor) -> Tensor:
        """The images [N, C, H, W] that x, which the network makes, are: decoded, if it makes latents."""
        return x if self.space is None else decoded(x, self.space.decode)

    def heldout(self, num: int) -> HeldoutSet:
        """Up to `num` held-out images in model space, evenly spread over the split, on the device."""
        return self._images(num, self.data.heldout)

    def train(self, num: int) -> HeldoutSet:
        """Up to `num` training images, likewise."""
        return self._images(num, self.data.train)

    def _images(self, num: int, split: Split) -> HeldoutSet:
        return HeldoutSet.of(
            split, num_images=num, conditional=self.is_conditional, device=self.device, dtype=torch.float32
        )

    def labels(self, positions: Tensor) -> Tensor | None:
        """The classes of the samples at these positions, int64 [N] on the CPU, as `sample` takes them."""
        if not self.is_conditional:
            return None
        return labels_of(positions, self.content, seed=self.request.seed, label=self.request.label)

    def drawer(self, *, denoiser: Denoiser | None = None, num_steps: int | None = None) -> Drawer:
        """What draws the run's samples, from the noise and the classes of `sample`; with another denoiser if given."""
        request = self.request if num_steps is None else replace(self.request, num_steps=num_steps)
        return Drawer(
            denoiser or self.denoiser, request, self.labels, shape=self.shape, device=self.device,
            decode=None if self.space is None else self.space.decode,
        )  # fmt: skip


def _loaded(
    run: Run, spec: RunSpec, request: SampleRequest, networks: Networks, *, device: torch.device
) -> tuple[NetworkDenoiser, str]:
    """The network of a request, and its weights' SHA-256."""
    drawer, origin = prepare(run, spec, request, device=device, networks=networks)
    denoiser = drawer.denoiser
    assert isinstance(denoiser, NetworkDenoiser), "a run's own"
    return denoiser, origin.weights_sha256
