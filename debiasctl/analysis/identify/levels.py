"""The noise levels at which weights are asked for, and the stand-in for the scheduler that trainers hand around."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from debiasctl import registry
from debiasctl.diffusion.process import DiffusionProcess, process_of
from debiasctl.registry.refs import PluginRef

MOST = 1000  # levels that a function is asked at
DEFAULTS = {"sigma": "edm", "s": "flow"}  # schedules where levels of such a kind are used; linear for others
FLOW = "flow"  # the schedule whose timesteps are 1000 s, and whose scheduler has sigmas
DIFFUSERS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction", "flow": "flow_prediction"}


@dataclass(frozen=True)
class Levels:
    """Noise levels of a schedule: `t` int64 [n] of its timesteps, and their exact `snr` float64 [n].

    `table` is float64 [T], alphas_cumprod of all its timesteps; `earlier` the one before the rescaling to zero terminal
    SNR, or the same.
    """

    schedule: str
    t: Tensor
    table: Tensor
    earlier: Tensor
    is_flow: bool = False

    @property
    def snr(self) -> Tensor:
        """The SNR at each t."""
        table = self.table[self.t]
        return table / (1 - table)

    @property
    def held_snr(self) -> Tensor:
        """The SNR at each t that a scheduler's table implies, which is one of float32."""
        return snr_of(self.table)[self.t]

    @property
    def s(self) -> Tensor:
        """Rectified flow's share of noise at each t, float64 [n]."""
        return share_of_noise(self.snr)


def snr_of(table: Tensor) -> Tensor:
    """alphas_cumprod/(1 - alphas_cumprod), float64, of a table as float32 holds it."""
    held = table.to(torch.float32).to(torch.float64)
    return torch.where(held < 1, held, table) / (1 - torch.where(held < 1, held, table))


def share_of_noise(snr: Tensor) -> Tensor:
    """Rectified flow's s, for which √SNR = (1 - s)/s."""
    return 1 / (1 + snr.sqrt())


def levels_of(schedule: str) -> Levels:
    """At most MOST timesteps of the schedule that a reference names, evenly spaced, both ends included.

    Raises:
        UsageError: if there is no such schedule, or its options are not valid.
    """
    table = _process(schedule).alphas_cumprod
    before = without_rescaling(schedule)
    earlier = table if before is None else _process(before).alphas_cumprod
    t = torch.from_numpy(np.linspace(0, len(table) - 1, min(len(table), MOST)).round().astype(np.int64))
    return Levels(schedule, t, table, earlier, is_flow=registry.as_ref(schedule).name == FLOW)


def without_rescaling(schedule: str) -> str | None:
    """The reference without its zero terminal SNR; None if it asks for none."""
    ref = registry.as_ref(schedule)
    options = registry.resolve("schedules", ref).stored_options()
    if not options.get("zero_terminal_snr"):
        return None
    return str(PluginRef(ref.name, {key: value for key, value in ref.options.items() if key != "zero_terminal_snr"}))


def with_rescaling(schedule: str) -> str:
    """The reference with zero terminal SNR."""
    ref = registry.as_ref(schedule)
    return str(PluginRef(ref.name, {**ref.options, "zero_terminal_snr": True}))


def _process(schedule: str) -> DiffusionProcess:
    return process_of(registry.create("schedules", schedule))


class _Config(dict[str, Any]):
    """A scheduler's settings, by key and by attribute as diffusers has them; `asked` are the keys that were read."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(settings)
        self.__dict__["asked"] = set[str]()

    def __getitem__(self, name: str) -> Any:
        self.__dict__["asked"].add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """The setting, or the default if there is none of that name."""
        try:
            return self[name]
        except KeyError:
            return default

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the stand-in's config has no {name!r}: it has {', '.join(self)}") from None


class StandInScheduler:
    """What weight functions read of a diffusers scheduler: alphas_cumprod, betas, timesteps, config; or flow's sigmas.

    `all_snr` is the table that sd-scripts adds, which it builds before a rescaling to zero terminal SNR.
    """

    def __init__(self, levels: Levels, *, prediction: str | None) -> None:
        table = levels.table.to(torch.float32)
        self.config = _Config(
            num_train_timesteps=len(table), prediction_type=DIFFUSERS.get(prediction or "eps", "epsilon")
        )
        self.num_train_timesteps = len(table)
        if levels.is_flow:
            s = share_of_noise(levels.table / (1 - levels.table)).flip(0)
            # rounded as those that a function is given, since trainers look them up here
            self.sigmas, self.timesteps = s.to(torch.float32), (1000 * s).to(torch.float32)
            return
        previous = torch.cat([table.new_ones(1), table[:-1]])
        self.alphas_cumprod, self.alphas = table, table / previous
        self.betas = 1 - self.alphas
        self.final_alpha_cumprod = self.one = torch.tensor(1.0)
        self.all_snr = snr_of(levels.earlier).to(torch.float32)
        self.timesteps = torch.arange(len(table) - 1, -1, -1)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        known = ", ".join(sorted(one for one in vars(self) if not one.startswith("_")))
        other = {"sigmas": "; `schedule=flow` has it", "alphas_cumprod": "; `schedule=linear` has it"}.get(name, "")
        raise AttributeError(f"debiasctl's stand-in for a diffusers scheduler has no {name!r}: it has {known}{other}")

    def __len__(self) -> int:
        return int(self.num_train_timesteps)

    def state(self) -> Mapping[str, Tensor]:
        """Its tensors, to see whether a function changes them."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
