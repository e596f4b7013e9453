"""Inception-v3 features, the field's standard (FID, KID), with clean-fid's resizing and verified weights."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from debiasctl.api import Features, LoadedDataset, MetricNames, PluginOptions, PublishedStatistics, WeightsFile
from debiasctl.builtin.features._support.channels import check_channels

if TYPE_CHECKING:
    import torch

    from debiasctl.builtin.features._support.inception_network import PreparedInception

FILE_NAME = "inception-2015-12-05.pt"
WEIGHTS = WeightsFile(
    network="Inception-v3",
    folder="inception",
    name=FILE_NAME,
    url=f"https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/{FILE_NAME}",  # clean-fid's
    sha256="f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
)


class Inception(Features):
    """Inception-v3 pool features (Heusel et al., 2017), resized as clean-fid does (arXiv 2104.11222): fid, kid.

    The weights are read from the cache or downloaded to it, and verified by their SHA-256. The network runs in float32,
    always on equally many images at once, so that features do not depend on how images are batched.
    `resize=legacy-tf` is the older method (guided-diffusion's and EDM's), whose figures differ and have another
    identity.
    """

    pretrained = True
    any_size = True
    weights_files = (WEIGHTS,)
    weights_option = "weights"
    published_statistics = (
        PublishedStatistics("clean-fid", "clean", {"resize": "clean"}),
        PublishedStatistics("clean-fid", "clean", {"resize": "clean-fid"}),
        PublishedStatistics("clean-fid", "legacy_tensorflow", {"resize": "legacy-tf"}),
    )

    class Options(PluginOptions):
        """The options of Inception-v3."""

        weights: Path | None = Field(
            None,
            description=f"{FILE_NAME}, or the folder that holds it; by default the cached file, else downloaded",
        )
        resize: Literal["clean", "clean-fid", "legacy-tf"] = Field(
            "clean",
            description="clean: as clean-fid, within 0.01 grey levels, on the network's device; clean-fid: with its "
            "own code, on the CPU; legacy-tf: inside the network, as in ADM and EDM",
        )

    options: Options

    @classmethod
    def metric_names(cls, name: str) -> MetricNames:
        """The standard names, which only this network's metrics may have."""
        return MetricNames(name, frechet="fid", kernel="kid", score="inception_score", spatial="sfid")

    def prepare(self, data: LoadedDataset, *, cache_dir: Path, device: "torch.device") -> "PreparedInception":
        """Load the network from verified weights.

        Raises:
            UsageError: if `weights` does not exist.
            EvaluationError: if images are neither grey nor RGB, or the weights cannot be downloaded (the message says
                where to put them) or are not the published ones that FID is defined by.
        """
        from debiasctl.builtin.features._support.inception_network import PreparedInception

        check_channels(data.info, WEIGHTS.network)
        path, sha256 = WEIGHTS.obtain(cache_dir, self.options.weights)
        return PreparedInception(path, sha256=sha256, resize=self.options.resize, device=device)
