"""The page on weightings: its numbers are those of the code, its formulas are the weightings', and its commands run."""

import importlib.util
import math
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from documents import parse
from tiny import succeed, write_distribution

from debiasctl import registry
from debiasctl.analysis.weight_curves import schedule_process
from debiasctl.api import WeightingContext
from debiasctl.diffusion.objective import Objective
from debiasctl.diffusion.parameterization import Parameterization
from debiasctl.diffusion.weighting import falling_slope, weight_in

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "docs" / "concepts" / "weightings.md"
PAGE = SOURCE.read_text(encoding="utf-8")
# the options that a formula's letters stand for, where the page states their defaults
LETTERS = {"k": 1.0, "γ": 5.0, "c": 1000.0, "p": 0.5, "σd": 0.5, "π": math.pi}
OWN_LETTERS = {
    "p2": {"γ": 1.0}, "sigmoid": {"γ": math.exp(2)}, "sigmoid:measure=t": {"γ": math.exp(2)},
    "onetrainer-v:scheme=p2": {"γ": 1.0}, "v-pred-like": {"k": 0.5},
}  # fmt: skip


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # where dataclasses look their annotations up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def build() -> ModuleType:
    return load(ROOT / "docs" / "build.py")


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return load(ROOT / "benchmarks" / "gradient_variance.py")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def rows(first: str) -> list[list[str]]:
    """The rows of a table of the page, told by its header's beginning."""
    lines = PAGE[PAGE.index(first) :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


# ---------------------------------------------------------------- numbers


def test_the_numbers_are_up_to_date(build: ModuleType) -> None:
    assert {found["name"] for found in build.BLOCK.finditer(PAGE)} == {*build.COMPUTED, build.MEASURED}
    bodies = {name: function() for name, function in build.COMPUTED.items()}
    assert build.built(PAGE, bodies) == PAGE, "run: python docs/build.py"


def test_a_number_that_has_drifted_is_found(build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "weightings.md"
    page.write_text(PAGE.replace("| 259 |", "| 258 |"), encoding="utf-8")
    monkeypatch.setattr(build, "PAGE", page)
    monkeypatch.setattr(sys, "argv", ["build.py", "--check"])
    assert build.main() == 1
    monkeypatch.setattr(sys, "argv", ["build.py"])
    assert build.main() == 0
    assert page.read_text(encoding="utf-8") == PAGE


def test_the_numbers_of_the_paper_are_there() -> None:
    found = {row[0]: row[1] for row in rows("| T = 1000 |")}
    assert found["SNR at t = 0"] == "9999"
    assert found["first t with SNR < 1"] == "259"
    assert found["1/√SNR, least … greatest"] == "0.01 … 157.4"
    assert found["1/√SNR, mean over t"] == "17.82"
    assert found["1/SNR, mean over t"] == "1311"


def test_figures_in_the_text_are_those_of_the_tables() -> None:
    facts = {row[0]: row[1:] for row in rows("| T = 1000 |")}
    means = {row[0]: row[1] for row in rows("| mean of the published weight |")}
    assert "its last has 1/√SNR = 2.0e4, and so 82 % of all the weight" in " ".join(PAGE.split())
    assert facts["1/√SNR, least … greatest"][1].endswith("2.029e4")
    assert facts["share of t = 999 in the sum of 1/√SNR"][1] == "82 %"
    assert next(value for names, value in means.items() if "`debiased`" in names) == "17.8"
    assert "17.8 for `debiased` on eps and linear" in " ".join(PAGE.split())


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (17.817, "17.8"), (1311.15, "1310"), (9999.0, "1e4"), (9.996e-4, "0.001"), (2.4777e4, "2.48e4"),
     (1e-4, "1e-4"), (0.0316, "0.0316"), (1.0, "1"), (100.0, "100")],
)  # fmt: skip
def test_numbers_are_written_with_three_digits(build: ModuleType, value: float, text: str) -> None:
    assert build.number(value) == text


# ---------------------------------------------------------------- names and formulas


@pytest.mark.parametrize("kind", ["weightings", "timesteps"])
def test_everything_that_is_registered_is_documented(kind: str) -> None:
    names = {record.name for record in registry.records(kind) if record.distribution == "debiasctl"}
    tables = ["| name | written"] if kind == "weightings" else ["| name | density", "| name | q |"]
    described = {row[0].strip("`") for head in tables for row in rows(head)}
    assert names
    assert names <= described


def evaluated(formula: str, *, snr: torch.Tensor, letters: dict[str, float], slope: torch.Tensor) -> torch.Tensor:
    """A formula of the page as float64 [N]."""
    code = re.sub(r"√(min\([^)]*\)|\w+)", r"sqrt(\1)", formula).replace("^", "**").replace("·", "*").replace("²", "**2")
    functions = {
        "sqrt": torch.sqrt,
        "min": lambda value, bound: value.clamp(max=bound),
        "max": lambda value, bound: value.clamp(min=bound),
    }
    return eval(code, {"__builtins__": {}}, {**functions, **letters, "SNR": snr, "D": slope}) * torch.ones_like(snr)


@pytest.mark.parametrize("row", [row for row in rows("| name | written") if row[2] != "–"], ids=lambda row: row[0])
def test_formulas_are_the_weightings_own(row: list[str]) -> None:
    reference, space = row[0].strip("`"), row[1]
    process = schedule_process("cosine")
    weighting = registry.create("weightings", reference)
    assert weighting.space == space
    settled = weighting.at(WeightingContext(process.snr))
    slope = falling_slope(process.log_snr) * process.num_timesteps
    letters = LETTERS | OWN_LETTERS.get(reference, {})
    for unit, formula in zip(("eps", "x0", "v"), row[2:5], strict=True):
        found = evaluated(formula.strip("`"), snr=process.snr, letters=letters, slope=slope)
        torch.testing.assert_close(found, weight_in(settled, unit, snr=process.snr), rtol=1e-9, atol=0)


def test_options_that_the_page_states_are_the_defaults() -> None:
    stated = 0
    for row in (*rows("| name | written"), *rows("| name | density"), *rows("| name | q |")):
        name = row[0].strip("`").partition(":")[0]
        kind = "weightings" if len(row) == 7 else "timesteps"
        fields = registry.load(kind, name).Options.model_fields
        for option, value in re.findall(r"`(\w+)=([\w.-]+)`", row[-2]):
            default = fields[option].default
            assert str(default) == value or float(default) == float(value)
            stated += 1
    assert stated > 15


# ---------------------------------------------------------------- commands and the example


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's own package, installed."""
    (toml,) = re.findall(r'^(\S+) = "(\S+):\w+"$', "".join(blocks("toml")), re.MULTILINE)
    target = re.search(r'"(.+)"', "".join(blocks("toml")).splitlines()[1])
    assert target is not None
    write_distribution(
        tmp_path / "site",
        name="capped",
        version="1",
        entry_points={"debiasctl.weightings": {toml[0]: target[1]}},
        modules={toml[1]: "".join(blocks("python"))},
    )
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.delitem(sys.modules, toml[1], raising=False)
    monkeypatch.chdir(tmp_path)


COMMANDS = [shlex.split(line) for block in blocks("sh") for line in block.splitlines()]


@pytest.mark.usefixtures("example")
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[:5]))
def test_commands_do_what_they_say(command: list[str]) -> None:
    program, *arguments = command
    if program == "python":
        assert (ROOT / arguments[0]).is_file()
        return
    assert program == "debiasctl"
    if arguments[0] in ("train", "sample") and "--dry-run" not in arguments:
        parse(arguments)  # tests/test_docs_commands.py runs it
        return
    outcome = succeed(*arguments)
    assert outcome.out
    if "--out" in arguments:
        assert Path(arguments[-1]).stat().st_size > 10_000


@pytest.mark.usefixtures("example")
def test_the_example_is_debiased_with_a_cap() -> None:
    snr = torch.logspace(-6, 6, 25, dtype=torch.float64)
    mine = weight_in(registry.create("weightings", "capped-debiased"), "eps", snr=snr)
    debiased = weight_in(registry.create("weightings", "debiased"), "eps", snr=snr)
    torch.testing.assert_close(mine[snr <= 25], debiased[snr <= 25])
    torch.testing.assert_close((mine * snr)[snr >= 25], torch.full_like(snr[snr >= 25], 5.0))


def test_pictures_and_scripts_that_are_named_exist() -> None:
    named = re.findall(r"!\[[^]]*\]\(([^)]+)\)", PAGE)
    assert named
    assert all((SOURCE.parent / name).is_file() for name in named)


# ---------------------------------------------------------------- the measurement


def measured_rows() -> dict[tuple[str, int], list[tuple[float, float]]]:
    """Ratio and standard error of each way, by schedule and steps of training."""
    found = {}
    for schedule, steps, *cells, _ in rows("| schedule | steps trained |"):
        parts = [cell.partition(" ± ") for cell in cells]
        found[schedule, int(steps)] = [(float(value), float(error or 0)) for value, _, error in parts]
    return found


def test_the_measured_table_is_whole_and_no_way_undercuts_the_best(benchmark: ModuleType) -> None:
    found = measured_rows()
    assert set(found) == {(schedule, steps) for schedule in ("linear", "cosine") for steps in (0, 400, 2000)}
    for ways in found.values():
        assert len(ways) == len(benchmark.WAYS)
        assert ways[0] == (1.0, 0.0)
        best, error = ways[benchmark.WAYS.index("best")]
        drawn_singly = [ways[benchmark.WAYS.index(way)] for way in ("uniform", "importance", "loss-second-moment")]
        assert all(best <= value * 1.02 + 3 * (error + its) for value, its in drawn_singly)


def test_the_text_says_what_was_measured(benchmark: ModuleType) -> None:
    found = {
        row: {way: value for way, (value, _) in zip(benchmark.WAYS, ways, strict=True)}
        for row, ways in measured_rows().items()
    }
    assert found["linear", 0]["importance"] == pytest.approx(0.1, abs=0.02)  # "a tenth"
    assert 0.7 < found["linear", 400]["importance"] < 0.95  # "a little better"
    assert found["linear", 2000]["importance"] == pytest.approx(3, abs=0.2)  # "three times worse"
    assert found["linear", 2000]["best"] > 0.6  # "not much better"
    assert all(found["cosine", steps]["importance"] < 1 / 80 for steps in (0, 400, 2000))  # "80-fold and more"
    for steps in (400, 2000):
        assert found["linear", steps]["loss-second-moment"] == max(found["linear", steps].values())  # "the worst"
    assert all(ways["stratified"] < 1 for ways in found.values())  # "never worse"


def test_the_estimator_is_right_where_the_variances_are_known(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradients mean + spread(t) z in two dimensions, whose variances under every way have closed forms."""
    process = schedule_process("linear")
    mean, spread = torch.tensor([0.5, -1.0], dtype=torch.float64), torch.linspace(2, 0.5, 1000, dtype=torch.float64)
    norms = mean.square().sum() + 2 * spread**2
    ways = {way: registry.create("timesteps", way) for way in ("uniform", "importance")}
    ways["best"] = benchmark.Best(norms)
    debiased = registry.create("weightings", "debiased")
    objectives = {way: Objective(Parameterization("eps", process), debiased, q) for way, q in ways.items()}
    objectives["loss-second-moment"] = objectives["uniform"]
    generator, size = torch.Generator().manual_seed(0), benchmark.BATCH

    def sample_gradients(training, objective, steps):
        for _ in steps:
            draws = torch.rand(size, generator=generator, dtype=torch.float64)
            t = objective.draw(draws, shared=draws, positions=draws, batch_size=size, progress=0.0).timestep
            noise = torch.randn(size, 2, generator=generator, dtype=torch.float64)
            gradients = mean + spread[t, None] * noise
            yield benchmark.Sample(t, gradients.square().sum(dim=1), gradients.float())

    monkeypatch.setattr(benchmark, "sample_gradients", sample_gradients)
    training = SimpleNamespace(network=torch.nn.Linear(2, 1, bias=False))
    parts = [benchmark.measure_part(training, objectives, number=k, batches=80) for k in range(benchmark.PARTS)]
    found = benchmark.ratios(parts)

    weight = objectives["uniform"].tables().weight  # of mean 1, so that E g is `mean`
    expected = {
        way: float((weight**2 * norms / objective.tables().probability).sum() / 1e6 - mean.square().sum())
        for way, objective in objectives.items()
    }
    bound = float((weight * norms.sqrt()).mean() ** 2 - mean.square().sum())  # by Cauchy and Schwarz, whatever q is
    assert expected["best"] == pytest.approx(bound, rel=1e-9)
    stratum = ((torch.arange(1000) + 0.5) / 1000 * size).long()
    sums = torch.zeros(size, dtype=torch.float64).index_add_(0, stratum, weight / 1000)
    expected["stratified"] = float((weight**2 * norms).mean() - mean.square().sum() * size * sums.square().sum())
    for way in benchmark.WAYS:
        ratio = expected[way] / expected["uniform"]
        assert abs(found[way].value - ratio) <= 4 * found[way].error + 1e-12, way
        assert found[way].error < 0.03
    assert min(abs(found[way].value - 1) for way in ("importance", "stratified", "best")) > 0.2


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("steps", [0, 400])
def test_the_measurement_repeats(benchmark: ModuleType, schedule: str, steps: int) -> None:
    found = benchmark.measure(benchmark.trained(schedule, steps=steps), images=6400).ratios
    for way, (value, error) in zip(benchmark.WAYS, measured_rows()[schedule, steps], strict=True):
        assert abs(found[way].value - value) <= 0.1 * value + 4 * (found[way].error + error), way
