"""Sparse training, by itself and within debiasctl."""

import copy
import math
from typing import Any

import pytest
import torch
from debiasctl_sparse.distribution import active_counts
from debiasctl_sparse.extension import Sparse
from debiasctl_sparse.layers import find_layers
from pydantic import ValidationError
from torch import Tensor, nn

from debiasctl.api import ImageShape, StepContext, UsageError
from debiasctl.testing import check_extension, tiny_training

SHAPE = ImageShape(image_size=8, in_channels=1, out_channels=1)
UNET = "unet:channels=8,channel_mult=[1,2],num_res_blocks=1,attention_resolutions=[4],num_head_channels=8,norm_groups=4"
DIT = "dit:patch_size=2,hidden_size=16,depth=1,num_heads=2"


class Small(nn.Module):
    """An embedding of the noise level, and convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Linear(1, 6)
        self.first = nn.Conv2d(1, 6, 3, padding=1)
        self.norm = nn.GroupNorm(2, 6)
        self.middle = nn.Conv2d(6, 10, 3, padding=1)
        self.grouped = nn.Conv2d(10, 6, 1, groups=2)
        self.last = nn.Conv2d(6, 1, 3, padding=1)

    def forward(self, x: Tensor, noise_level: Tensor, labels: Tensor | None = None) -> Tensor:
        """The output, [N, 1, H, W]."""
        h = self.norm(self.first(x) + self.level(noise_level[:, None])[:, :, None, None])
        return self.last(self.grouped(self.middle(h.relu()).relu()).relu())


class Trained:
    """A network that is trained with the extension step by step, as debiasctl calls it."""

    def __init__(self, num_steps: int = 40, **options: Any) -> None:
        torch.manual_seed(0)
        self.network = Small()
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-2, weight_decay=0.1)
        self.extension = Sparse(Sparse.Options(**options))
        self.num_steps, self.gradients, self.weights = num_steps, {}, {}
        self.extension.on_init(self.context(0))
        self.average.load_state_dict(self.network.state_dict())
        self.extension.on_start(self.context(0))

    def context(self, step: int) -> StepContext:
        """The arguments of a step."""
        return StepContext(
            step, self.network, self.optimizer, batch_size=4, num_steps=self.num_steps, seed=5,
            averages=(self.average,), shape=SHAPE,
        )  # fmt: skip

    def step(self, step: int) -> None:
        """One step; the gradients of all weights, and the weights that the optimizer leaves, are kept."""
        x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(step))
        self.optimizer.zero_grad()
        (self.network(x, torch.linspace(0, 1, 4)) - x.roll(1, 2)).square().mean().backward()
        self.gradients = {name: one.grad.clone() for name, one in self.network.named_parameters()}
        self.extension.before_clipping(self.context(step))
        self.extension.after_backward(self.context(step))
        self.optimizer.step()
        self.weights = {name: one.detach().clone() for name, one in self.network.named_parameters()}
        self.extension.after_step(self.context(step))
        for average, weight in zip(self.average.parameters(), self.network.parameters(), strict=True):
            average.lerp_(weight.detach(), 0.1)

    def masks(self) -> dict[str, Tensor]:
        """The masks in a checkpoint, copied."""
        return {name: mask.clone() for name, mask in self.extension.state_dict()["masks"].items()}


def test_the_checks_of_every_extension_hold() -> None:
    check_extension(Sparse, {"end_fraction": 1})


@pytest.mark.parametrize(
    ("backbone", "method", "ema"),
    [
        (UNET, "rigl", {"kind": "power", "lengths": [0.05, 0.1]}),
        (UNET, "static", {}),
        (DIT, "rigl", {}),
        (DIT, "magran", {"kind": "power", "lengths": [0.05, 0.1]}),
    ],
)
def test_sparsity_is_exact_at_every_step_and_in_checkpoints(backbone: str, method: str, ema: dict) -> None:
    seen: list[dict[str, int]] = []

    def look(done: int, network: nn.Module, extensions: Any) -> None:
        masks = extensions[0].state_dict()["masks"]
        weights = dict(network.named_parameters())
        for name, mask in masks.items():
            assert not weights[name].detach()[~mask].any()
        seen.append({name: int(mask.sum()) for name, mask in masks.items()})

    every = "" if method == "static" else ",update_every=1"
    settings = {
        "model": {"backbone": backbone}, "ema": ema, "extensions": [f"sparse:method={method},sparsity=0.6{every}"],
    }  # fmt: skip
    trained = tiny_training(settings, on_step=look)
    assert len(seen) == 4
    assert all(counts == seen[0] for counts in seen)
    masks = trained.extensions[0].state_dict()["masks"]
    layers = find_layers(trained.network, SHAPE, 0, exclude=(), dense_ends=True).sparse
    sizes = {layer.name: layer.weight.numel() for layer in layers}
    zeros = sum(int((~mask).sum()) for mask in masks.values())
    assert zeros == sum(sizes.values()) - round(0.4 * sum(sizes.values()))
    stored = [name for name in trained.state if name.endswith(tuple(masks))]
    assert len(stored) >= len(masks)  # in the raw weights, in each average, and in the state
    for network in (trained.network, trained.averaged):
        for name, parameter in network.named_parameters():
            if name in masks:
                assert not parameter[~masks[name]].any()


def test_what_rigl_regrows_has_the_largest_gradients_of_all_that_is_inactive() -> None:
    """By a loop over places, which knows nothing of how the extension sorts."""
    trained = Trained(20, sparsity=0.6, update_every=2, update_fraction=0.4, dense_ends=False)
    updates = 0
    for step in range(trained.num_steps):
        before = trained.masks()
        trained.step(step)
        after = trained.masks()
        done = step + 1
        if done % 2 or done >= 15:
            assert all(torch.equal(before[name], after[name]) for name in before)
            continue
        updates += 1
        share = 0.4 / 2 * (1 + math.cos(math.pi * done / 15))
        for name, mask in before.items():
            weight, gradient = trained.weights[name].flatten().tolist(), trained.gradients[name].flatten().tolist()
            places = range(len(weight))
            active = {place for place in places if mask.flatten()[place]}
            count = math.floor(share * len(active))
            kept = active - set(sorted(active, key=lambda place: (abs(weight[place]), place))[:count])
            inactive = set(places) - kept
            grown = set(sorted(inactive, key=lambda place: (-abs(gradient[place]), place))[:count])
            assert {place for place in places if after[name].flatten()[place]} == kept | grown
            new = dict(trained.network.named_parameters())[name].detach().flatten()
            assert all(new[place] == 0 for place in grown - active)  # they start at zero
            assert all(new[place] == weight[place] for place in kept | (grown & active))
    assert updates == 7


@pytest.mark.parametrize("method", ["rigl", "magran"])
def test_masked_weights_have_no_moments_no_gradient_and_no_average(method: str) -> None:
    trained = Trained(method=method, sparsity=0.5, update_every=2, end_fraction=1)
    first = trained.masks()
    for step in range(12):
        trained.step(step)
        for name, mask in trained.masks().items():
            weight = dict(trained.network.named_parameters())[name]
            moments = [one for one in trained.optimizer.state[weight].values() if one.shape == weight.shape]
            assert len(moments) == 2
            average = dict(trained.average.named_parameters())[name]
            for tensor in (weight.detach(), average, *moments):
                assert not tensor[~mask].any()
    assert any(not torch.equal(mask, trained.masks()[name]) for name, mask in first.items())


def test_clipping_sees_the_gradient_of_active_weights_alone() -> None:
    trained = Trained(sparsity=0.5)
    trained.step(0)
    mask = trained.masks()["middle.weight"]
    gradient = trained.network.middle.weight.grad
    assert not gradient[~mask].any()
    assert torch.equal(gradient[mask], trained.gradients["middle.weight"][mask])
    assert trained.gradients["middle.weight"][~mask].any()


def test_a_gradient_that_is_not_finite_changes_no_mask() -> None:
    trained = Trained(sparsity=0.5, update_every=1)
    before = trained.masks()
    trained.network.middle.weight.grad = torch.full_like(trained.network.middle.weight, math.inf)
    trained.extension.before_clipping(trained.context(0))
    trained.extension.after_step(trained.context(0))
    assert all(torch.equal(mask, before[name]) for name, mask in trained.masks().items())


def test_no_sparsity_is_no_extension_bit_for_bit() -> None:
    plain, zero = tiny_training({}), tiny_training({"extensions": ["sparse:sparsity=0,update_every=1"]})
    for one, other in ((plain.network, zero.network), (plain.averaged, zero.averaged)):
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert plain.losses == zero.losses


def test_the_masks_depend_on_the_seed_alone() -> None:
    found = [Trained(method="magran", update_every=3, sparsity=0.5) for _ in range(2)]
    for step in range(9):
        for one in found:
            one.step(step)
    first, second = (one.masks() for one in found)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.25, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("distribution", ["erk", "uniform"])
def test_the_numbers_of_active_weights_add_up_exactly(sparsity: float, distribution: Any) -> None:
    shapes = [(6, 1, 3, 3), (10, 6, 3, 3), (6, 5, 1, 1), (64, 64), (1, 6, 3, 3)]
    sizes = [math.prod(shape) for shape in shapes]
    counts = active_counts(shapes, sparsity=sparsity, distribution=distribution)
    assert sum(counts) == round((1 - sparsity) * sum(sizes))
    assert all(1 <= count <= size for count, size in zip(counts, sizes, strict=True))
    if distribution == "uniform" and sparsity < 0.9:
        assert all(abs(count - (1 - sparsity) * size) < 1 for count, size in zip(counts, sizes, strict=True))
    sparse = [
        (count, size, sum(shape)) for count, size, shape in zip(counts, sizes, shapes, strict=True) if 20 < count < size
    ]
    if distribution == "erk" and len(sparse) > 1:  # counts are in proportion to the sums of the dimensions
        ratios = [count / dimensions for count, _, dimensions in sparse]
        assert max(ratios) / min(ratios) < 1.1


def test_layers_and_their_costs_are_those_of_the_network() -> None:
    network = Small()
    found = find_layers(network, SHAPE, 0, exclude=(), dense_ends=True)
    assert [layer.name for layer in found.sparse] == ["level.weight", "middle.weight", "grouped.weight"]
    assert [layer.name for layer in found.dense] == ["first.weight", "last.weight"]
    counted = {layer.name: layer.multiplications for layer in (*found.sparse, *found.dense)}
    assert counted == {
        "level.weight": 6, "middle.weight": 64 * 10 * 6 * 9, "grouped.weight": 64 * 6 * 5,
        "first.weight": 64 * 6 * 9, "last.weight": 64 * 6 * 9,
    }  # fmt: skip
    left = find_layers(network, SHAPE, 0, exclude=("level", "grouped.*"), dense_ends=False)
    assert [layer.name for layer in left.sparse] == ["first.weight", "middle.weight", "last.weight"]


def test_costs_agree_with_torch_on_the_unet() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    network = tiny_training({"model": {"backbone": UNET}}, steps=1).network.eval()
    found = find_layers(network, SHAPE, 0, exclude=(), dense_ends=True)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 1, 8, 8), torch.zeros(1))
    assert [layer.name for layer in found.dense] == ["input_blocks.0.0.weight", "out.2.weight"]
    counts = counter.get_flop_counts()["Global"]
    products = sum(count for kind, count in counts.items() if "bmm" in str(kind) or "attention" in str(kind))
    assert 2 * sum(layer.multiplications for layer in (*found.sparse, *found.dense)) == sum(counts.values()) - products


class Attending(nn.Module):
    """A network that torch's meta device cannot run, with torch's own attention."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Linear(1, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.out = nn.Linear(8, 1)

    def forward(self, x: Tensor, noise_level: Tensor, labels: Tensor | None = None) -> Tensor:
        """The output, [N, 1, H, W]."""
        assert float(noise_level.sum()) >= 0  # real numbers
        tokens = self.patch(x.flatten(2).transpose(1, 2))
        tokens = self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return self.out(tokens).transpose(1, 2).reshape(x.shape)


def test_attention_is_counted_on_a_network_that_needs_real_numbers() -> None:
    network = Attending().train()
    found = find_layers(network, SHAPE, 0, exclude=(), dense_ends=True)
    counted = {layer.name: layer.multiplications for layer in found.sparse}
    assert counted == {"attention.in_proj_weight": 64 * 24 * 8, "attention.out_proj.weight": 64 * 8 * 8}
    assert all(module.training for module in network.modules())
    assert not any(module._forward_hooks for module in network.modules())


def test_what_is_reported_is_what_the_masks_say() -> None:
    trained = Trained(num_steps=40, sparsity=0.5, update_every=4, distribution="uniform")
    figures = trained.extension.summary()
    masks = trained.masks()
    zeros = sum(int((~mask).sum()) for mask in masks.values())
    parameters = sum(one.numel() for one in trained.network.parameters())
    assert figures["sparsity"] == zeros / sum(mask.numel() for mask in masks.values())
    assert figures["active_parameters"] == parameters - zeros
    ends, middle = 2 * 2 * 64 * 54, 2 * 64 * 540
    small = 2 * (64 * 15 + 3)
    dense = ends + middle + 2 * (64 * 30 + 6)
    sparse = ends + middle // 2 + small
    assert figures["inference_flops"] == sparse
    assert figures["inference_flops_share"] == sparse / dense
    assert figures["mask_updates"] == 7  # after steps 4 to 28: before 30
    assert figures["training_flops"] == 4 * (33 * 3 * sparse + 7 * (2 * sparse + dense))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exclude": ("nothing",)}, r"`exclude`: no layer is called 'nothing'\. Layers: level\.weight, first\.weight"),
        ({"exclude": ("*",)}, "leave no layer to be sparse"),
        ({"update_every": 30}, "the mask would never change: the training has 40 steps"),
        ({"sparsity": 0.9999}, "fewer than one for each of 3 layers"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Trained(**options)


@pytest.mark.parametrize("option", [{"update_every": 2}, {"update_fraction": 0.2}, {"end_fraction": 1.0}])
def test_a_mask_that_never_changes_has_no_course(option: dict) -> None:
    with pytest.raises(ValidationError, match=rf"{next(iter(option))} has no effect with method=static"):
        Sparse.Options(method="static", **option)
    assert Sparse.Options(method="magran", **option)


def test_it_is_refused_a_second_time() -> None:
    trained = Trained()
    with pytest.raises(UsageError, match="given twice"):
        Sparse(Sparse.Options()).on_init(trained.context(0))


def test_a_network_without_layers_is_refused() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1, 1, 8, 8))

        def forward(self, x: Tensor, noise_level: Tensor, labels: Tensor | None = None) -> Tensor:
            return x * self.scale

    with pytest.raises(UsageError, match="no convolution or linear layer"):
        find_layers(Scale(), SHAPE, 0, exclude=(), dense_ends=True)


def test_an_average_of_several_masks_gets_the_newest_one() -> None:
    extension = Sparse(Sparse.Options())
    average, newest = torch.ones(2, 3), torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.0, 3.0]])
    assert torch.equal(extension.reconstructed("a.weight", average, newest), (newest != 0).float())
    assert torch.equal(extension.reconstructed("a.bias", torch.ones(3), torch.zeros(3)), torch.ones(3))


def test_a_sharded_network_is_refused() -> None:
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        network = fully_shard(Small(), mesh=init_device_mesh("cpu", (1,)))
        context = StepContext(0, network, torch.optim.AdamW(network.parameters()), num_steps=40, shape=SHAPE)
        with pytest.raises(UsageError, match=r"`compute\.sharding=fsdp` divides them"):
            Sparse(Sparse.Options()).on_init(context)
    finally:
        distributed.destroy_process_group()


def test_a_transposed_convolution_is_counted_by_its_input() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    class Up(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.up = nn.Conv2d(1, 6, 2, stride=2), nn.ConvTranspose2d(6, 1, 2, stride=2)

        def forward(self, x: Tensor, noise_level: Tensor, labels: Tensor | None = None) -> Tensor:
            return self.up(self.down(x))

    found = find_layers(Up(), SHAPE, 0, exclude=(), dense_ends=False)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        Up()(torch.zeros(1, 1, 8, 8), torch.zeros(1))
    assert 2 * sum(layer.multiplications for layer in found.sparse) == counter.get_total_flops()
