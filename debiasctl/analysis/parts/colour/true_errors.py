"""The network's mean error on noised training images, and the norm of its eps_hat along sampling against there."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from debiasctl.analysis.parts.colour.statistics import Array, chunk_of


@dataclass(frozen=True)
class TrueErrors:
    """At the timesteps `ts` [L]: the mean error of each channel [L, C], its standard error, and that of each chunk.

    `chunks` [K, L, C] are independent: each chunk of samples is corrected by the error that was seen on as many true
    images of its own, so that what is left varies from chunk to chunk by the doubt about the error too. `ratio` [L] is
    the norm of eps_hat along sampling over that on true images.
    """

    ts: NDArray[np.float64]
    error: Array
    se: Array
    chunks: Array
    ratio: Array

    @classmethod
    def of(cls, ts: Array, *, estimates: Array, x0: Array, centre: Array, ratio: Array) -> "TrueErrors":
        """From mean colours of estimates [N, L, C] and of the images [N, C]; `centre` [C] is that of all images.

        An ideal denoiser's mean estimate is the images' mean. The estimates' mean less `centre` varies with the images
        that were taken, which a regression on their colours takes out (a control variate).
        """
        away = x0 - x0.mean(axis=0)
        power = np.square(away).sum(axis=0)
        slope = np.einsum("nlc,nc->lc", estimates, away) / np.where(power > 0, power, 1.0)
        rows = estimates - centre - slope * (x0 - centre)[:, None]  # [N, L, C]
        error = rows.mean(axis=0)
        se = rows.std(axis=0, ddof=1) / np.sqrt(len(rows))
        chunks = rows.reshape(-1, chunk_of(len(rows)), *rows.shape[1:]).mean(axis=1)
        return cls(ts, error, se, chunks, ratio)

    def of_chunk(self, number: int) -> Array:
        """The error [L, C] by which a chunk is corrected, less where it is hardly known, as at pure noise."""
        known = np.square(self.error)
        share = known / np.where(known > 0, known + np.square(self.se), 1.0)
        corrected: Array = share * self.chunks[number]
        return corrected

    def eps_scale(self) -> float:
        """The mean ratio of the norms, which mends them if eps_hat is divided by it (arXiv 2308.15321)."""
        return float(np.exp(np.log(self.ratio).mean()))
