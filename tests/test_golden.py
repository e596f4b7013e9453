"""The golden vectors are those of the code, hold what the page on them promises, and its example runs."""

import json
import math
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from debiasctl import registry

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docs" / "golden" / "weights.json"
PAGE = (ROOT / "docs" / "reference" / "golden.md").read_text(encoding="utf-8")
GOLDEN: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def make() -> ModuleType:
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("golden_make", ROOT / "docs" / "golden" / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_file_is_what_the_code_gives(make: ModuleType) -> None:
    found = make.difference(GOLDEN, make.made())
    assert found is None, f"docs/golden/weights.json is out of date ({found}); {make.AGAIN}"


def test_a_weight_that_has_drifted_is_found(
    make: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drifted = json.loads(json.dumps(GOLDEN))
    drifted["at_snr"]["weights"]["debiased"]["v"][3] *= 1 + 1e-11
    monkeypatch.setattr(make, "FILE", tmp_path / "weights.json")
    monkeypatch.setattr(make, "made", lambda: GOLDEN)
    make.FILE.write_text(json.dumps(drifted), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["make.py", "--check"])
    assert make.main() == 1
    said = capsys.readouterr().err
    assert "at_snr.weights.debiased.v[3]" in said
    assert "python docs/golden/make.py" in said
    monkeypatch.setattr(sys, "argv", ["make.py"])
    assert make.main() == 0
    assert make.FILE.read_bytes() == FILE.read_bytes()


def test_every_built_in_scheme_and_schedule_is_there_or_its_absence_is_explained() -> None:
    for kind, names in (
        ("weightings", {*GOLDEN["schemes"], *GOLDEN["left_out"]}),
        ("schedules", set(GOLDEN["schedules"])),
    ):
        built_in = {record.name for record in registry.records(kind) if record.distribution == "debiasctl"}
        assert built_in
        assert built_in <= names
    assert FILE.stat().st_size < 2**20


def test_one_loss_in_every_unit() -> None:
    """Every place's weights obey the conversions that the file states, computed here without the package."""
    factors = {"eps": lambda s: s, "x0": lambda s: 1.0, "v": lambda s: s + 1, "edm": lambda s: s + 4.0,
               "flow": lambda s: (1 + math.sqrt(s)) ** 2 if s > GOLDEN["snr_min"] else 1.0}  # fmt: skip
    assert set(GOLDEN["w_x0_per_unit"]) <= set(factors)
    for place in (GOLDEN["at_snr"], *GOLDEN["schedules"].values()):
        assert min(place["snr"]) >= GOLDEN["snr_min"]
        for units in place["weights"].values():
            for unit, weights in units.items():
                for snr, weight, x0 in zip(place["snr"], weights, units["x0"], strict=True):
                    assert weight * factors[unit](snr) == pytest.approx(x0, rel=1e-12)


def test_known_weights_are_the_papers() -> None:
    snr, weights = GOLDEN["at_snr"]["snr"], GOLDEN["at_snr"]["weights"]
    assert snr == [float(f"1e{power}") for power in range(-8, 9)]
    assert weights["debiased"]["eps"] == pytest.approx([s**-0.5 for s in snr], rel=1e-12)
    assert weights["min-snr"]["v"] == pytest.approx([min(s, 5) / (s + 1) for s in snr], rel=1e-12)
    assert weights["edm"]["edm"] == pytest.approx([1] * 17, rel=1e-12)
    linear = GOLDEN["schedules"]["linear"]
    assert linear["snr"][0] == pytest.approx(9999, rel=1e-9)
    assert linear["mean"]["debiased"]["eps"] == pytest.approx(17.82, abs=0.005)


def test_the_example_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    (tmp_path / "weights.json").write_bytes(FILE.read_bytes())
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(code, "golden.md", "exec"), names)
    names["test_min_snr_on_v"]()
    names["my_weights"] = lambda snr, gamma: [min(s + 1, gamma) / (s + 1) for s in snr]
    with pytest.raises(AssertionError):
        names["test_min_snr_on_v"]()


def test_the_page_names_the_keys() -> None:
    assert {key for key in GOLDEN if f"| `{key}` |" not in PAGE} == {"about"}
