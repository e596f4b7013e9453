"""Beta-distributed time."""

import torch
from pydantic import Field
from torch import Tensor

from debiasctl.builtin.timesteps._share import Edges, OverShare, ShareOptions


class Beta(OverShare):
    """time ~ Beta(alpha, beta), with density time^(alpha - 1) (1 - time)^(beta - 1) up to a factor.

    alpha > beta favours noise. The defaults are those of SimpleTuner's option flow_use_beta_schedule, which draws the
    share of noise so before it applies the shift. Where a trainer's time is the share of the image, its alpha and beta
    are to be exchanged.
    """

    class Options(ShareOptions):
        """The options of beta-distributed time."""

        alpha: float = Field(2.0, gt=0, description="the more it exceeds beta, the more noise is favoured")
        beta: float = Field(2.0, gt=0, description="the more it exceeds alpha, the more the image is favoured")

    options: Options

    def tails(self, edges: Edges) -> tuple[Tensor, Tensor]:
        """Return the regularised incomplete beta functions below and above each edge."""
        alpha, beta = self.options.alpha, self.options.beta
        return _beta_below(alpha, beta, edges.x), _beta_below(beta, alpha, edges.rest)


def _beta_below(alpha: float, beta: float, x: Tensor) -> Tensor:
    from scipy.special import betainc

    return torch.from_numpy(betainc(alpha, beta, x.cpu().numpy())).to(x.device)
