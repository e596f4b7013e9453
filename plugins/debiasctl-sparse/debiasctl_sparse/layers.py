"""Which weights of a network may be sparse, and what each costs in a forward pass."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from debiasctl.api import ImageShape, UsageError

_SHOWN = 8  # names in a message
_MAPS = (functional.linear, functional.conv1d, functional.conv2d, functional.conv3d)


@dataclass(frozen=True)
class Layer:
    """A weight matrix or kernel: its parameter's name, the parameter, and its multiplications for one image."""

    name: str
    weight: nn.Parameter
    multiplications: int


@dataclass(frozen=True)
class Layers:
    """The layers of a network: `sparse` ones may be masked, `dense` ones are counted and left as they are."""

    sparse: Sequence[Layer]
    dense: Sequence[Layer]


def find_layers(
    network: nn.Module, shape: ImageShape, num_classes: int, *, exclude: Sequence[str], dense_ends: bool
) -> Layers:
    """Find the weights of convolutions, linear layers and attention's projections, and of other classes like them.

    Norms, embeddings, biases and position embeddings are none of them. With `dense_ends`, the layer that reads the
    image and the one that writes the output stay dense, and so does every layer that a pattern in `exclude` matches.

    Raises:
        UsageError: if a pattern matches no layer, or no layer is left.
    """
    weights = _weights(network)
    if not weights:
        raise UsageError("sparse: this network has no convolution or linear layer whose weights could be sparse")
    calls = _calls(network, weights, shape, num_classes)
    kept = _ends(calls) if dense_ends else set()
    for pattern in exclude:
        matched = {name for name in weights if _matches(name, pattern)}
        if not matched:
            shown = ", ".join(list(weights)[:_SHOWN]) + (", …" if len(weights) > _SHOWN else "")
            raise UsageError(
                f"sparse: `exclude`: no layer is called {pattern!r:.80}. Layers: {shown}. A pattern such as "
                "[time_embed.*] takes several"
            )
        kept |= matched
    multiplications = dict.fromkeys(weights, 0)
    for call in calls:
        multiplications[call.name] += weights[call.name].numel() * call.positions
    layers = [Layer(name, weight, multiplications[name]) for name, weight in weights.items()]
    found = Layers([one for one in layers if one.name not in kept], [one for one in layers if one.name in kept])
    if not found.sparse:
        raise UsageError("sparse: `exclude` and `dense_ends` leave no layer to be sparse. Exclude fewer")
    return found


def _matches(name: str, pattern: str) -> bool:
    """Whether a pattern is of a weight's name, or of its module's."""
    return fnmatchcase(name, pattern) or fnmatchcase(name.rpartition(".")[0], pattern)


def _weights(network: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that may be sparse, by name, each once."""
    found: dict[str, nn.Parameter] = {}
    seen: set[int] = set()
    for path, module in network.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in seen and parameter.requires_grad and _is_weight(module, name, parameter):
                seen.add(id(parameter))
                found[f"{path}.{name}" if path else name] = parameter
    return found


def _is_weight(module: nn.Module, name: str, parameter: Tensor) -> bool:
    kind = type(module).__name__.lower()
    if isinstance(module, nn.Embedding | nn.EmbeddingBag) or "norm" in kind or "embedding" in kind:
        return False
    return parameter.ndim >= 2 and (name == "weight" or name.endswith("_weight"))


# ---------------------------------------------------------------- one forward pass


@dataclass(frozen=True)
class _Call:
    """One use of a weight: at how many positions it is applied to one image, and whether these are of the image.

    `by_module` says that its module was called, and not that its weight was taken and used.
    """

    name: str
    positions: int
    of_image: bool
    by_module: bool


def _calls(network: nn.Module, weights: Mapping[str, nn.Parameter], shape: ImageShape, num_classes: int) -> list[_Call]:
    """The uses of the weights in a forward pass of one image, in order."""
    try:
        return _called(_without_memory(network), list(weights), shape, num_classes)
    except Exception:  # noqa: BLE001 - a network may need real numbers, and then raises its own error below, if any
        modes = [(module, module.training) for module in network.modules()]
        network.eval()  # so that no running statistics change
        try:
            return _called(network, list(weights), shape, num_classes)
        finally:
            for module, mode in modes:
                module.training = mode


def _without_memory(network: nn.Module) -> nn.Module:
    """A copy on torch's meta device, for which nothing is allocated."""
    memo: dict[int, Any] = {}
    for parameter in network.parameters():
        memo[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
    for buffer in network.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copy.deepcopy(network, memo)


class _Products(TorchFunctionMode):
    """Notes linear maps and convolutions by weights that are taken from a module which is not called itself."""

    def __init__(self, weights: Mapping[int, str], calls: list[_Call]) -> None:
        super().__init__()
        self.weights, self.calls = weights, calls

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the function, and note the weight if it is one of the network's, or a view of it."""
        output = func(*args, **(kwargs or {}))
        if func in _MAPS and len(args) > 1 and isinstance(args[1], Tensor):
            weight = args[1] if args[1]._base is None else args[1]._base
            name = self.weights.get(id(weight))
            if name is not None:
                self.calls.append(_Call(name, output.numel() // args[1].shape[0], output.ndim > 2, by_module=False))
        return output


def _called(network: nn.Module, names: Sequence[str], shape: ImageShape, num_classes: int) -> list[_Call]:
    calls: list[_Call] = []
    weights = {id(one): name for name, one in network.named_parameters() if name in names}
    own = {path: [name for name in names if name.rpartition(".")[0] == path] for path, _ in network.named_modules()}
    handles = []
    for path, module in network.named_modules():
        used = list(own[path])
        if isinstance(module, nn.MultiheadAttention):  # it applies its output projection without calling it
            used += [name for name in names if name == f"{path}.out_proj.weight".lstrip(".")]

        def note(module: nn.Module, args: tuple[Any, ...], output: Any, used: Sequence[str] = used) -> None:
            positions, of_image = _positions(module, args, output)
            calls.extend(_Call(name, positions, of_image, by_module=True) for name in used)

        if used:
            handles.append(module.register_forward_hook(note))
    parameter = next(network.parameters())
    size = shape.image_size
    x = torch.zeros(1, shape.in_channels, size, size, dtype=parameter.dtype, device=parameter.device)
    noise_level = torch.zeros(1, dtype=parameter.dtype, device=parameter.device)
    labels = torch.zeros(1, dtype=torch.int64, device=parameter.device) if num_classes else None
    try:
        with torch.no_grad(), _Products(weights, calls):
            network(x, noise_level, labels)
    finally:
        for handle in handles:
            handle.remove()
    counted = {call.name for call in calls if call.by_module}
    return [call for call in calls if call.by_module or call.name not in counted]


def _positions(module: nn.Module, args: tuple[Any, ...], output: Any) -> tuple[int, bool]:
    """At how many positions a module applies its weight to one image, and whether there is an axis of positions."""
    tensor: Tensor = output[0] if isinstance(output, tuple) else output
    if isinstance(module, nn.MultiheadAttention):
        return tensor.numel() // module.embed_dim, True
    if isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        return args[0].numel() // module.in_channels, True
    weight = next(one for name, one in module.named_parameters(recurse=False) if one.ndim >= 2)
    return tensor.numel() // weight.shape[0], tensor.ndim > 2


def _ends(calls: Sequence[_Call]) -> set[str]:
    """The weights that are first and last applied to the image; an embedding of the noise level may come before."""
    of_image = [call.name for call in calls if call.of_image] or [call.name for call in calls]
    return {of_image[0], of_image[-1]} if of_image else set()
