"""The entropic map against closed forms, and what its file holds."""

from pathlib import Path

import numpy as np
import pytest
import torch
from closed_forms import covariance, points, root
from debiasctl_downscaling import transport
from debiasctl_downscaling.transport import TransportMap, fit_map, marginal_error, mean_cost

from debiasctl.api import DataError, EvaluationError, UsageError


def entropic_map(a: torch.Tensor, b: torch.Tensor, eps: float) -> torch.Tensor:
    """The matrix of x -> E[y | x] between N(0, a) and N(0, b) (Janati et al., 2020, arXiv 2006.02572, Thm 1).

    Their regularisation is 2 s² KL, so that s² = eps/2; the plan's cross-covariance is a^½ (a^½ b a^½ + s⁴/4)^½ a^-½
    - s²/2.
    """
    half, s2 = root(a), eps / 2
    eye = torch.eye(len(a), dtype=torch.float64)
    cross = half @ root(half @ b @ half + s2**2 / 4 * eye) @ torch.linalg.inv(half) - s2 / 2 * eye
    return cross.T @ torch.linalg.inv(a)


def as_images(x: torch.Tensor) -> torch.Tensor:
    return x[:, None, None, :]


@pytest.mark.parametrize("epsilon", [0.1, 0.5])
def test_between_gaussians_it_is_the_closed_form(epsilon: float) -> None:
    a, b = covariance(2, seed=1), covariance(2, seed=2, scale=2.0)
    mean_a, mean_b = torch.tensor([0.5, -1.0]).double(), torch.tensor([2.0, 1.0]).double()
    x, y = points(1024, mean_a, a, seed=0), points(1024, mean_b, b, seed=1)
    found = fit_map(as_images(x), as_images(y), epsilon=epsilon)
    matrix = entropic_map(a, b, found.epsilon)
    inner = (x - mean_a).square().sum(dim=1) < 4 * a.trace()  # where there are points on all sides
    wanted = mean_b + (x - mean_a) @ matrix.T
    error = (found(as_images(x))[:, 0, 0] - wanted)[inner].square().mean().sqrt()
    assert error < 0.02 * b.trace().sqrt(), error
    apart = points(512, mean_a, 0.5 * a, seed=5)  # which it was not fitted on
    error = (found(as_images(apart))[:, 0, 0] - (mean_b + (apart - mean_a) @ matrix.T)).square().mean().sqrt()
    assert error < 0.02 * b.trace().sqrt(), error


def test_at_its_own_images_it_is_the_plans_projection() -> None:
    """Against POT's plan at the same epsilon."""
    import ot

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 3, generator=generator, dtype=torch.float64)
    y = (2 + torch.randn(50, 3, generator=generator, dtype=torch.float64)).float().double()
    found = fit_map(as_images(x), as_images(y), epsilon=0.05, tolerance=1e-7)
    cost = ot.dist(x.numpy(), y.numpy())
    plan = ot.sinkhorn(np.full(60, 1 / 60), np.full(50, 1 / 50), cost, 0.05 * cost.mean(), stopThr=1e-12)
    wanted = torch.from_numpy(plan / plan.sum(axis=1, keepdims=True)) @ y
    assert torch.allclose(found(as_images(x))[:, 0, 0], wanted, atol=1e-5)
    assert found.scale == pytest.approx(cost.mean())


def test_large_sets_are_solved_in_blocks_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = torch.randn(70, 1, 2, 2).double(), 1 + torch.randn(90, 1, 2, 2).double()
    whole = fit_map(x, y, epsilon=0.1, tolerance=1e-6)
    monkeypatch.setattr(transport, "_DENSE", 10)
    monkeypatch.setattr(transport, "_BLOCK", 1000)
    parts = fit_map(x, y, epsilon=0.1, tolerance=1e-6)
    assert torch.allclose(whole(x), parts(x), atol=1e-5)


def test_the_reported_error_is_that_of_the_plan() -> None:
    x, y = torch.randn(40, 2).double(), torch.randn(30, 2).double()
    g = torch.randn(30).double()
    plan = torch.softmax((g - torch.cdist(x, y).square()) / 0.7, dim=1) / 40
    assert marginal_error(x, y, g, 0.7) == pytest.approx(float((plan.sum(dim=0) - 1 / 30).abs().sum()))
    assert mean_cost(x, y) == pytest.approx(float(torch.cdist(x, y).square().mean()))
    found = fit_map(as_images(x), as_images(y), epsilon=0.05)
    assert found.convergence.error <= found.convergence.tolerance
    assert found.convergence.iterations > 1


def test_it_refuses_what_did_not_converge() -> None:
    x, y = torch.randn(50, 1, 2, 2), torch.randn(50, 1, 2, 2) + 3
    for iterations in (3, 12, 50):  # which end at several stages of epsilon
        with pytest.raises(EvaluationError, match=rf"did not converge: after {iterations} .* Raise `epsilon`"):
            fit_map(x, y, epsilon=1e-4, iterations=iterations)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"biased": torch.zeros(5, 1, 3, 3)}, "the biased images are 1x3x3, and the true ones 1x2x2"),
        ({"true": torch.zeros(1, 1, 2, 2)}, "at least 2 true images"),
        ({"biased": torch.full((5, 1, 2, 2), float("nan"))}, "the biased images hold values that are not finite"),
        ({"epsilon": 0.0}, "`epsilon` must be above 0"),
        ({"biased": torch.zeros(5, 1, 2, 2), "true": torch.zeros(5, 1, 2, 2)}, "all the same one"),
    ],
)
def test_it_refuses_what_it_cannot_fit(changes: dict, text: str) -> None:
    arguments = {"biased": torch.randn(5, 1, 2, 2), "true": torch.randn(5, 1, 2, 2)} | changes
    with pytest.raises(UsageError, match=text):
        fit_map(arguments.pop("biased"), arguments.pop("true"), **arguments)


def test_a_map_is_the_same_once_it_is_read(tmp_path: Path) -> None:
    x, y = torch.randn(30, 1, 2, 2), torch.randn(40, 1, 2, 2)
    found = fit_map(x, y, epsilon=0.1)
    found.save(tmp_path / "map.npz")
    again = TransportMap.read(tmp_path / "map.npz")
    assert torch.equal(again(x), found(x))
    assert again.convergence == found.convergence
    assert (again.epsilon, again.relative, again.scale) == (found.epsilon, 0.1, found.scale)
    assert found(x).dtype == torch.float32
    with pytest.raises(UsageError, match="the map is for images of 1x2x2, and these are 1x3x3"):
        again(torch.zeros(1, 1, 3, 3))
    with pytest.raises(UsageError, match=r"ends in \.npz"):
        found.save(tmp_path / "map.pt")


def test_files_that_are_no_maps_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "map.npz"
    with pytest.raises(UsageError, match="there is no file"):
        TransportMap.read(path)
    path.write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(DataError, match="is damaged"):
        TransportMap.read(path)
    np.savez(path, images=np.zeros(3))
    with pytest.raises(DataError, match="something else"):
        TransportMap.read(path)
    fit_map(torch.randn(9, 1, 2, 2), torch.randn(9, 1, 2, 2)).save(path)
    stored = dict(np.load(path))
    np.savez(path, **(stored | {"version": 99}))
    with pytest.raises(DataError, match="version 99"):
        TransportMap.read(path)
    np.savez(path, **(stored | {"potential": stored["potential"][:4]}))
    with pytest.raises(DataError, match="do not fit each other"):
        TransportMap.read(path)
    del stored["epsilon"]
    np.savez(path, **stored)
    with pytest.raises(DataError, match="damaged map"):
        TransportMap.read(path)
