"""DINOv2 features, learned without labels, which agree best with human judgement of generated images."""

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from debiasctl.api import Features, LoadedDataset, PluginOptions, WeightsFile
from debiasctl.builtin.features._support.channels import check_channels

if TYPE_CHECKING:
    import torch

    from debiasctl.builtin.features._support.dinov2_network import PreparedDinoV2

WEIGHTS = WeightsFile(
    network="DINOv2 ViT-B/14",
    folder="dinov2",
    name="dinov2_vitb14_pretrain.pth",
    url="https://dl.fbaipublicfiles.com/dinov2/dinov2_vitb14/dinov2_vitb14_pretrain.pth",
    sha256=None,  # no checksum is published
)


class DinoV2(Features):
    """Class token of DINOv2 (Oquab et al., 2023; as a measure: Stein et al., arXiv 2306.04675): fd_dinov2, kd_dinov2.

    The authors publish no checksum, so nothing is downloaded: put the file into the cache or name it. Its SHA-256 is
    part of the identity, so that figures from different files are never compared. ViT-S, B and L without registers are
    supported.
    """

    pretrained = True
    any_size = True
    weights_files = (WEIGHTS,)
    weights_option = "weights"

    class Options(PluginOptions):
        """The options of DINOv2."""

        weights: Path | None = Field(
            None, description="a file such as dinov2_vitb14_pretrain.pth (S, B or L); by default the cached one"
        )

    options: Options

    def prepare(self, data: LoadedDataset, *, cache_dir: Path, device: "torch.device") -> "PreparedDinoV2":
        """Load the network from the authors' file.

        Raises:
            UsageError: if `weights` does not exist.
            EvaluationError: if there is no file in the cache, or it does not hold such a network.
        """
        from debiasctl.builtin.features._support.dinov2_network import PreparedDinoV2

        check_channels(data.info, WEIGHTS.network)
        path, sha256 = WEIGHTS.obtain(cache_dir, self.options.weights)
        return PreparedDinoV2.load(path, sha256=sha256, url=WEIGHTS.url, device=device)
