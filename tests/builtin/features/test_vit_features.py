"""CLIP and DINOv2, their weights stood in for by random ones, against torch's and torchvision's own layers."""

import dataclasses
import hashlib

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.models.vision_transformer import VisionTransformer

from debiasctl.api import Features
from debiasctl.builtin.features import clip
from debiasctl.builtin.features._support import dinov2_network
from debiasctl.builtin.features.clip import Clip
from debiasctl.builtin.features.dinov2 import DinoV2
from debiasctl.errors import EvaluationError

CPU = torch.device("cpu")
WIDTH, DEPTH, HEADS = 128, 2, 2


def resized(images, mean, std):
    rows = [
        np.asarray(Image.fromarray(image).resize((224, 224), Image.Resampling.BICUBIC))
        for image in images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous().numpy()
    ]
    x = torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2).double() / 255
    return ((x - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)).float()


def random(shape, generator, std=0.05):
    return torch.randn(shape, generator=generator) * std


@pytest.fixture(scope="module")
def dino_state():
    """A DINOv2 of 2 blocks, with the authors' names, whose positions are of a 16x16 grid: nothing to interpolate."""
    g = torch.Generator().manual_seed(0)
    state = {
        "cls_token": random((1, 1, WIDTH), g),
        "pos_embed": random((1, 257, WIDTH), g),
        "mask_token": random((1, WIDTH), g),
        "patch_embed.proj.weight": random((WIDTH, 3, 14, 14), g),
        "patch_embed.proj.bias": random((WIDTH,), g),
        "norm.weight": 1 + random((WIDTH,), g),
        "norm.bias": random((WIDTH,), g),
    }
    for block in range(DEPTH):
        for name, shape in (
            ("norm1", (WIDTH,)), ("attn.qkv", (3 * WIDTH, WIDTH)), ("attn.proj", (WIDTH, WIDTH)),
            ("norm2", (WIDTH,)), ("mlp.fc1", (4 * WIDTH, WIDTH)), ("mlp.fc2", (WIDTH, 4 * WIDTH)),
        ):  # fmt: skip
            state[f"blocks.{block}.{name}.weight"] = random(shape, g) + (1 if len(shape) == 1 else 0)
            state[f"blocks.{block}.{name}.bias"] = random(shape[:1], g)
        for name in ("ls1", "ls2"):
            state[f"blocks.{block}.{name}.gamma"] = 1 + random((WIDTH,), g, std=0.5)
    return state


def torchvisions(state):
    """The same network by torchvision; it knows no LayerScale, which goes into the layer before it."""
    network = VisionTransformer(224, 14, DEPTH, HEADS, WIDTH, 4 * WIDTH)
    network.heads = nn.Identity()
    own = {
        "class_token": state["cls_token"],
        "conv_proj.weight": state["patch_embed.proj.weight"],
        "conv_proj.bias": state["patch_embed.proj.bias"],
        "encoder.pos_embedding": state["pos_embed"],
        "encoder.ln.weight": state["norm.weight"],
        "encoder.ln.bias": state["norm.bias"],
    }
    for block in range(DEPTH):
        old, new = f"blocks.{block}", f"encoder.layers.encoder_layer_{block}"
        for part in ("weight", "bias"):
            scale1, scale2 = (state[f"{old}.{name}.gamma"] for name in ("ls1", "ls2"))
            if part == "weight":
                scale1, scale2 = scale1[:, None], scale2[:, None]
            own[f"{new}.ln_1.{part}"] = state[f"{old}.norm1.{part}"]
            own[f"{new}.ln_2.{part}"] = state[f"{old}.norm2.{part}"]
            own[f"{new}.self_attention.in_proj_{part}"] = state[f"{old}.attn.qkv.{part}"]
            own[f"{new}.self_attention.out_proj.{part}"] = state[f"{old}.attn.proj.{part}"] * scale1
            own[f"{new}.mlp.0.{part}"] = state[f"{old}.mlp.fc1.{part}"]
            own[f"{new}.mlp.3.{part}"] = state[f"{old}.mlp.fc2.{part}"] * scale2
    network.load_state_dict(own)
    return network.eval()


def dino(data, path, cache):
    return DinoV2(DinoV2.Options(weights=path)).prepare(data, cache_dir=cache, device=CPU)


def test_dinov2_is_torchvisions_transformer(dino_state, digits, photos, tmp_path):
    assert isinstance(DinoV2(DinoV2.Options()), Features)
    path = tmp_path / "weights.pth"
    torch.save(dino_state, path)
    features = dino(photos, path, tmp_path)
    assert features.dimension == WIDTH
    assert features.details["weights_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    for data in (digits, photos):
        images = data.heldout.array[:3]
        with torch.no_grad():
            expected = torchvisions(dino_state)(resized(images, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        found = features(images)
        assert found.dtype == torch.float64
        torch.testing.assert_close(found.float(), expected, rtol=1e-3, atol=1e-4)
    parts = torch.cat([features(images[:1]), features(images[1:])])
    torch.testing.assert_close(parts, found, rtol=0, atol=1e-5)


def test_dinov2s_positions_are_interpolated_from_its_own_grid(dino_state, photos, tmp_path):
    """From 37x37 to 16x16, at a scale of 16.1/37: a field that is linear in place stays so, nearly, inside."""
    side = torch.arange(37, dtype=torch.float32)
    field = (side[:, None] + 100 * side).flatten()
    grid = dinov2_network._positions(torch.cat([torch.tensor([7.0]), field])[:, None], 16)
    assert grid.shape == (257, 1)
    assert grid[0].item() == 7
    centre = (torch.arange(16) + 0.5) * 37 / 16.1 - 0.5
    expected = centre[:, None] + 100 * centre
    torch.testing.assert_close(
        grid[1:, 0].view(16, 16)[2:-2, 2:-2], expected[2:-2, 2:-2], rtol=0, atol=7
    )  # 19 without the 0.1
    path = tmp_path / "weights.pth"
    torch.save(dino_state | {"pos_embed": torch.zeros(1, 1370, WIDTH)}, path)
    assert dino(photos, path, tmp_path)(photos.heldout.array[:1]).isfinite().all()


@pytest.mark.parametrize("damage", ["cut", "registers", "other", "no state"])
def test_what_is_no_dinov2_is_named_by_its_checksum(dino_state, photos, tmp_path, damage):
    path = tmp_path / "weights.pth"
    other = {"registers": dino_state | {"register_tokens": torch.zeros(1, 4, WIDTH)}, "other": {"a": torch.zeros(2)}}
    torch.save(other.get(damage, [1] if damage == "no state" else dino_state), path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(EvaluationError, match=hashlib.sha256(path.read_bytes()).hexdigest()):
        dino(photos, path, tmp_path)


def test_dinov2_is_not_downloaded_for_nothing_could_verify_it(photos, tmp_path, monkeypatch):
    monkeypatch.setattr("urllib.request.urlopen", None)
    with pytest.raises(EvaluationError, match="no checksum is published for the weights of DINOv2") as caught:
        dino(photos, None, tmp_path)
    assert str(tmp_path / "features" / "dinov2" / "dinov2_vitb14_pretrain.pth") in str(caught.value)
    assert "cannot be downloaded" not in str(caught.value)


@pytest.mark.parametrize("network", ["vits14", "vitb14", "vitl14"])
def test_the_network_that_is_named_is_looked_for(photos, tmp_path, network):
    with pytest.raises(EvaluationError) as caught:
        DinoV2(DinoV2.Options(network=network)).prepare(photos, cache_dir=tmp_path, device=CPU)
    assert f"dinov2_{network}/dinov2_{network}_pretrain.pth" in str(caught.value)
    assert f"DINOv2 ViT-{network[3].upper()}/14" in str(caught.value)


def test_another_network_than_the_one_named_is_refused(dino_state, photos, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(dino_state, path)
    options = DinoV2.Options(network="vitl14", weights=path)
    with pytest.raises(EvaluationError, match=f"features of {WIDTH} dimensions .* and network=vitl14 has 1024"):
        DinoV2(options).prepare(photos, cache_dir=tmp_path, device=CPU)


def test_features_of_another_network_say_which_is_published(dino_state, photos, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(dino_state, path)
    (note,) = dino(photos, path, tmp_path).notes()
    assert "the published FD_DINOv2 (arXiv 2306.04675) is of ViT-L/14" in note
    large = {"norm.weight": torch.ones(1024), "norm.bias": torch.zeros(1024)}
    large |= {"cls_token": torch.zeros(1, 1, 1024), "pos_embed": torch.zeros(1, 257, 1024)}
    large |= {"patch_embed.proj.weight": torch.zeros(1024, 3, 14, 14), "patch_embed.proj.bias": torch.zeros(1024)}
    torch.save(large, path)
    options = DinoV2.Options(network="vitl14", weights=path)
    assert DinoV2(options).prepare(photos, cache_dir=tmp_path, device=CPU).notes() == ()


class QuickGELU(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = nn.MultiheadAttention(WIDTH, HEADS)
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(WIDTH, 4 * WIDTH))
        self.mlp.add_module("gelu", QuickGELU())
        self.mlp.add_module("c_proj", nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x):  # [T, N, D]
        normal = self.ln_1(x)
        x = x + self.attn(normal, normal, normal, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class Visual(nn.Module):
    """CLIP's image encoder with OpenAI's names."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTH, 32, 32, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(WIDTH))
        self.positional_embedding = nn.Parameter(torch.empty(50, WIDTH))
        self.ln_pre, self.ln_post = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.Sequential(*(Block() for _ in range(DEPTH)))
        self.proj = nn.Parameter(torch.empty(WIDTH, 24))

    def forward(self, x):
        patches = self.conv1(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), patches], dim=1) + self.positional_embedding
        x = self.transformer.resblocks(self.ln_pre(x).transpose(0, 1))
        return self.ln_post(x[0]) @ self.proj


class WholeClip(nn.Module):
    def __init__(self):
        super().__init__()
        self.visual = Visual()
        self.logit_scale = nn.Parameter(torch.zeros(()))
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.1, generator=generator)
        self.eval()

    def forward(self, x):
        return self.visual(x)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_clip_is_torchs_multihead_attention(digits, photos, tmp_path, monkeypatch):
    assert isinstance(Clip(Clip.Options()), Features)
    whole, path = WholeClip(), tmp_path / "ViT-B-32.pt"
    torch.jit.trace(whole, torch.zeros(1, 3, 224, 224)).save(str(path))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(EvaluationError, match=sha256):
        Clip(Clip.Options(weights=path)).prepare(photos, cache_dir=tmp_path, device=CPU)
    monkeypatch.setattr(clip, "WEIGHTS", dataclasses.replace(clip.WEIGHTS, sha256=sha256))
    features = Clip(Clip.Options(weights=path)).prepare(photos, cache_dir=tmp_path, device=CPU)
    assert features.dimension == 24
    for data in (digits, photos):
        images = data.heldout.array[:3]
        x = resized(images, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
        with torch.no_grad():
            expected = whole(x)
        torch.testing.assert_close(features(images).float(), expected, rtol=1e-3, atol=1e-4)


def test_clips_address_holds_its_checksum():
    assert f"/{clip.WEIGHTS.sha256}/" in clip.WEIGHTS.url


@pytest.mark.parametrize("features", [Clip, DinoV2])
def test_images_of_four_channels(features, digits, tmp_path):
    data = dataclasses.replace(digits, info=dataclasses.replace(digits.info, channels=4))
    with pytest.raises(EvaluationError, match="accepts grey or RGB images; these have 4 channels"):
        features(features.Options()).prepare(data, cache_dir=tmp_path, device=torch.device("cpu"))
