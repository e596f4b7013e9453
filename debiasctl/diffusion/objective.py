"""The training objective: process, parameterization, weighting and distribution of t in one."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from debiasctl.api import Learned, Prediction, TimestepContext, TimestepDistribution, Weighting, WeightingContext
from debiasctl.boundary import name_of
from debiasctl.diffusion.loss import Errors, Huber, squared_error
from debiasctl.diffusion.parameterization import Parameterization
from debiasctl.diffusion.process import DiffusionProcess, NoiseLevels
from debiasctl.diffusion.weighting import bounded_snr, falling_slope, weight_in
from debiasctl.errors import DebiasctlError, UsageError

VANISHING = 1e-5  # a fraction of the mean effective weight
# The share of the effective weight on one t from which it is a note: 200 of the customary 1,000 timesteps in one. An
# output has an error everywhere, and where so much weight meets it, little else is trained.
CONCENTRATED = 0.2
_LEAST_MEAN = 1e-300  # of weights, whose reciprocal is a float
_NEAR = 1e-3  # of a timestep, for the slope of log-SNR
_OUTPUTS: tuple[Prediction, ...] = ("v", "eps", "x0", "flow")  # in the order in which they are advised


@dataclass(frozen=True)
class ObjectiveTables:
    """An objective at one point of training, tabulated over t = 0 … T - 1 (float64 [T] each).

    `weight` is the effective weight on ||F - target||², `base` the distribution of t under which the expected loss is
    minimised, `probability` the one that t is drawn from. With normalize="mean", `weight` has mean 1 under `base`.
    """

    weight: Tensor
    base: Tensor
    probability: Tensor

    @property
    def correction(self) -> Tensor:
        """The importance weight base/q that multiplies the loss at t; 1 wherever t is drawn from the base itself."""
        return torch.where(self.probability > 0, self.base / self.probability, 0.0)

    @property
    def effective(self) -> Tensor:
        """The density times the weight, base(t) weight(t), scaled to mean 1 over t: the weighting in effect."""
        density = self.base * self.weight
        return density / density.mean()


@dataclass(frozen=True)
class Draw:
    """N drawn noise levels; `timestep` int64 [N] is t rounded to a whole timestep, the other tensors are float64 [N].

    The loss of an image is correction * (weight * ||F - target||² + …).
    """

    levels: NoiseLevels
    timestep: Tensor
    weight: Tensor
    correction: Tensor

    def __getitem__(self, part: slice) -> "Draw":
        """The draw for some of the images."""
        return Draw(self.levels[part], self.timestep[part], self.weight[part], self.correction[part])


@dataclass(frozen=True)
class _Moment:
    """An objective at one point of training: its weighting there, normalisation, tables and distribution function."""

    weighting: Weighting
    mean: float  # of the weighting's weights under the base distribution
    scale: float  # multiplies the weighting's weights
    tables: ObjectiveTables
    cumulative: Tensor  # float64 [T]: the probability of drawing at most t


class Objective:
    """The expectation over t of weight(t) ||F - target||², or of weight(t) times the loss `huber`.

    `snr` is float64 [T], the SNR that stands for each t. `learned` is what the weighting's method of that name built,
    whose module gives the log-variance u. `variance_weight` weights the bound that trains a learned variance.
    """

    def __init__(
        self,
        parameterization: Parameterization,
        weighting: Weighting,
        distribution: TimestepDistribution,
        *,
        normalize: Literal["mean", "none"] = "mean",
        variance_weight: float = 1e-3,
        learned: Learned | None = None,
        huber: Huber | None = None,
    ) -> None:
        if huber is not None and learned is not None:
            raise UsageError(
                f"{name_of(weighting, 'weighting')} learns the variance of a squared error, and a Huber loss has none. "
                "Choose `loss.metric=mse`, or a weighting that is not learned"
            )
        self.huber = huber
        self.parameterization, self.process = parameterization, parameterization.process
        self.weighting, self.distribution = weighting, distribution
        self.normalize, self.variance_weight, self.learned = normalize, variance_weight, learned
        self.snr, self._slope = _shares(self.process)
        self._snr, self._edges = bounded_snr(self.snr), _edges(self.process)
        self._varies = weighting.varies or distribution.varies
        self._moment: _Moment | None = None

    @property
    def varies(self) -> bool:
        """Whether the weight at a step depends on the total number of steps."""
        return self.weighting.varies

    def tables(self, progress: float = 0.0) -> ObjectiveTables:
        """The objective at `progress` (0 to 1) through training.

        Raises:
            DebiasctlError: if the weighting gives invalid weights, or the distribution invalid probabilities.
        """
        return self._at(progress).tables

    def mean_weight(self) -> float:
        """The weighting's mean at the start of training, as published: by it normalize="mean" divides.

        Raises:
            DebiasctlError: if `tables` raises it.
        """
        return self._at(0.0).mean

    def weight_at(self, snr: Tensor, progress: float = 0.0) -> Tensor:
        """The effective weight on ||F - target||² at any SNRs, float64 of snr's shape, scaled as that of `tables`.

        Raises:
            DebiasctlError: if `tables` raises it, or the weight at one of these SNRs is not allowed.
        """
        moment = self._at(progress)
        return moment.scale * self._weights(moment.weighting, snr)

    def draw(self, draws: Tensor, *, shared: Tensor, positions: Tensor, batch_size: int, progress: float) -> Draw:
        """Draw t = quantile(u) for uniform numbers u (`draws`, float64 [N] on the CPU) at `positions` [N] of the batch.

        `shared` is one further uniform number, float64 [1], the same for the whole batch of `batch_size`.
        """
        moment = self._at(progress)
        tables, cumulative = moment.tables, moment.cumulative
        draws = self.distribution.spread(draws, shared, positions, batch_size)
        timestep = torch.searchsorted(cumulative, draws, right=True).clamp(max=self._last(tables))
        correction = tables.correction[timestep]
        if not self.process.continuous:
            return Draw(self.process.levels(timestep), timestep, tables.weight[timestep], correction)
        within = (draws - (cumulative - tables.probability)[timestep]) / tables.probability[timestep]
        levels = self.process.levels(self.process.drawn(timestep, within.clamp(0, 1)))
        weight = moment.scale * self._weights(moment.weighting, levels.snr)
        return Draw(levels, timestep, weight, correction)

    def errors(self, levels: NoiseLevels) -> Errors:
        """What the weights multiply at these noise levels: the squared error, or the Huber loss in its place."""
        if self.huber is None:
            return squared_error
        return self.huber.at(levels, num_timesteps=self.process.num_timesteps)

    def observe(self, timestep: Tensor, losses: Tensor) -> None:
        """Pass a global batch's timesteps (int64 [N]) and losses (float64 [N], on the CPU) to the distribution of t."""
        self.distribution.observe(timestep, losses)

    @property
    def observes(self) -> bool:
        """Whether the distribution of t adapts to the losses."""
        return self.distribution.observes

    def warning(self) -> str | None:
        """Return a warning if training (at its start or end) almost ignores the noise level where sampling starts."""
        moments = (0.0, 1.0) if self.weighting.varies else (0.0,)
        tables = min((self.tables(progress) for progress in moments), key=lambda found: float(found.effective[-1]))
        last = float(tables.effective[-1])
        if last >= VANISHING:
            return None
        density = float(tables.base[-1] * len(tables.base))
        why = (
            f"t is hardly ever drawn there ({density:.1g} times as often as uniformly). Choose other `timesteps`"
            if last / max(density, 1e-300) >= VANISHING
            else "weightings that keep a weight on v and x0 as SNR goes to 0 are constant-v, constant-x0, "
            "truncated-snr and edm"
            if not self.process.snr[-1]
            else "so it is with this weighting, which falls with SNR, and it is no mistake"
        )
        return (
            f"the effective weight on {self.parameterization.prediction} at t = {self.process.num_timesteps - 1}, "
            f"where sampling starts, is {last:.1g} of the mean{' at one end of training' if len(moments) > 1 else ''}: "
            f"this network will hardly be trained there; {why}"
        )

    def concentration(self) -> str | None:
        """Return a note if a single t carries much of the weight on the network's output, at the start of training."""
        share = self.tables().effective / len(self._snr)
        if self.learned is not None or not self._is_concentrated(share):  # a learned weight balances the timesteps
            return None
        unit, worst = self.parameterization.prediction, int(share.argmax())
        even = 1 / float((share**2).sum())  # equally weighted timesteps of the same concentration
        text = (
            f"the effective weight on {unit} is concentrated: t = {worst} alone carries {float(share[worst]):.0%} of "
            f"it, as if {even:.1f} of the {len(share)} timesteps were trained"
        )
        spread = [other for other in _OUTPUTS if other != unit and self._spreads(other)]
        advice = f"`model.prediction={spread[0]}` spreads it" if spread else "choose another weighting or schedule"
        return f"{text}; {advice}"

    def _is_concentrated(self, share: Tensor) -> bool:
        return float(share.max()) >= max(CONCENTRATED, 20 / len(share))

    def _spreads(self, prediction: Prediction) -> bool:
        """Whether another prediction type has a weight that is not concentrated."""
        other = self.parameterization
        try:
            changed = Objective(
                Parameterization(prediction, self.process, sigma_data=other.sigma_data),
                self.weighting,
                self.distribution,
            )
            share = changed.tables().effective / len(self._snr)
        except DebiasctlError:
            return False
        return not self._is_concentrated(share)

    def _at(self, progress: float) -> _Moment:
        if self._moment is None or self._varies:
            weighting = self.weighting.at(WeightingContext(self._snr, progress))
            weight = self._weights(weighting, self._snr)
            context = TimestepContext(self._snr, self._slope, weight, self._edges)
            probability = self._distribution(self.distribution.probabilities(context))
            base = probability
            if self.distribution.corrected:
                base = self._distribution(self.distribution.base(context))
                # a learned variance is trained wherever the base draws, regardless of the weight
                needed = base if self.parameterization.learned_variance else base * weight
                if bool(((probability == 0) & (needed > 0)).any()):
                    raise UsageError(
                        f"{self._drawn} never draws some t that contributes to the loss. Choose other `timesteps`, or "
                        "a weighting that is never 0"
                    )
            mean = float((base * weight).sum())
            if not mean > 0:
                name = name_of(self.weighting, "weighting")
                raise UsageError(f"{name} is zero at every timestep that is drawn; nothing would be trained")
            if not _LEAST_MEAN <= mean <= 1 / _LEAST_MEAN:
                name = name_of(self.weighting, "weighting")
                raise UsageError(f"{name} gives weights of mean {mean:.3g}, which cannot be scaled. Give it others")
            scale = 1 / mean if self.normalize == "mean" else 1.0
            tables = ObjectiveTables(scale * weight, base, probability)
            if not bool(tables.correction.isfinite().all()):
                raise UsageError(f"{self._drawn} draws some t so rarely that their loss cannot be corrected")
            self._moment = _Moment(weighting, mean, scale, tables, probability.cumsum(0))
        return self._moment

    def _weights(self, weighting: Weighting, snr: Tensor) -> Tensor:
        parameterization = self.parameterization
        return weight_in(weighting, parameterization.prediction, snr=snr, sigma_data=parameterization.sigma_data)

    def _distribution(self, values: Tensor) -> Tensor:
        total = float(values.sum())
        if values.shape != self._snr.shape or not bool((values >= 0).all()) or not 0 < total < float("inf"):
            raise UsageError(f"{self._drawn} gives no probability for every t; check its options")
        return values / total

    @property
    def _drawn(self) -> str:
        return name_of(self.distribution, "timestep distribution")

    @staticmethod
    def _last(tables: ObjectiveTables) -> int:
        """The last t that can be drawn, needed because rounding leaves the distribution function just short of 1."""
        return int(tables.probability.nonzero().max())


def _shares(process: DiffusionProcess) -> tuple[Tensor, Tensor]:
    """The SNR and -d log SNR/dt, float64 [T] each, that stand for the levels which training draws at each t.

    They are those of the timesteps, or of the middles of their shares if these lie elsewhere.
    """
    if not process.continuous or process.place == 0.5:
        return process.snr, falling_slope(process.log_snr)
    middle = torch.arange(process.num_timesteps, dtype=torch.float64) - process.place + 0.5
    slope = (process.log_snr_at(middle - _NEAR) - process.log_snr_at(middle + _NEAR)) / (2 * _NEAR)
    return process.log_snr_at(middle).exp(), slope


def _edges(process: DiffusionProcess) -> Tensor:
    """log SNR at the edges of the parts that the timesteps stand for, float64 [T + 1]; inf where that is the image."""
    if not process.continuous:
        return torch.cat([process.log_snr.new_full((1,), torch.inf), process.log_snr])
    return process.log_snr_at(torch.arange(process.num_timesteps + 1, dtype=torch.float64) - process.place)
