"""The network of DINOv2."""

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from debiasctl.api import EvaluationError
from debiasctl.builtin.features._support.pretrained_vit import SIZE, PreparedVit
from debiasctl.builtin.features._support.vit import Block, embed, pair, run_block

_EPS = 1e-6
_HEAD_WIDTH = 64
_PUBLISHED = 1024  # dimensions of ViT-L/14
_OFFSET = 0.1  # patches by which the authors' code enlarges the target grid when interpolating positions


class PreparedDinoV2(PreparedVit):
    """The normalised class token of DINOv2."""

    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)

    @classmethod
    def load(cls, path: Path, *, sha256: str, url: str, device: torch.device) -> Self:
        """Load the authors' file.

        Raises:
            EvaluationError: if it does not hold such a network.
        """
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            return cls(state, sha256=sha256, device=device)
        except (
            LookupError,
            RuntimeError,
            TypeError,
            AttributeError,
            ValueError,
            EOFError,
            pickle.PickleError,
        ) as error:
            raise EvaluationError(
                f"{path} (SHA-256 {sha256}) is cut short, or is not a DINOv2 without registers ({error}). "
                f"Fetch it again: {url}"
            ) from error

    def __init__(self, weights: dict[str, Tensor], *, sha256: str, device: torch.device) -> None:
        if "register_tokens" in weights:
            raise KeyError("register_tokens")
        dimension = weights["cls_token"].shape[-1]
        super().__init__(weights, dimension=dimension, sha256=sha256, device=device)
        state = self._weights
        depth = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
        self._num_heads = dimension // _HEAD_WIDTH
        self._positions = _positions(state["pos_embed"][0], SIZE // state["patch_embed.proj.weight"].shape[-1])
        self._blocks = []
        for number in range(depth):
            layer = f"blocks.{number}"
            self._blocks.append(
                Block(
                    norm1=pair(state, f"{layer}.norm1"),
                    qkv=pair(state, f"{layer}.attn.qkv"),
                    proj=pair(state, f"{layer}.attn.proj"),
                    norm2=pair(state, f"{layer}.norm2"),
                    fc1=pair(state, f"{layer}.mlp.fc1"),
                    fc2=pair(state, f"{layer}.mlp.fc2"),
                    scale1=state[f"{layer}.ls1.gamma"],
                    scale2=state[f"{layer}.ls2.gamma"],
                )
            )

    def notes(self) -> Sequence[str]:
        """Say of a network that is not ViT-L/14 that published figures are of another."""
        if self.dimension == _PUBLISHED:
            return ()
        return (
            f"these DINOv2 features have {self.dimension} dimensions; the published FD_DINOv2 (arXiv 2306.04675) is of "
            "ViT-L/14, with 1,024 (`features=dinov2:network=vitl14`), and its figures do not compare with these",
        )

    def forward(self, x: Tensor) -> Tensor:
        """Compute features [N, dimension] for normalised x [N, 3, 224, 224]."""
        state = self._weights
        weight, bias = pair(state, "patch_embed.proj")
        x = embed(x, weight, bias, token=state["cls_token"][0, 0], positions=self._positions)
        for block in self._blocks:
            x = run_block(x, block, num_heads=self._num_heads, eps=_EPS, quick_gelu=False)
        return F.layer_norm(x[:, 0], (self.dimension,), *pair(state, "norm"), _EPS)


def _positions(learned: Tensor, side: int) -> Tensor:
    """Interpolate positions [1 + S², D] to another grid [1 + side², D], bicubically as in the authors' code."""
    trained = round((len(learned) - 1) ** 0.5)
    if trained == side:
        return learned
    grid = learned[1:].T.reshape(1, -1, trained, trained)
    factor = (side + _OFFSET) / trained
    resized = F.interpolate(grid, scale_factor=(factor, factor), mode="bicubic")
    return torch.cat([learned[:1], resized[0].flatten(1).T])
