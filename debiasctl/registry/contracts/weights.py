"""What weightings, schedules and distributions of t return."""

from typing import TYPE_CHECKING, Any, get_args

from debiasctl.api import (
    Space,
    TimestepContext,
    Weighting,
)
from debiasctl.boundary import ContractError
from debiasctl.registry.contracts.expected import Call, a_tensor, expect

if TYPE_CHECKING:
    from torch import Tensor


def space(call: Call, plugin: Any) -> str:
    """A space."""
    space = call()
    if space not in get_args(Space):
        raise ContractError(f"is {space!r:.40}. Allowed: {', '.join(get_args(Space))}")
    return str(space)


def weights(call: Call, plugin: Any, snr: Any) -> Any:
    """Real weights, one for each SNR, and the SNRs left as they are."""
    import torch

    from debiasctl.diffusion.weighting import weight_fault

    if not isinstance(snr, torch.Tensor):
        return call(snr)
    given = snr.clone()
    weight = torch.as_tensor(call(given), device=snr.device)
    if not given.equal(snr):
        raise ContractError("changes the snr that it is given in place. Work on a copy, snr.clone()")
    if weight.is_complex():
        raise ContractError("returned complex weights, whose imaginary part has no meaning")
    weight = weight.to(torch.float64)
    fault = weight_fault(weight, snr)
    if fault is not None:
        raise ContractError(fault)
    return weight


def at(call: Call, plugin: Any, *args: Any, **kwargs: Any) -> Weighting:
    """A weighting."""
    settled: Weighting = expect(call(*args, **kwargs), Weighting, "a Weighting")
    return settled


def alphas_cumprod(call: Call, plugin: Any) -> "Tensor":
    """A falling table for every timestep."""
    import torch

    size = plugin.options.num_timesteps
    table = a_tensor(call(), f"a table for num_timesteps={size}, float64 [{size}]", shape=(size,))
    before = torch.cat([table.new_ones(1), table[:-1]])
    if not bool(((table < before) & (table >= 0)).all()):  # NaN compares false
        raise ContractError("must fall strictly from below 1 to 0 or above; check the schedule's options")
    return table


def log_snr(call: Call, plugin: Any, u: "Tensor") -> "Tensor":
    """A log-SNR for each u, where it may be infinite."""
    found = a_tensor(call(u.clone()), f"log SNR for each u, float64 {list(u.shape)}", shape=u.shape)
    if bool(found.isnan().any()):
        raise ContractError("returned NaN for a u in [0, 1]")
    return found


def probabilities(call: Call, plugin: Any, context: TimestepContext) -> "Tensor":
    """A probability for each t; the tables of the context are copies."""
    shape = context.snr.shape
    edges = None if context.edges is None else context.edges.clone()
    copied = TimestepContext(context.snr.clone(), context.slope.clone(), context.weight.clone(), edges)
    found = a_tensor(call(copied), f"a probability for each t, float64 {list(shape)}", shape=shape, dtype="float")
    if not bool((found >= 0).all()):
        raise ContractError("returned a probability that is NaN or negative")
    return found.double()


def spread(call: Call, plugin: Any, draws: "Tensor", *args: Any, **kwargs: Any) -> "Tensor":
    """Uniform numbers in [0, 1), as many as were given."""
    shape = draws.shape
    found = a_tensor(call(draws, *args, **kwargs), f"uniform numbers, float64 {list(shape)}", shape=shape)
    if not bool(((found >= 0) & (found < 1)).all()):  # NaN compares false
        raise ContractError("returned numbers outside [0, 1), where it spreads uniform numbers")
    return found
