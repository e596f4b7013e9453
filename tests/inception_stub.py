"""A network in the shape of the Inception-v3 that is downloaded, which takes its place in tests."""

import dataclasses
import hashlib
from pathlib import Path

import pytest
import torch
from torch import nn

from debiasctl.builtin.features import inception


class Mixed(nn.Module):
    """As the layer that the real network has under this name: several branches, of which one is `conv`."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 9, 1)
        self.tower = nn.Conv2d(3, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.conv(x), self.tower(x)], 1)


class Stub(nn.Module):
    """In the shape of the real file: `layers` takes normalised 299x299 images and gives 2048 features; the whole
    resizes as TensorFlow 1 did, and gives features or probabilities."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential()
        self.layers.add_module("pool0", nn.AdaptiveAvgPool2d(17))
        self.layers.add_module("mixed_6", Mixed())
        self.layers.add_module("pool1", nn.AdaptiveAvgPool2d(4))
        self.layers.add_module("flat", nn.Flatten())
        self.layers.add_module("linear", nn.Linear(176, 2048))
        self.output = nn.Linear(2048, 1008)
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.1, generator=generator)

    def forward(
        self, x: torch.Tensor, return_features: bool = False, use_fp16: bool = False, no_output_bias: bool = False
    ) -> torch.Tensor:
        height, width = x.shape[2], x.shape[3]
        down, across = torch.arange(299) * (height / 299), torch.arange(299) * (width / 299)
        top, left = down.long(), across.long()
        below, right = (top + 1).clamp(max=height - 1), (left + 1).clamp(max=width - 1)
        row, column = (down - top)[:, None], across - left
        rows = x[:, :, top] * (1 - row) + x[:, :, below] * row
        x = rows[:, :, :, left] * (1 - column) + rows[:, :, :, right] * column
        features = self.layers((x - 128) / 128)
        if return_features:
            return features
        if no_output_bias:
            return nn.functional.linear(features, self.output.weight).softmax(1)
        return self.output(features).softmax(1)


def trust(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """A file takes the place of the one that is downloaded and expected."""
    changed = dataclasses.replace(
        inception.WEIGHTS, url=path.as_uri(), sha256=hashlib.sha256(path.read_bytes()).hexdigest()
    )
    monkeypatch.setattr(inception, "WEIGHTS", changed)
