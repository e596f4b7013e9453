"""CLIP features, which see what an image shows rather than ImageNet's classes."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from debiasctl.api import EvaluationError, Features, LoadedDataset, PluginOptions, WeightsFile
from debiasctl.builtin.features._support.pretrained_vit import PreparedVit
from debiasctl.builtin.features._support.vit import Block, embed, pair, run_block

_SHA256 = "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"
WEIGHTS = WeightsFile(
    network="CLIP ViT-B/32",
    folder="clip",
    name="ViT-B-32.pt",
    url=f"https://openaipublic.azureedge.net/clip/models/{_SHA256}/ViT-B-32.pt",
    sha256=_SHA256,
)
_EPS = 1e-5


class Clip(Features):
    """Image embeddings of CLIP ViT-B/32 (Radford et al., 2021; as a measure: arXiv 2203.06026): fd_clip, kd_clip.

    OpenAI's weights, taken from the cache or downloaded to it, and verified by their SHA-256.
    """

    pretrained = True
    any_size = True
    weights_files = (WEIGHTS,)

    class Options(PluginOptions):
        """Options of CLIP."""

        weights: Path | None = Field(
            None, description="ViT-B-32.pt, or the folder that holds it; by default the cache, downloaded where missing"
        )

    options: Options

    def prepare(self, data: LoadedDataset, *, cache_dir: Path, device: torch.device) -> "PreparedClip":
        """The image encoder, from verified weights.

        Raises:
            UsageError: `weights` names no file; EvaluationError: weights that cannot be had, or are others.
        """
        path, sha256 = WEIGHTS.obtain(cache_dir, self.options.weights)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # torch deprecates TorchScript, the format of this file
                warnings.simplefilter("ignore", DeprecationWarning)
                network: Any = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
            state = {
                name.removeprefix("visual."): tensor.detach()
                for name, tensor in network.state_dict().items()
                if name.startswith("visual.")
            }
            return PreparedClip(state, sha256=sha256, device=device)
        except (RuntimeError, KeyError, pickle.UnpicklingError) as error:
            raise EvaluationError(f"{path} cannot be loaded by this version of torch ({error})") from error


class PreparedClip(PreparedVit):
    """The projected class token of CLIP's image encoder."""

    mean = (0.48145466, 0.4578275, 0.40821073)
    std = (0.26862954, 0.26130258, 0.27577711)

    def __init__(self, weights: dict[str, Tensor], *, sha256: str, device: torch.device) -> None:
        super().__init__(weights, dimension=weights["proj"].shape[1], sha256=sha256, device=device)
        state = self._weights
        depth = len({name.split(".")[2] for name in state if name.startswith("transformer.resblocks.")})
        self._num_heads = len(state["class_embedding"]) // 64
        self._blocks = []
        for number in range(depth):
            layer = f"transformer.resblocks.{number}"
            self._blocks.append(
                Block(
                    norm1=pair(state, f"{layer}.ln_1"),
                    qkv=pair(state, f"{layer}.attn.in_proj", separator="_"),
                    proj=pair(state, f"{layer}.attn.out_proj"),
                    norm2=pair(state, f"{layer}.ln_2"),
                    fc1=pair(state, f"{layer}.mlp.c_fc"),
                    fc2=pair(state, f"{layer}.mlp.c_proj"),
                )
            )

    def forward(self, x: Tensor) -> Tensor:
        """[N, dimension] for normalised x [N, 3, 224, 224]."""
        state = self._weights
        width = len(state["class_embedding"])
        token, positions = state["class_embedding"], state["positional_embedding"]
        x = embed(x, state["conv1.weight"], None, token=token, positions=positions)
        x = F.layer_norm(x, (width,), *pair(state, "ln_pre"), _EPS)
        for block in self._blocks:
            x = run_block(x, block, num_heads=self._num_heads, eps=_EPS, quick_gelu=True)
        return F.layer_norm(x[:, 0], (width,), *pair(state, "ln_post"), _EPS) @ state["proj"]
