"""The solvers against theory, against each other, and against SciPy's."""

import numpy as np
import pytest
from debiasctl_downscaling.integrators import FiniteVolume, Spectral
from scipy.integrate import solve_ivp

LENGTH, POINTS = 22.0, 48


def smooth(points: int) -> np.ndarray:
    """A smooth state with mean 0, [1, points]."""
    x = 2 * np.pi * np.arange(points) / points
    return (np.sin(x) + 0.8 * np.cos(2 * x + 1) - 0.5 * np.sin(3 * x))[None]


def advanced(u: np.ndarray, time: float, step: float, *, points: int = POINTS) -> np.ndarray:
    solver = Spectral(length=LENGTH, points=points, step=step)
    v = solver.transform(u)
    for _ in range(round(time / step)):
        v = solver.advance(v)
    return solver.values(v)


def test_the_spectral_solver_is_of_fourth_order_in_time() -> None:
    """On few modes; with more, which are stiffer, order 4 is seen at smaller steps only."""
    exact = advanced(smooth(24), 4.0, 1 / 256, points=24)
    errors = [np.abs(advanced(smooth(24), 4.0, step, points=24) - exact).max() for step in (1 / 8, 1 / 16, 1 / 32)]
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    assert np.all(np.abs(orders - 4) < 0.12), orders


def test_its_error_at_the_data_sets_step_is_small() -> None:
    exact = advanced(smooth(POINTS), 4.0, 1 / 64)
    assert np.abs(advanced(smooth(POINTS), 4.0, 1 / 4) - exact).max() < 1e-3


def test_it_agrees_with_an_independent_solver_of_stiff_equations() -> None:
    """SciPy's Radau on the same space of Fourier modes, with the product computed by a convolution."""
    solver = Spectral(length=LENGTH, points=POINTS, step=1 / 32)
    start = solver.transform(smooth(POINTS))[0]
    kept = int(np.sum(np.arange(POINTS // 2 + 1) < POINTS / 3))
    k = 2 * np.pi / LENGTH * np.arange(kept)

    def slope(_: float, packed: np.ndarray) -> np.ndarray:
        half = packed[:kept] + 1j * packed[kept:]
        whole = np.concatenate([half[:0:-1].conj(), half])  # from -(kept - 1) to kept - 1
        square = np.convolve(whole, whole)[2 * (kept - 1) : 3 * kept - 2]
        found = (k**2 - k**4) * half - 0.5j * k * square
        return np.concatenate([found.real, found.imag])

    packed = np.concatenate([start[:kept].real, start[:kept].imag]) / POINTS
    found = solve_ivp(slope, (0, 3.0), packed, method="Radau", rtol=1e-8, atol=1e-10).y[:, -1]
    v = solver.transform(smooth(POINTS))
    for _ in range(96):
        v = solver.advance(v)
    assert np.abs(v[0, :kept] / POINTS - (found[:kept] + 1j * found[kept:])).max() < 1e-6


@pytest.mark.parametrize("mode", [1, 2, 3, 4])
def test_small_waves_grow_as_linear_theory_says(mode: int) -> None:
    k = 2 * np.pi * mode / LENGTH
    u = 1e-8 * np.cos(2 * np.pi * mode * np.arange(POINTS) / POINTS)[None]
    assert np.abs(advanced(u, 2.0, 0.25)).max() == pytest.approx(1e-8 * np.exp(2 * (k**2 - k**4)), rel=1e-5)


def test_the_mean_is_conserved_by_both() -> None:
    u = smooth(POINTS) + 0.3
    assert advanced(u, 20.0, 0.25).mean() == pytest.approx(0.3, abs=1e-13)
    solver = FiniteVolume(length=LENGTH, cells=16, step=0.1)
    u = smooth(16) + 0.3
    for _ in range(200):
        u = solver.advance(u)
    assert u.mean() == pytest.approx(0.3, abs=1e-13)


def test_it_is_galilean_invariant() -> None:
    """u + c drifts by c t: half a cell's width, where the grid's points are compared in Fourier space."""
    c, time = 0.5, 2.0
    solver = Spectral(length=LENGTH, points=POINTS, step=1 / 16)
    still, moving = solver.transform(smooth(POINTS)), solver.transform(smooth(POINTS) + c)
    for _ in range(32):
        still, moving = solver.advance(still), solver.advance(moving)
    shift = np.exp(-2j * np.pi / LENGTH * np.arange(POINTS // 2 + 1) * c * time)
    still[:, 0] += c * POINTS
    assert np.abs(moving - still * shift).max() / POINTS < 1e-5


def test_energy_comes_in_as_it_goes_out() -> None:
    """d/dt mean(u²)/2 = mean(u_x²) - mean(u_xx²), which is 0 on average where the statistics are stationary."""
    rng = np.random.default_rng(0)
    solver = Spectral(length=LENGTH, points=POINTS, step=0.25)
    v = solver.transform(1.5 * rng.standard_normal((128, POINTS)))
    v[:, 0] = 0
    k = 2 * np.pi / LENGTH * np.arange(POINTS // 2 + 1)
    gained = lost = 0.0
    for step in range(1000):
        v = solver.advance(v)
        if step >= 600:
            energy = (np.abs(v) ** 2).mean(axis=0)
            gained, lost = gained + (k**2 * energy).sum(), lost + (k**4 * energy).sum()
    assert gained / lost == pytest.approx(1, abs=0.01)


def test_the_coarse_solver_converges_to_the_fine_one() -> None:
    """Cell averages of finer and finer grids approach the spectral solution, at about second order."""
    exact = advanced(smooth(POINTS), 2.0, 1 / 32)
    coefficients = np.fft.rfft(exact) / POINTS
    errors = []
    for cells in (64, 128):
        k = np.arange(POINTS // 2 + 1)
        mean = coefficients * np.sinc(k / cells) * np.exp(1j * np.pi * k / cells)  # of a cell from its left end
        wanted = np.fft.irfft(np.pad(mean, ((0, 0), (0, cells // 2 + 1 - len(k)))) * cells, n=cells)
        start = np.fft.rfft(smooth(POINTS)) / POINTS * np.sinc(k / cells) * np.exp(1j * np.pi * k / cells)
        u = np.fft.irfft(np.pad(start, ((0, 0), (0, cells // 2 + 1 - len(k)))) * cells, n=cells)
        solver = FiniteVolume(length=LENGTH, cells=cells, step=1.28 / cells)
        for _ in range(round(2.0 * cells / 1.28)):
            u = solver.advance(u)
        errors.append(np.abs(u - wanted).max())
    assert errors[1] < 0.01
    assert np.log2(errors[0] / errors[1]) > 1.5
