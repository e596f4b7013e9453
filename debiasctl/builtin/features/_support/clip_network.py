"""CLIP's image encoder."""

import pickle
import warnings
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from debiasctl.api import EvaluationError
from debiasctl.builtin.features._support.pretrained_vit import PreparedVit
from debiasctl.builtin.features._support.vit import Block, embed, pair, run_block

_EPS = 1e-5


class PreparedClip(PreparedVit):
    """The projected class token of CLIP's image encoder."""

    mean = (0.48145466, 0.4578275, 0.40821073)
    std = (0.26862954, 0.26130258, 0.27577711)

    @classmethod
    def load(cls, path: Path, *, sha256: str, device: torch.device) -> Self:
        """Load OpenAI's file.

        Raises:
            EvaluationError: if torch cannot load it.
        """
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
            return cls(state, sha256=sha256, device=device)
        except (RuntimeError, KeyError, pickle.UnpicklingError) as error:
            raise EvaluationError(f"{path} cannot be loaded by this version of torch ({error})") from error

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
        """Compute features [N, dimension] for normalised x [N, 3, 224, 224]."""
        state = self._weights
        width = len(state["class_embedding"])
        token, positions = state["class_embedding"], state["positional_embedding"]
        x = embed(x, state["conv1.weight"], None, token=token, positions=positions)
        x = F.layer_norm(x, (width,), *pair(state, "ln_pre"), _EPS)
        for block in self._blocks:
            x = run_block(x, block, num_heads=self._num_heads, eps=_EPS, quick_gelu=True)
        return F.layer_norm(x[:, 0], (width,), *pair(state, "ln_post"), _EPS) @ state["proj"]
