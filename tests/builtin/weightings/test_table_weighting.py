from pathlib import Path

import pytest
import torch
from weighting_cases import make, process, settled

from debiasctl import registry
from debiasctl.api import WeightingContext
from debiasctl.errors import DebiasctlError, PluginOptionsError, UsageError


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def csv(header: str, x: torch.Tensor, weight: torch.Tensor) -> str:
    rows = zip(x.tolist(), weight.tolist(), strict=True)
    return "\n".join([header, *(f"{first!r},{second!r}" for first, second in rows)]) + "\n"


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_table_of_snr_is_its_curve_at_its_rows(tmp_path: Path, schedule: str) -> None:
    snr = process(schedule).snr
    path = write(tmp_path / "curve.csv", csv("snr,weight", snr[::37], snr[::37].rsqrt()))
    table = settled(f"table:path='{path}'", schedule)
    torch.testing.assert_close(table(snr[::37]), make("debiased")(snr[::37]), rtol=1e-12, atol=0)
    ends = snr[[37, 74]]
    middle = ends.prod().sqrt()  # half way in log SNR
    torch.testing.assert_close(table(middle), ends.rsqrt().mean(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("schedule", ["linear", "cosine:zero_terminal_snr=true"])
def test_a_table_of_t_is_its_curve_at_its_rows(tmp_path: Path, schedule: str) -> None:
    snr = process(schedule).snr.clamp(min=1e-20)
    t = torch.arange(0, 1000, 37)  # the last is 999
    path = write(tmp_path / "curve.csv", csv("t,weight", t, snr[t].rsqrt()))
    table = settled(f"table:path='{path}',space=x0", schedule)
    assert table.space == "x0"
    weight = table(snr)
    torch.testing.assert_close(weight[t], snr[t].rsqrt(), rtol=1e-12, atol=0)
    torch.testing.assert_close(weight[47], torch.lerp(weight[37], weight[74], 10 / 37), rtol=1e-12, atol=0)
    half = table((snr[50] * snr[51]).sqrt())
    torch.testing.assert_close(half, (weight[50] + weight[51]) / 2, rtol=1e-12, atol=0)


def test_the_order_of_rows_and_the_files_dress_do_not_matter(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain.csv", "snr,weight\n0,1\n1,2\n1e20,5\n")
    dressed = write(tmp_path / "dressed.csv", "\ufeffsnr , weight\r\n1e20,5\r\n\r\n 1,2.0\r\n0.0, 1\r\n")
    snr = process("linear").snr
    assert torch.equal(settled(f"table:path='{plain}'")(snr), settled(f"table:path='{dressed}'")(snr))


def test_a_stored_table_needs_no_file(tmp_path: Path) -> None:
    path = write(tmp_path / "curve.csv", "snr,weight\n0,1\n1,0.1\n1e20,5\n")
    resolved = registry.resolve("weightings", f"table:path='{path}'")
    stored = resolved.options.model_dump(mode="json")
    assert stored == {
        "path": str(path), "space": "eps", "axis": "snr", "points": [[0.0, 1.0], [1.0, 0.1], [1e20, 5.0]]
    }  # fmt: skip
    path.unlink()
    assert registry.resolve("weightings", {"name": "table", "options": stored}).options == resolved.options


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no such file. Give a CSV with the header 'snr,weight' or 't,weight'"),
        ("", "its header is ''. It must be 'snr,weight' or 't,weight'"),
        ("weight,snr\n1,1\n2,2\n", "its header is 'weight,snr'. It must be 'snr,weight' or 't,weight'"),
        ("1,1\n2,2\n", "its header is '1,1'"),
        ("snr,weight\n1,1\n\n2,x\n", "row 4: '2,x' is not two finite numbers"),
        ("snr,weight\n1,1\n2\n", "row 3: '2' is not two finite numbers"),
        ("snr,weight\n1,1,1\n2,2\n", "row 2: '1,1,1' is not two finite numbers"),
        ("snr,weight\n1,nan\n2,2\n", "row 2: '1,nan' is not two finite numbers"),
        ("snr,weight\ninf,1\n2,2\n", "row 2: 'inf,1' is not two finite numbers"),
        ("snr,weight\n1,1\n2,-0.5\n", "has weight -0.5 at snr 2; weights must be finite and not negative"),
        ("snr,weight\n-1,1\n2,1\n", "has a row for snr -1; snr must be 0 or above"),
        ("t,weight\n-1,1\n2,1\n", "has a row for t -1; t must be a whole number, 0 or above"),
        ("t,weight\n0,1\n2.5,1\n", "has a row for t 2.5; t must be a whole number, 0 or above"),
        ("snr,weight\n1,1\n2,1\n1.0,3\n", "has two rows for snr 1. Give each snr once"),
        ("snr,weight\n0,1\n2,1\n1e-25,3\n", "has two rows for snr 1e-25. Give each snr once"),
        ("t,weight\n7,1\n7,1\n", "has two rows for t 7. Give each t once"),
        ("snr,weight\n", "has 0 rows. It needs at least 2"),
        ("snr,weight\n1,1\n", "has 1 row. It needs at least 2"),
    ],
)
def test_a_file_that_is_no_table(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "Curve.csv"
    if text is not None:
        write(path, text)
    with pytest.raises(PluginOptionsError) as caught:
        make(f"table:path='{path}'")
    assert str(caught.value).startswith(f"weighting 'table': table {path}")
    assert message in str(caught.value).splitlines()[0]


def test_what_is_no_text_file(tmp_path: Path) -> None:
    with pytest.raises(PluginOptionsError, match="cannot be read"):
        make(f"table:path='{tmp_path}'")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(PluginOptionsError, match="is not CSV text"):
        make(f"table:path='{tmp_path / 'picture.png'}'")


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("table", "option 'path' is required"),
        ("table:path=null", "give path, a CSV file with the header 'snr,weight' or 't,weight'"),
        ("table:points=[[0,1],[1,2]]", "points need axis: snr or t"),
        ("table:axis=t,points=[[0,1],[0.5,2]]", "table of points has a row for t 0.5"),
        ("table:path=FILE,axis=t", "has the axis snr in its header, not t. Leave axis out"),
        ("table:path=FILE,space=edm", "space: input should be 'eps', 'x0', 'v' or 'flow'"),
    ],
)
def test_options_that_do_not_fit_together(tmp_path: Path, ref: str, message: str) -> None:
    path = write(tmp_path / "curve.csv", "snr,weight\n0,1\n1,2\n")
    with pytest.raises(PluginOptionsError) as caught:
        make(ref.replace("FILE", str(path)))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("ref", "schedule", "message"),
    [
        ("table:axis=snr,points=[[1e-9,1],[100,1]]", "linear", "SNR 1e-09 to 100, but the schedule has SNR 4.036e"),
        ("table:axis=snr,points=[[1e-2,1],[1e9,1]]", "linear", "SNR 0.01 to 1e+09, but the schedule has SNR 4.036e"),
        (
            "table:axis=snr,points=[[1e-9,1],[1e9,1]]", "linear:zero_terminal_snr=true",
            "the schedule has SNR 1e-20 to 9999. Add rows for the rest (snr 0 is allowed), or choose another schedule",
        ),
        ("table:axis=t,points=[[0,1],[499,1]]", "linear", "covers t 0 to 499, but the schedule has t 0 to 999"),
        ("table:axis=t,points=[[1,1],[999,1]]", "linear", "covers t 1 to 999, but the schedule has t 0 to 999. Add"),
    ],
)  # fmt: skip
def test_a_schedule_beyond_the_table(ref: str, schedule: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        settled(ref, schedule)
    assert message in str(caught.value)


def test_between_the_last_level_and_half_a_step_beyond_the_end_values_hold() -> None:
    snr = process("linear").snr
    for ref in (f"table:axis=snr,points=[[{snr[-1]},3],[{snr[0]},2]]", "table:axis=t,points=[[0,2],[999,3]]"):
        assert settled(ref)(torch.stack([snr[0] * 1.1, snr[-1] / 1.1])).tolist() == [2, 3]


def test_a_table_written_with_four_digits_reaches_its_schedules_ends() -> None:
    snr = process("linear").snr
    assert settled(f"table:axis=snr,points=[[{snr[-1]:.4g},3],[{snr[0]:.4g},2]]")(snr[0]).item() == 2
    with pytest.raises(UsageError, match="covers SNR"):
        settled(f"table:axis=snr,points=[[{snr[-1] * 1.01},3],[{snr[0]},2]]")


def test_without_a_schedule() -> None:
    snr = torch.tensor([0.5, 3.0], dtype=torch.float64)
    table = make("table:axis=snr,points=[[0.1,1],[10,2]]")
    assert torch.equal(table(snr), table.at(WeightingContext(snr))(snr))
    with pytest.raises(UsageError, match=r"covers SNR 0.1 to 10, but the schedule has SNR 0.5 to 30"):
        table(snr * torch.tensor([1, 10]))
    with pytest.raises(DebiasctlError, match="is given by t, and so depends on the schedule"):
        make("table:axis=t,points=[[0,1],[10,2]]")(snr)
