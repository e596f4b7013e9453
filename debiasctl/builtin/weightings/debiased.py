"""The paper's weighting."""

from torch import Tensor

from debiasctl.api import Weighting


class Debiased(Weighting):
    """1/√SNR on the error of eps: Debias the Training of Diffusion Models (Yu et al., 2023, arXiv 2310.08442)."""

    space = "eps"

    def __call__(self, snr: Tensor) -> Tensor:
        """Return w_eps = 1/√SNR."""
        return snr.rsqrt()
