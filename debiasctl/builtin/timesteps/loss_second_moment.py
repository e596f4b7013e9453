"""Timesteps by the second moment of their losses."""

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor

from debiasctl.api import TimestepContext
from debiasctl.builtin.timesteps._tables import BaseOptions, DrawnUnderBase, normalised

_RARE = 0.01  # relative to 1/T


class LossSecondMoment(DrawnUnderBase):
    """t in proportion to base · √E[L²] over its last losses (Nichol and Dhariwal, 2021, arXiv 2102.09672, Sec. 3.3).

    The loss is corrected by base/q, so that its expectation remains the one under the base. A share of the base is
    always mixed in, and t is drawn from the base alone until every t has `history` losses. A t that the base draws less
    than a hundredth as often as uniform does is not waited for: until it has them, its E[L²] is the mean of the others.
    """

    class Options(BaseOptions):
        """The options of the second-moment sampler."""

        history: int = Field(10, ge=1, le=10_000, description="losses remembered for each t")
        base_share: float = Field(0.001, gt=0, le=1, description="share of draws that come from the base itself")

    options: Options
    observes = True
    varies = True

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._num_timesteps: int | None = None  # unknown until there is a schedule; the tables grow until then
        self._losses = torch.zeros(0, options.history, dtype=torch.float64)  # [T, history], a ring buffer for each t
        self._counts = torch.zeros(0, dtype=torch.int64)  # [T], the number of losses seen so far

    def probabilities(self, context: TimestepContext) -> Tensor:
        """Return q = (1 - base_share) base √E[L²] / sum + base_share base, float64 [T] with sum 1; at first the base.

        Raises:
            ValueError: if the losses so far belong to a schedule of another length.
        """
        base, share = self.base(context), self.options.base_share
        self._fit(len(base))
        known = self._counts >= self.options.history
        if not bool((known | (base * len(base) < _RARE)).all()):
            return base
        moments = self._losses.square().mean(dim=1)
        moments = torch.where(known, moments, (base * moments)[known].sum() / base[known].sum())
        density = base * moments.sqrt()
        if not bool(density.sum() > 0):
            return base
        return (1 - share) * normalised(density) + share * base

    def observe(self, t: Tensor, losses: Tensor) -> None:
        """Store the losses (float64 [N]) of t (int64 [N]) in order, keeping only the last `history` of each t.

        Raises:
            ValueError: if a t lies outside the schedule.
        """
        if not len(t):
            return
        t, losses = t.detach().cpu(), losses.detach().to("cpu", torch.float64)
        if self._num_timesteps is None:
            self._grow(int(t.max()) + 1)
        if bool((t < 0).any()) or bool((t >= len(self._counts)).any()):
            raise ValueError(f"losses were given for t outside 0 … {len(self._counts) - 1}")
        t, order = torch.sort(t, stable=True)
        seen = torch.bincount(t, minlength=len(self._counts))
        place = torch.arange(len(t)) - (seen.cumsum(0) - seen)[t]  # 0, 1, … among a batch's losses for one t
        last = place >= seen[t] - self.options.history  # earlier ones would be overwritten by these
        slot = (self._counts[t] + place) % self.options.history
        self._losses[t[last], slot[last]] = losses[order][last]
        self._counts += seen

    def state_dict(self) -> dict[str, Tensor]:
        """Return the stored losses, for a checkpoint."""
        num_timesteps = torch.tensor(self._num_timesteps or 0)
        return {"losses": self._losses.clone(), "counts": self._counts.clone(), "num_timesteps": num_timesteps}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the losses from a checkpoint.

        Raises:
            ValueError: if they have another `history` or belong to a schedule of another length.
        """
        history = state["losses"].shape[1]
        if history != self.options.history:
            raise ValueError(
                f"the checkpoint's loss history has {history} losses for each t, but history={self.options.history} "
                "is requested. Resume with the options that the training began with"
            )
        known, self._num_timesteps = self._num_timesteps, int(state["num_timesteps"]) or None
        self._losses, self._counts = state["losses"].cpu().clone(), state["counts"].cpu().clone()
        if known is not None:
            self._fit(known)

    def _fit(self, num_timesteps: int) -> None:
        """Set the schedule's length."""
        if self._num_timesteps is None and len(self._counts) <= num_timesteps:
            self._grow(num_timesteps)
        if len(self._counts) != num_timesteps:
            raise ValueError(
                f"the loss history is from a schedule with {len(self._counts)} timesteps, but this one has "
                f"{num_timesteps}. Resume with the schedule that the training began with"
            )
        self._num_timesteps = num_timesteps

    def _grow(self, num_timesteps: int) -> None:
        missing = max(0, num_timesteps - len(self._counts))
        self._losses = torch.cat([self._losses, self._losses.new_zeros(missing, self.options.history)])
        self._counts = torch.cat([self._counts, self._counts.new_zeros(missing)])
