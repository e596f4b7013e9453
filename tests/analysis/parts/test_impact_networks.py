"""Impact and stitching of real networks: every prediction type, classes, guidance and a learned variance."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from debiasctl.analysis.book import Book
from debiasctl.analysis.denoisers import Stitched
from debiasctl.analysis.parts.impact import Impact
from debiasctl.analysis.parts.part import Choices
from debiasctl.analysis.parts.stitching_images import thresholds_of
from debiasctl.analysis.subject import Subject
from debiasctl.diffusion.denoiser import NetworkDenoiser
from debiasctl.models.build import build_network, build_parameterization
from debiasctl.registry.choices import complete
from debiasctl.registry.refs import parse_ref
from debiasctl.runs.store import Run
from debiasctl.sampling.request import SampleRequest
from debiasctl.specs.recorded import ContentSection
from tests.tiny import digits, make_spec, randomize

CASES: dict[str, dict[str, Any]] = {
    "eps": {"model__prediction": "eps"},
    "x0": {"model__prediction": "x0"},
    "v": {"model__prediction": "v", "diffusion__schedule": "cosine:zero_terminal_snr=true"},
    "edm": {"model__prediction": "edm"},
    "flow": {"model__prediction": "flow", "diffusion__schedule": "flow"},
    "guided": {"model__label_dropout": 0.1, "sampler": "ddim:guidance=2"},
    "learned variance": {"model__learned_variance": True, "sampler": "ddpm"},
    "no classes": {"model__conditional": False},
    "one class": {"label": 3},
}


def network_subject(*, sampler: str = "ddim", label: int | None = None, **settings: Any) -> Subject:
    spec, data = make_spec(**settings), digits()
    info = data.info
    counts = tuple(int((data.train.labels(torch.arange(len(data.train))) == k).sum()) for k in range(10))
    content = ContentSection(
        image_size=info.image_size, channels=info.channels, classes=info.classes, class_counts=counts,
        num_train=info.num_train, num_heldout=info.num_heldout, content_hash=data.content_hash,
    )  # fmt: skip
    spec = spec.model_copy(update={"content": content})
    network = build_network(spec, image_size=8, channels=1, num_classes=10).eval()
    randomize(network)
    null = 10 if spec.model.label_dropout else None
    denoiser = NetworkDenoiser(network, build_parameterization(spec), null_label=null)
    request = SampleRequest(1, 3, complete("samplers", parse_ref(sampler)), 0, 0, "ema", label)
    return Subject(Run(Path("runs") / "a"), spec, "a", request, data, torch.device("cpu"), "0", denoiser)


@pytest.mark.parametrize("case", CASES)
def test_impact_of_every_kind_of_network(tmp_path: Path, case: str) -> None:
    part, subject = Impact(), network_subject(**CASES[case])
    settings = part.settings(subject, (), Choices(num=20, trajectories=(2,)))
    found = part.measure(subject, (), settings, Book(tmp_path, identity="x"))
    assert all(value is not None for one in found.series for value in one.value)
    names = {one.name for one in found.quantities}
    assert {"final_mean_shift[T=2]", "image_distance[T=2]", "training_bias[log_snr above 2]"} <= names
    assert {"estimate_drift[T=3]", "exposure_bias", "exposure_power[1 cycles]"} <= {one.name for one in found.series}
    assert settings["forced_images"] == 20


@pytest.mark.parametrize("case", CASES)
def test_a_network_stitched_with_itself_draws_the_same_bits(case: str) -> None:
    subject = network_subject(**CASES[case])
    positions = torch.arange(4)
    alone = subject.drawer().batch(positions, on_step=lambda done, x, x0: None)
    for threshold in thresholds_of(subject, range(4)).values():
        stitched = Stitched(subject.denoiser, subject.denoiser, threshold=threshold)
        assert subject.drawer(denoiser=stitched).batch(positions, on_step=lambda done, x, x0: None).equal(alone)


def test_noises_are_the_same_for_all_runs(tmp_path: Path) -> None:
    part, one = Impact(), network_subject()
    other = network_subject()
    with torch.no_grad():
        for parameter in other.denoiser.network.parameters():
            parameter.mul_(0)  # which estimates eps = 0, so that the finished image is the first noise, scaled
    settings = part.settings(one, (), Choices(num=16, trajectories=()))
    drawn = part.measure(other, (), settings, Book(tmp_path, identity="x")).images["same_noise_3"]
    noise = one.drawer().noise(torch.arange(12), step=0)
    assert torch.equal(torch.from_numpy(drawn).sign(), noise.sign().double())
    assert replace(one.request, seed=0) == one.request
