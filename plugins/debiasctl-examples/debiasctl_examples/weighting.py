"""A weighting."""

from debiasctl.api import Weighting


class Sech(Weighting):
    """sech(λ/2) on the error of eps, λ = log SNR: greatest at SNR 1, and the same at SNR and 1/SNR."""

    space = "eps"

    def __call__(self, snr):
        return 2 * snr.sqrt() / (1 + snr)
