"""What comes with debiasctl keeps the laws of its kinds, as far as they can be checked without files or a network."""

from pathlib import Path

import pytest

from debiasctl import registry
from debiasctl.api import UsageError
from debiasctl.builtin.backbones.dit import DiT
from debiasctl.testing import check_backbone
from debiasctl.testing.kinds import examined

TRAINS = {"local", "local-ssl"}  # extractors, which take half a minute each
ELSEWHERE = {"ray", "slurm"}  # engines, which start a cluster or need one


def names(kind: str) -> list[str]:
    return [record.name for record in registry.records(kind) if record.distribution == "debiasctl"]


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in registry.KINDS for name in names(kind) if name not in TRAINS | ELSEWHERE],
)
def test_it_keeps_the_laws(kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a check leaves nothing where it is run, such as the lock of a download."""
    monkeypatch.chdir(tmp_path)
    results = list(examined(registry.find(kind, name), {}))
    assert [result for result in results if result.state == "failed"] == []
    assert all(result.detail for result in results if result.state == "not checked")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), [("features", "local"), ("features", "local-ssl"), ("engines", "ray")])
def test_it_keeps_the_laws_in_time(kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test_it_keeps_the_laws(kind, name, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("kind", "name", "options"),
    [
        ("weightings", "product", {"factors": ["p2", "min-snr"]}),
        ("weightings", "interpolate", {"p": 1, "p_end": 0, "until": 0.5}),
        ("timesteps", "loss-second-moment", {}),
        ("samplers", "ddim", {"eta": 0.5, "spacing": "karras"}),
        ("schedules", "flow", {"shift": 3}),
    ],
)
def test_with_options(kind: str, name: str, options: dict[str, object]) -> None:
    """Learned ones and states that adapt are among these laws."""
    results = list(examined(registry.find(kind, name), options))
    assert [result for result in results if result.state != "passed"] == []


def test_a_backbone_may_refuse_to_predict_the_variance() -> None:
    """It is checked with coloured images all the same."""
    built = set()

    class Plain(DiT):
        """A DiT for images alone."""

        def build(self, shape, num_classes):
            if shape.out_channels != shape.in_channels:
                raise UsageError("plain: leave out the variance")
            built.add((shape.in_channels, shape.out_channels))
            return super().build(shape, num_classes)

    check_backbone(Plain, {"hidden_size": 8, "depth": 1, "num_heads": 1})
    assert built == {(1, 1), (3, 3)}
