"""Which way each metric moves when real images are spoilt: the signs that docs/concepts/evaluation.md explains."""

import importlib.util
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parents[3] / "benchmarks" / "metric_order.py"

# +: up at the strongest and never down on the way there, -: down in the same way, by more than the metric's grain
MOVES = {
    "digits": {
        "noise": "+fd_local +kd_local -precision -density -coverage +nearest_train_gap +spectrum_distance "
        "+mean_shift_grey",
        "blur": "+fd_local +kd_local -precision -recall -density -coverage +nearest_train_gap +spectrum_distance "
        "-std_shift_grey",
        "dropped classes": "+fd_local +kd_local -recall -coverage",
        "copies": "+fd_local +kd_local -recall -coverage",
    },
    "photographs": {
        "noise": "+fd_pixels +kd_pixels -precision -recall -density -coverage +nearest_train_gap +spectrum_distance",
        "blur": "+fd_pixels +kd_pixels +precision -recall +density -nearest_train_gap +spectrum_distance -std_shift_r "
        "-std_shift_g -std_shift_b",
        "copies": "+fd_pixels +kd_pixels -recall -coverage",
        "colour cast": "+fd_pixels +kd_pixels -precision -recall -coverage +nearest_train_gap +mean_shift_r "
        "+mean_shift_squared +colour_fd",
    },
}
UNMOVED = {
    "digits": {"dropped classes": ["precision", "density", "nearest_train_gap"]},
    "photographs": {"blur": ["mean_shift_r", "coverage"], "colour cast": ["mean_shift_g", "spectrum_distance"]},
}
SEEN = ["noise", "blur", "salt", "outliers"]  # by every default distance


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location(PATH.stem, PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[PATH.stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tables(benchmark, tmp_path_factory):
    return {name: benchmark.measured(name, num=300, cache_dir=tmp_path_factory.mktemp(name)) for name in MOVES}


@pytest.mark.parametrize("name, corruption", [(name, title) for name, titles in MOVES.items() for title in titles])
def test_metrics_move_as_explained(tables, name, corruption):
    for move in MOVES[name][corruption].split():
        sign, metric = (1 if move[0] == "+" else -1), move[1:]
        real, *spoilt = (sign * value for value in tables[name][metric][corruption])
        scale = max(abs(value) for value in (real, *spoilt))
        assert spoilt[-1] > real + 0.05 * scale, f"{corruption}: {move}"
        assert min(spoilt) > real - 0.1 * scale, f"{corruption}: {move}"


@pytest.mark.parametrize("name, corruption", [(name, title) for name, titles in UNMOVED.items() for title in titles])
def test_metrics_that_do_not_see_a_corruption(tables, name, corruption):
    for metric in UNMOVED[name][corruption]:
        real, *spoilt = tables[name][metric][corruption]
        assert max(abs(value - real) for value in spoilt) < 0.1, f"{corruption}: {metric}"


@pytest.mark.parametrize("name", MOVES)
def test_real_against_real_is_at_the_floor(tables, name):
    for metric, found in tables[name].items():
        plain = next(iter(values for title, values in found.items() if title != "floor"))[0]
        strongest = [abs(values[-1] - found["floor"][0]) for title, values in found.items() if title != "floor"]
        if metric not in ("memorised_share", "precision", "recall"):  # of few images, and not moved by each
            assert abs(plain - found["floor"][0]) <= 0.5 * max(strongest), metric


@pytest.fixture(scope="module")
def default_distances(benchmark, tmp_path_factory):
    found = {}
    for name, features in benchmark.DEFAULTS.items():
        data = benchmark.dealt(name.partition(",")[0])
        data = data if features == "local" else benchmark.without_classes(data)
        cache = tmp_path_factory.mktemp(features)
        found[name] = benchmark.distances(data, features, num=300, cache_dir=cache, only=SEEN)
    return found


@pytest.mark.parametrize("name", ["digits", "digits, without classes", "photographs"])
@pytest.mark.parametrize("corruption", SEEN)
def test_every_default_distance_grows_with_every_strength(default_distances, name, corruption):
    """A distance that fell with noise or blur would prefer it."""
    for metric, found in default_distances[name].items():
        values = found[corruption]
        assert values == sorted(set(values)), f"{metric} of {corruption}: {values}"
