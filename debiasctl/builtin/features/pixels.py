"""Features that need no labels: the training pixels' leading principal components, and what these leave."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from debiasctl.api import EvaluationError, Features, LoadedDataset, PluginOptions, UsageError, content_key

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from debiasctl.builtin.features._support.components import PreparedPixels


class Pixels(Features):
    """The leading principal components of the training pixels, and what these leave: fd_pixels, kd_pixels.

    They need no network and no labels, and are computed in float64, in units of the model space [-1, 1]. Coordinates
    are centred at the training mean. One further dimension is the length of the rest of the image, in which noise and
    blur show, minus its mean over the training images. They represent layout, colour and detail, not meaning. Figures
    are comparable only between equal identities, and are not FIDs.
    """

    class Options(PluginOptions):
        """The options of the principal components."""

        dimension: int | None = Field(
            None, ge=1, le=2048, description="number of components; by default 32, or fewer if the data has fewer"
        )
        resolution: int = Field(32, ge=1, le=64, description="larger images are averaged down to this many pixels")

    options: Options

    def prepare(self, data: LoadedDataset, *, cache_dir: Path, device: "torch.device") -> "PreparedPixels":
        """Prepare the components, from `cache_dir/features/pixels` if they are cached.

        Raises:
            UsageError: if more components are requested than the data has.
            EvaluationError: if there are fewer than 2 training images.
        """
        from debiasctl.builtin.features._support import components
        from debiasctl.builtin.features._support.cache import cached_tensors

        if len(data.train) < 2:
            raise EvaluationError(f"principal components need at least 2 training images, not {len(data.train)}")
        num_images = min(len(data.train), components.MAX_IMAGES)
        num_pixels = data.info.channels * min(data.info.image_size, self.options.resolution) ** 2
        most = min(num_images - 1, num_pixels)
        dimension = self.options.dimension or min(32, most)
        if dimension > most:
            raise UsageError(
                f"features 'pixels': dimension={dimension} is more than {num_images} images of {num_pixels} values "
                f"have. Choose at most {most}"
            )
        settings = {"dimension": dimension, "resolution": self.options.resolution, "version": components.VERSION}
        key = content_key({"dataset": data.lasting_hash, **settings})

        def make() -> "tuple[dict[str, Tensor], dict[str, Any]]":
            tensors, explained = components.principal_components(data, dimension, resolution=self.options.resolution)
            return tensors, {
                **settings,
                "dataset_hash": data.lasting_hash,
                "num_train": num_images,
                "explained_variance": explained,
            }

        tensors, manifest = cached_tensors(cache_dir / "features" / "pixels" / key, make)
        return components.PreparedPixels(tensors, manifest=manifest, device=device)
