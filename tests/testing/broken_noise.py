"""Weightings, schedules and distributions of t that break one law each."""

import itertools

import torch
from broken import breaks
from torch import nn

from debiasctl.api import Learned, PluginOptions, Schedule, ScheduleOptions, TimestepDistribution, Weighting

COUNTS = itertools.count()


class Flat(Weighting):
    """One."""

    space = "eps"

    def __call__(self, snr):
        return torch.ones_like(snr)


@breaks("weightings", "Its weights are finite")
class Explodes(Flat):
    """Infinite where there is little noise."""

    def __call__(self, snr):
        return snr**20


@breaks("weightings", "Its weights are float64")
class Rounded(Flat):
    """In single precision."""

    def __call__(self, snr):
        return torch.ones_like(snr).float()


@breaks("weightings", "It leaves the SNRs")
class InPlace(Flat):
    """Works in the schedule's table."""

    def at(self, context):
        context.snr.clamp_(max=1)
        return self


@breaks("weightings", "Its weights are the same at every call")
class Restless(Flat):
    """Another weight at every call."""

    def __call__(self, snr):
        return torch.ones_like(snr) * (1 + next(COUNTS))


@breaks("weightings", "The weight of an SNR does not depend")
class Relative(Flat):
    """In shares of the largest SNR of the batch."""

    def __call__(self, snr):
        return snr / snr.max() if snr.numel() else snr


@breaks("weightings", "Some weight is above 0")
class Nothing(Flat):
    """Nothing counts."""

    def __call__(self, snr):
        return torch.zeros_like(snr)


class Scaled(Flat):
    """A constant."""

    def __init__(self, options, by=1.0):
        super().__init__(options)
        self.by = by

    def __call__(self, snr):
        return torch.full_like(snr, self.by)


@breaks("weightings", "A weighting that does not say that it varies")
class Secretive(Scaled):
    """Grows, and does not say so."""

    def at(self, context):
        return Scaled(self.options, 1 + context.progress)


class U(nn.Module):
    """u = a + b log SNR."""

    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(torch.randn(2))

    def forward(self, log_snr):
        return self.weights[0] + 0.01 * self.weights[1] * log_snr


class Learns(Flat):
    """Learned."""

    module = U

    def learned(self):
        return Learned(self.module(), 0.01)


class Deaf(U):
    def forward(self, log_snr):
        return super().forward(log_snr).detach()


class Dreaming(U):
    def __init__(self):
        super().__init__()
        nn.init.constant_(self.weights, next(COUNTS))


class Counting(U):
    calls = 0

    def forward(self, log_snr):
        self.calls += 1
        return super().forward(log_snr) * self.calls


@breaks("weightings", "A learned weighting's u")
class LearnsNothing(Learns):
    """No gradient."""

    module = Deaf


@breaks("weightings", "A learned weighting begins from")
class Unseeded(Learns):
    """Begins elsewhere every time."""

    module = Dreaming


@breaks("weightings", "A training with it that was killed")
class Forgets(Learns):
    """Has a state that no checkpoint holds."""

    module = Counting


class Even(Schedule):
    """Evenly falling."""

    class Options(ScheduleOptions):
        """Its options."""

        num_timesteps: int = 100

    def alphas_cumprod(self):
        return torch.linspace(0.99, 0.01, self.options.num_timesteps, dtype=torch.float64)


@breaks("schedules", "Its table is float64")
class Rising(Even):
    """Rising."""

    def alphas_cumprod(self):
        return super().alphas_cumprod().flip(0)


@breaks("schedules", "Its table is the same at every call")
class Drifting(Even):
    """Another table at every call."""

    def alphas_cumprod(self):
        return super().alphas_cumprod() / (1 + 1e-9 * next(COUNTS))


@breaks("schedules", "Changing the table that it returned")
class Shares(Even):
    """Gives its own table away."""

    def __init__(self, options):
        super().__init__(options)
        self.table = torch.linspace(0.99, 0.01, options.num_timesteps, dtype=torch.float64)

    def alphas_cumprod(self):
        return self.table


class Curve(Schedule):
    """A function of u."""

    def log_snr(self, u):
        return 10 - 20 * u


@breaks("schedules", "log SNR falls")
class Bumpy(Curve):
    """Rises between the timesteps of its table."""

    def log_snr(self, u):
        return 10 - 20 * u + 0.2 * torch.sin(2 * torch.pi * 1000 * (u - 0.0005))


@breaks("schedules", "Its function of u passes through")
class Elsewhere(Curve):
    """A table of another function."""

    def alphas_cumprod(self):
        return self.derived_table() * 0.9


@breaks("schedules", "It is a schedule with other numbers")
class Thousand(Curve):
    """Right for a thousand steps alone."""

    def alphas_cumprod(self):
        table = torch.linspace(0.99, 0.01, 1000, dtype=torch.float64)
        return table[: self.options.num_timesteps] if self.options.num_timesteps <= 1000 else table


@breaks("schedules", "Rescaled to zero terminal SNR")
class Stuck(Curve):
    """Rises between two timesteps."""

    def log_snr(self, u):
        return torch.where((u > 0.4998) & (u < 0.5002), 12.0, 10 - 20 * u)


@breaks("schedules", "Options that depend on the image size")
class Twice(Even):
    """Adds to its number of timesteps again and again."""

    @classmethod
    def resolve_options(cls, options, image_size):
        return options.model_copy(update={"num_timesteps": options.num_timesteps + 1})


class Uniform(TimestepDistribution):
    """Uniform."""

    def probabilities(self, context):
        return torch.ones_like(context.snr)


@breaks("timesteps", "Its probabilities are finite")
class Empty(Uniform):
    """No timestep at all."""

    def probabilities(self, context):
        return torch.zeros_like(context.snr)


@breaks("timesteps", "Its probabilities are float64")
class Single(Uniform):
    """In single precision."""

    def probabilities(self, context):
        return torch.ones_like(context.snr).float()


@breaks("timesteps", "It leaves the tables")
class Squeezes(Uniform):
    """Works in the table."""

    def probabilities(self, context):
        return context.snr.clamp_(max=1)


@breaks("timesteps", "Its probabilities are the same at every call")
class Moody(Uniform):
    """Other probabilities at every call."""

    def probabilities(self, context):
        return context.snr.clamp(max=1 + next(COUNTS))


@breaks("timesteps", "Importance sampling reaches")
class Blind(Uniform):
    """Never draws the first half."""

    corrected = True

    def probabilities(self, context):
        return (torch.arange(len(context.snr)) >= len(context.snr) / 2).double()


@breaks("timesteps", "The uniform numbers")
class Squares(Uniform):
    """Squares are not uniform."""

    def spread(self, draws, shared, positions, batch_size):
        return draws**2


@breaks("timesteps", "The number of an image")
class Sorted(Uniform):
    """Sorts the batch."""

    def spread(self, draws, shared, positions, batch_size):
        return draws.sort().values


class Observing(Uniform):
    """Remembers losses."""

    observes = True
    varies = True

    def __init__(self, options: PluginOptions) -> None:
        super().__init__(options)
        self.total = torch.ones(1000, dtype=torch.float64)

    def probabilities(self, context):
        return self.total[: len(context.snr)] if len(context.snr) <= 1000 else torch.ones_like(context.snr)

    def observe(self, t, losses):
        self.total[t] += losses

    def state_dict(self):
        return {"total": self.total.clone()}

    def load_state_dict(self, state):
        self.total = state["total"].clone()


@breaks("timesteps", "A distribution that does not say")
class Sly(Observing):
    """Varies, and does not say so."""

    varies = False


@breaks("timesteps", "Its state can be stored")
class Partly(Observing):
    """Restores one half."""

    def load_state_dict(self, state):
        self.total[:500] = state["total"][:500]


@breaks("timesteps", "A training with it that was killed")
class Forgetful(Observing):
    """Counts what it does not store."""

    calls = 0

    def observe(self, t, losses):
        self.calls += 1
        self.total[t] += losses * self.calls
