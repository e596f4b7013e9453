"""DINOv2 features, learned without labels, which agree best with human judgement of generated images."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from debiasctl.api import EvaluationError, Features, LoadedDataset, PluginOptions, WeightsFile
from debiasctl.builtin.features._support.channels import check_channels

if TYPE_CHECKING:
    import torch

    from debiasctl.builtin.features._support.dinov2_network import PreparedDinoV2

Size = Literal["vits14", "vitb14", "vitl14"]
_DEFAULT: Size = "vitb14"
DIMENSIONS: dict[Size, int] = {"vits14": 384, "vitb14": 768, "vitl14": 1024}
WEIGHTS: dict[Size, WeightsFile] = {
    size: WeightsFile(
        network=f"DINOv2 ViT-{size[3].upper()}/14",
        folder="dinov2",
        name=f"dinov2_{size}_pretrain.pth",
        url=f"https://dl.fbaipublicfiles.com/dinov2/dinov2_{size}/dinov2_{size}_pretrain.pth",
        sha256=None,  # no checksum is published
    )
    for size in DIMENSIONS
}


class DinoV2(Features):
    """Class token of DINOv2 (Oquab et al., 2023; as a measure: Stein et al., arXiv 2306.04675): fd_dinov2, kd_dinov2.

    The published FD_DINOv2 is that of ViT-L/14, `network=vitl14`. The default, ViT-B/14, takes a quarter of the time.

    The authors publish no checksum, so nothing is downloaded: put the file into the cache or name it. Its SHA-256 is
    part of the identity, so that figures from different files are never compared. ViT-S, B and L without registers are
    supported, and figures of one are not those of another.
    """

    pretrained = True
    any_size = True
    weights_files = (WEIGHTS["vitb14"], WEIGHTS["vitl14"])
    weights_option = "weights"

    class Options(PluginOptions):
        """The options of DINOv2."""

        network: Size | None = Field(
            None,
            description="vitl14 (the published FD_DINOv2's), vitb14 or vits14; null: vitb14, or the one in `weights`",
        )
        weights: Path | None = Field(
            None, description="a file such as dinov2_vitb14_pretrain.pth (S, B or L); by default the cached one"
        )

    options: Options

    def prepare(self, data: LoadedDataset, *, cache_dir: Path, device: "torch.device") -> "PreparedDinoV2":
        """Load the network from the authors' file.

        Raises:
            UsageError: if `weights` does not exist.
            EvaluationError: if there is no file in the cache, or it does not hold such a network, or another than
                `network` names.
        """
        from debiasctl.builtin.features._support.dinov2_network import PreparedDinoV2

        named = self.options.network
        file = WEIGHTS[named or _DEFAULT]
        check_channels(data.info, file.network)
        path, sha256 = file.obtain(cache_dir, self.options.weights)
        prepared = PreparedDinoV2.load(path, sha256=sha256, url=file.url, device=device)
        if named is not None and prepared.dimension != DIMENSIONS[named]:
            sizes = {dimension: size for size, dimension in DIMENSIONS.items()}
            raise EvaluationError(
                f"{path} holds a DINOv2 with features of {prepared.dimension} dimensions "
                f"({sizes.get(prepared.dimension, 'none of the published ones')}), and network={named} has "
                f"{DIMENSIONS[named]}. Give the file {file.name}, or leave network out"
            )
        return prepared
