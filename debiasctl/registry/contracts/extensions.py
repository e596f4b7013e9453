"""What extensions return."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from debiasctl.boundary import ContractError
from debiasctl.registry.contracts.expected import Call, a_tensor, expect, is_number, short

if TYPE_CHECKING:
    from torch import Tensor

_LONGEST = 200  # characters of a name or a text


def summary(call: Call, plugin: Any) -> dict[str, int | float | str]:
    """Finite numbers and short texts, by short names."""
    found = expect(call(), Mapping, "a mapping of numbers and texts")
    for name, value in found.items():
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST:
            raise ContractError(f"returned the name {name!r:.80}, which must be text of 1 to {_LONGEST} characters")
        fits = len(value) <= _LONGEST if isinstance(value, str) else is_number(value)
        if not fits:
            shown = f"{value!r:.80}" if isinstance(value, str | int | float) else short(value)
            raise ContractError(
                f"returned {name!r:.80} as {shown}, which must be a finite number, or text of at most {_LONGEST} "
                "characters"
            )
    # a NumPy number is a float, but not the type itself, which records hold
    return {name: value if isinstance(value, str) else _plain(value) for name, value in found.items()}


def _plain(value: int | float) -> int | float:
    return int(value) if isinstance(value, int) else float(value)


def reconstructed(call: Call, plugin: Any, name: str, average: "Tensor", newest: "Tensor") -> "Tensor":
    """Values of the parameter's shape and dtype."""
    dtype = str(average.dtype).removeprefix("torch.")
    asked = f"{dtype} {list(average.shape)}, the values of {name}"
    return a_tensor(call(name, average, newest), asked, shape=average.shape, dtype=dtype)
