"""A weighting in a package of its own, as a user would write it."""

from pydantic import Field

from debiasctl.api import PluginOptions, Weighting


class InverseSquare(Weighting):
    """SNR^-2p on the error of eps; p = 1/4 is the paper's weighting."""

    space = "eps"

    class Options(PluginOptions):
        """Options of the scheme."""

        power: float = Field(0.5, ge=0, le=1, description="p")

    def __call__(self, snr):
        """w_eps = SNR^-2p."""
        return snr ** (-2 * self.options.power)
