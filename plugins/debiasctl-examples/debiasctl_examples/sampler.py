"""A sampler."""

from itertools import pairwise
from math import inf, sqrt

from debiasctl.api import Level, Sampler, UsageError

# what the newest estimate counts, and those before it, by how many there are
ADAMS_BASHFORTH = ((1,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


class PLMS(Sampler):
    """Pseudo linear multistep over the estimates of eps, of lower order at first (Liu et al., 2022, 2202.09778)."""

    def grid(self, process, num_steps):
        count = process.num_timesteps
        if num_steps > count:
            raise UsageError(f"plms: {num_steps} steps. Choose at most {count}, the schedule's timesteps")
        times = [round(count * (1 - k / num_steps)) - 1 for k in range(num_steps)]
        signals = process.alphas_cumprod[times].tolist()
        levels = [Level(t, sqrt(signal), sqrt(1 - signal)) for t, signal in zip(times, signals, strict=True)]
        return [*levels, Level(-inf, 1.0, 0.0)]  # the image itself

    def __call__(self, denoiser, x, *, num_steps, noise, labels=None, on_step=None):
        past = []
        for done, (now, after) in enumerate(pairwise(self.grid(denoiser, num_steps)), start=1):
            estimate = denoiser(x, now.t, labels)
            past = [estimate.eps, *past][:4]
            x = after.alpha * estimate.x0 + after.sigma * estimate.eps
            if len(past) > 1:
                eps = sum(share * one for share, one in zip(ADAMS_BASHFORTH[len(past) - 1], past, strict=True))
                x = x + (after.sigma - after.alpha * now.sigma / now.alpha) * (eps - estimate.eps)
            if on_step:
                on_step(done, x, estimate.x0)
        return x
