"""CLIP features, which represent the content of images rather than ImageNet's classes."""

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from debiasctl.api import Features, LoadedDataset, PluginOptions, WeightsFile
from debiasctl.builtin.features._support.channels import check_channels

if TYPE_CHECKING:
    import torch

    from debiasctl.builtin.features._support.clip_network import PreparedClip

_SHA256 = "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"
WEIGHTS = WeightsFile(
    network="CLIP ViT-B/32",
    folder="clip",
    name="ViT-B-32.pt",
    url=f"https://openaipublic.azureedge.net/clip/models/{_SHA256}/ViT-B-32.pt",
    sha256=_SHA256,
)


class Clip(Features):
    """Image embeddings of CLIP ViT-B/32 (Radford et al., 2021; as a measure: arXiv 2203.06026): fd_clip, kd_clip.

    OpenAI's weights are read from the cache or downloaded to it, and verified by their SHA-256.
    """

    pretrained = True
    any_size = True
    weights_files = (WEIGHTS,)
    weights_option = "weights"

    class Options(PluginOptions):
        """The options of CLIP."""

        weights: Path | None = Field(
            None, description="ViT-B-32.pt, or the folder that holds it; by default the cached file, else downloaded"
        )

    options: Options

    def prepare(self, data: LoadedDataset, *, cache_dir: Path, device: "torch.device") -> "PreparedClip":
        """Load the image encoder from verified weights.

        Raises:
            UsageError: if `weights` does not exist.
            EvaluationError: if the weights cannot be downloaded, or are not the published ones.
        """
        from debiasctl.builtin.features._support.clip_network import PreparedClip

        check_channels(data.info, WEIGHTS.network)
        path, sha256 = WEIGHTS.obtain(cache_dir, self.options.weights)
        return PreparedClip.load(path, sha256=sha256, device=device)
