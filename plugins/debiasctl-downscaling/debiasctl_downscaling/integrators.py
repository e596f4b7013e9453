"""Two solvers of the Kuramoto-Sivashinsky equation u_t + u u_x + u_xx + u_xxxx = 0 on a periodic interval.

Both are float64, and advance many independent states [B, n] at once.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Spectrum = NDArray[np.complex128]
_CONTOUR = 32  # points on the circle over which the coefficients are averaged


class Spectral:
    """A Fourier method in space with ETDRK4 in time (Cox & Matthews, 2002, doi 10.1006/jcph.2002.6995, Eq. 26-29).

    The coefficients are means over a circle in the complex plane, as direct evaluation loses all digits where the
    linear part is small (Kassam & Trefethen, 2005, doi 10.1137/S1064827502410633, §3). Products are dealiased by the
    2/3 rule.
    """

    def __init__(self, *, length: float, points: int, step: float) -> None:
        self.points = points
        index = np.arange(points // 2 + 1)
        k = 2 * np.pi / length * index
        self.linear = k**2 - k**4
        self._advect = -0.5j * k * (index < points / 3)  # of u²/2, dealiased
        z = step * self.linear[:, None] + np.exp(1j * np.pi * (np.arange(_CONTOUR) + 0.5) / _CONTOUR)
        e = np.exp(z)
        self._e, self._e_half = np.exp(step * self.linear), np.exp(step * self.linear / 2)
        self._q = step * _mean((np.exp(z / 2) - 1) / z)
        self._f1 = step * _mean((-4 - z + e * (4 - 3 * z + z**2)) / z**3)
        self._f2 = step * _mean((2 + z + e * (z - 2)) / z**3)
        self._f3 = step * _mean((-4 - 3 * z - z**2 + e * (4 - z)) / z**3)

    def transform(self, u: Array) -> Spectrum:
        """The Fourier coefficients of states u [B, points]; the highest, which a product cannot use, is left out."""
        v = np.fft.rfft(u, axis=-1)
        if self.points % 2 == 0:
            v[..., -1] = 0
        return v

    def values(self, v: Spectrum) -> Array:
        """The states [B, points] of Fourier coefficients."""
        return np.fft.irfft(v, n=self.points, axis=-1)

    def nonlinear(self, v: Spectrum) -> Spectrum:
        """The coefficients of -(u²/2)_x."""
        return self._advect * np.fft.rfft(self.values(v) ** 2, axis=-1)

    def advance(self, v: Spectrum) -> Spectrum:
        """The coefficients one step later."""
        n_v = self.nonlinear(v)
        a = self._e_half * v + self._q * n_v
        n_a = self.nonlinear(a)
        n_b = self.nonlinear(self._e_half * v + self._q * n_a)
        n_c = self.nonlinear(self._e_half * a + self._q * (2 * n_b - n_v))
        found: Spectrum = self._e * v + self._f1 * n_v + 2 * self._f2 * (n_a + n_b) + self._f3 * n_c
        return found


class FiniteVolume:
    """Cell averages with a van Leer-limited Godunov flux; the linear terms are central, by Crank-Nicolson.

    Second order in space and time (Heun's method for the flux). On few cells it is stable and wrong, as coarse models
    are: the limiter damps the shortest waves, and the central differences underrate both the growth and the damping.
    """

    def __init__(self, *, length: float, cells: int, step: float) -> None:
        self._dx, self._step, self.cells = length / cells, step, cells
        second = (2 - 2 * np.cos(2 * np.pi * np.arange(cells // 2 + 1) / cells)) / self._dx**2  # the symbol of -u_xx
        self.linear = second - second**2
        self._explicit, self._implicit = 1 + step * self.linear / 2, 1 - step * self.linear / 2

    def slope(self, u: Array) -> Array:
        """The change of cell averages u [B, cells] by the flux of u²/2, per unit of time."""
        behind, ahead = u - np.roll(u, 1, axis=-1), np.roll(u, -1, axis=-1) - u
        total = behind + ahead
        harmonic = 2 * behind * ahead / np.where(total == 0, 1.0, total)
        limited = np.where(behind * ahead > 0, harmonic, 0.0)  # van Leer, 1974
        left, right = u + limited / 2, np.roll(u - limited / 2, -1, axis=-1)
        flux = np.maximum(np.maximum(left, 0) ** 2, np.minimum(right, 0) ** 2) / 2  # Godunov's, of a convex flux
        found: Array = (np.roll(flux, 1, axis=-1) - flux) / self._dx
        return found

    def advance(self, u: Array) -> Array:
        """The cell averages one step later."""
        linear = np.fft.rfft(u, axis=-1) * self._explicit
        first = self.slope(u)
        second = self.slope(self._solved(linear, first))
        return self._solved(linear, (first + second) / 2)

    def _solved(self, linear: Spectrum, slope: Array) -> Array:
        return np.fft.irfft((linear + self._step * np.fft.rfft(slope, axis=-1)) / self._implicit, n=self.cells, axis=-1)


def _mean(values: NDArray[np.complexfloating[Any, Any]]) -> Array:
    """The mean over the circle, of which the upper half was computed."""
    found: Array = values.mean(axis=-1).real
    return found
