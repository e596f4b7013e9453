"""Stitched sampling where it is known which steps differ."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from debiasctl.analysis.book import Book
from debiasctl.analysis.denoisers import Stitched
from debiasctl.analysis.parts.part import Choices, Found
from debiasctl.analysis.parts.stitching import Stitching, cuts_of
from debiasctl.analysis.parts.stitching_figures import Measured, carried
from debiasctl.analysis.parts.stitching_images import thresholds_of
from debiasctl.analysis.record import AnalysisRecord, Network
from debiasctl.analysis.subject import Subject
from debiasctl.errors import UsageError
from debiasctl.evaluation.uncertainty.intervals import Jackknife
from debiasctl.registry.choices import complete
from debiasctl.registry.refs import parse_ref
from debiasctl.runs.store import Run
from debiasctl.specs.recorded import ContentSection
from tests.analysis.gaussian_subject import gaussian_subject
from tests.tiny import make_spec

STEPS = 10


@pytest.fixture(autouse=True)
def _quick_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features that need no training."""
    monkeypatch.setattr("debiasctl.evaluation.metrics.catalogue._DEFAULTS", (("pixels",), ("pixels",), ("inception",)))


def with_content(subject: Subject, **changes: object) -> Subject:
    """The subject with a spec that states its data's content."""
    channels, size, _ = subject.shape
    content = ContentSection(
        image_size=size, channels=channels, classes=(), class_counts=(), num_train=2048, num_heldout=256,
        content_hash="a" * 64,
    )  # fmt: skip
    return replace(subject, spec=subject.spec.model_copy(update={"content": content.model_copy(update=changes)}))


def pair(first: float = 0.0, rest: float = 0.0, at: float = 0.0, sampler: str = "ddim") -> tuple[Subject, Subject]:
    """A subject without a bias, and one with biases at log-SNRs below and above `at`."""
    one = gaussian_subject(sampler=f"{sampler}:clip_x0=false", steps=STEPS)
    two = gaussian_subject(
        lambda log_snr: first if log_snr < at else rest, sampler=f"{sampler}:clip_x0=false", steps=STEPS, name="b"
    )
    return with_content(one), with_content(two)


def measured(one: Subject, two: Subject, folder: Path, num: int = 128) -> Found:
    part = Stitching()
    return part.measure(one, (two,), part.settings(one, (two,), Choices(num=num)), Book(folder, identity="x"))


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "heun", "dpm-solver", "unipc"])
def test_stitching_a_network_with_itself_changes_nothing_and_the_ends_are_one_alone(sampler: str) -> None:
    one, two = pair(0.2, 0.1, sampler=sampler)
    thresholds = thresholds_of(one, range(STEPS + 1))
    positions = torch.arange(16)

    def draw(network: object) -> torch.Tensor:
        drawer = one.drawer(denoiser=network)  # type: ignore[arg-type]
        return drawer.batch(positions, on_step=lambda done, x, x0: None)

    alone, other = draw(one.denoiser), draw(two.denoiser)
    assert not alone.equal(other)
    for threshold in thresholds.values():
        assert draw(Stitched(one.denoiser, one.denoiser, threshold=threshold)).equal(alone)
    assert draw(Stitched(one.denoiser, two.denoiser, threshold=thresholds[0])).equal(other)
    assert draw(Stitched(one.denoiser, two.denoiser, threshold=thresholds[STEPS])).equal(alone)
    between = draw(Stitched(one.denoiser, two.denoiser, threshold=thresholds[4]))
    assert not between.equal(alone)
    assert not between.equal(other)


def test_the_upper_network_makes_as_many_steps_as_the_cut_says() -> None:
    one, two = pair()
    for cut, threshold in thresholds_of(one, range(STEPS + 1)).items():
        one.denoiser.nfe = two.denoiser.nfe = 0
        one.drawer(denoiser=Stitched(one.denoiser, two.denoiser, threshold=threshold)).batch(
            torch.arange(4), on_step=lambda done, x, x0: None
        )
        assert (one.denoiser.nfe, two.denoiser.nfe) == (cut, STEPS - cut)


def test_the_steps_that_differ_carry_the_difference(tmp_path: Path) -> None:
    one, two = pair(rest=0.2, at=2.0)
    found = {quantity.name: quantity for quantity in measured(one, two, tmp_path).quantities}
    whole = found["stitched_change[mean_shift_r]"]
    assert whole.low is not None
    assert whole.low > 0.1
    names = [name for name in found if name.startswith("stitched_change[mean_shift_r, ")]
    assert [name.partition(", ")[2] for name in names] == ["step 1]", "step 2]", "steps 3-5]", "steps 6-10]"]
    assert sum(found[name].value for name in names) == pytest.approx(whole.value, abs=1e-9)
    for name in names[:3]:
        assert found[name].value == pytest.approx(0.0, abs=1e-3)  # before log-SNR 2 they are the same
    share = found["stitched_share[mean_shift_r, steps 6-10]"]
    assert share.value == pytest.approx(1.0, abs=0.01)
    assert share.low is not None
    assert share.high is not None
    assert share.low <= 1 <= share.high
    assert share.high - share.low < 0.1


def test_a_run_beside_itself_has_nothing_to_carry(tmp_path: Path) -> None:
    one, _ = pair()
    found = measured(one, one, tmp_path)
    changes = [quantity for quantity in found.quantities if quantity.name.startswith("stitched_change")]
    assert changes
    assert all(quantity.value == 0 and quantity.low == 0 == quantity.high for quantity in changes)
    assert not any(quantity.name.startswith("stitched_share") for quantity in found.quantities)


def test_an_interrupted_measurement_draws_what_is_missing_alone(tmp_path: Path) -> None:
    one, two = pair(0.2)
    whole = measured(one, two, tmp_path)
    sorted(tmp_path.iterdir())[3].unlink()
    one.denoiser.nfe = two.denoiser.nfe = 0
    assert measured(one, two, tmp_path).quantities == whole.quantities
    assert one.denoiser.nfe + two.denoiser.nfe <= 2 * STEPS


def test_findings_name_the_steps_and_pictures_are_drawn(tmp_path: Path) -> None:
    one, two = pair(rest=0.2, at=2.0)
    part = Stitching()
    found = measured(one, two, tmp_path)
    networks = [
        Network(run=name, run_identity=None, arm=name, checkpoint=1, weights="ema", weights_sha256=name)
        for name in ("a", "b")
    ]
    record = AnalysisRecord(
        schema_version=1, debiasctl="0", part="stitching", network=networks[0], others=networks[1:], content_hash="h",
        settings=part.settings(one, (two,), Choices(num=128)), quantities=found.quantities, series=found.series,
        images=[], notes=found.notes,
    )  # fmt: skip
    said = next(text for text in part.findings(record) if "mean_shift_r " in text)
    assert said.startswith("From 'a' to 'b', mean_shift_r changes by +0.")
    assert "steps 6-10 +0." in said
    assert "% of the whole" in said
    for records in ([record], [record, record]):
        pictures = part.pictures(records, [{}] * len(records))
        assert [one.name for one in pictures] == ["stitching", "stitching-carried"]
        for picture in pictures:
            picture.draw("column")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"content_hash": "b" * 64}, "different images"),
        ({"conditional": True}, "only 'b' is given classes"),
        ({"schedule": "linear"}, "their schedules differ"),
        ({"image_size": 16}, "images are of"),
    ],
)
def test_runs_that_do_not_fit_are_refused(changes: dict[str, object], message: str) -> None:
    one, two = pair()
    if "content_hash" in changes:
        two = with_content(two, **changes)
    elif "conditional" in changes:
        spec = make_spec(model__conditional=True).model_copy(update={"content": two.spec.content})
        two = replace(two, spec=spec, run=Run(Path("runs") / "b"))
    elif "schedule" in changes:
        two = with_content(gaussian_subject(schedule="linear", steps=STEPS, name="b"))
    else:
        info = replace(two.data.info, image_size=16)
        two = replace(two, data=replace(two.data, info=info))
    with pytest.raises(UsageError, match=message) as refused:
        Stitching().settings(one, (two,), Choices())
    assert "'a' and 'b' cannot be stitched" in str(refused.value)


def test_a_sampler_that_adds_noise_before_a_step_is_refused() -> None:
    one, two = pair()
    churned = replace(one.request, sampler=complete("samplers", parse_ref("heun:s_churn=20")))
    with pytest.raises(UsageError, match="s_churn"):
        Stitching().settings(replace(one, request=churned), (two,), Choices())


def test_networks_are_exchanged_closer_together_where_the_noise_is_most() -> None:
    assert cuts_of(50) == [0, 1, 5, 12, 25, 50]
    assert cuts_of(2) == [0, 1, 2]
    assert cuts_of(1) == [0, 1]


def test_what_ranges_carry_is_covered_by_its_interval() -> None:
    """Means of correlated normal figures: nominal 95 %."""
    generator, hits, trials = np.random.default_rng(0), 0, 400
    for _ in range(trials):
        shared = generator.normal(size=(20, 1))
        groups = shared + 0.3 * generator.normal(size=(20, 3)) + np.array([0.0, 1.0, 3.0])

        def figure(column: int, groups: np.ndarray = groups) -> Measured:
            pseudo = [float(value) for value in groups[:, column]]
            return Measured(float(np.mean(pseudo)), 0.0, 0.0, Jackknife(pseudo, [0.0] * 20))

        this = {0: figure(2), 1: figure(1), 2: figure(0)}
        other = {0: figure(0), 1: figure(1), 2: figure(2)}
        _, ranges = carried(this, other)
        limits = ranges[0].share_limits
        hits += limits is not None and limits[0] <= 0.5 <= limits[1]
    assert 0.92 <= hits / trials <= 0.98
