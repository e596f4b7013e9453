"""Training on latents: it is the same training, of other data, and the run keeps what decodes them."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import assert_same_end, digits, make_spec, metrics, same_state, stored_state

from debiasctl.api import DataLocation
from debiasctl.data import latents
from debiasctl.data.pixels import to_model_space
from debiasctl.errors import DataError, Interrupted, RunError, SpecError, TrainingError
from debiasctl.models.latent_space import latent_space, trained_data
from debiasctl.runs.store import Run
from debiasctl.sampling import make_request, sample
from debiasctl.specs.sections import RunSpec
from debiasctl.training import session
from debiasctl.training.conduct import Conduct
from debiasctl.training.monitor import Monitor

PCA = "pca:patch=2,components=3"
CPU = torch.device("cpu")


@pytest.fixture
def location(tmp_path: Path) -> DataLocation:
    return DataLocation(data_dir=None, cache_dir=tmp_path / "cache")


def latent_spec(autoencoder: str = PCA, **settings: Any) -> RunSpec:
    return make_spec(data__autoencoder=autoencoder, **settings)


def begin(name: str, spec: RunSpec, location: DataLocation, **conduct: Any) -> Run:
    return session.start(spec, location, name=name, conduct=Conduct(device="cpu", **conduct))


def test_without_an_autoencoder_specs_and_keys_are_those_of_before() -> None:
    dumped = make_spec().model_dump(mode="json")
    assert set(dumped["data"]) == {"dataset", "horizontal_flip"}
    run_spec = make_spec().model_copy(update={"content": session.content_section(digits())})
    assert "latents" not in run_spec.model_dump(mode="json")["content"]


@pytest.mark.parametrize("flip", [False, True])
def test_the_identity_changes_no_bit_of_a_training(flip: bool, location: DataLocation) -> None:
    settings = {"data__horizontal_flip": flip, "training__steps": 2, "model__prediction": "edm"}
    plain, same = (
        begin("plain", make_spec(**settings), location),
        begin("same", latent_spec("identity", **settings), location),
    )
    assert same_state(stored_state(plain, 2), stored_state(same, 2))
    assert metrics(plain) == metrics(same)
    drawn = [_drawn(run, sampler="ddim:clip_x0=true") for run in (plain, same)]
    assert torch.equal(drawn[0], drawn[1])


def _drawn(run: Run, *, sampler: str = "ddim", batch_size: int = 20) -> torch.Tensor:
    spec = run.spec()
    request = make_request(
        run, spec, num=20, num_steps=2, sampler=sampler, seed=0, checkpoint=None, weights="ema", class_name=None
    )
    return sample(run, spec, request, device=CPU, batch_size=batch_size).images


def test_a_training_on_latents_is_resumed_bit_for_bit_from_what_the_run_keeps(location: DataLocation) -> None:
    whole = begin("whole", latent_spec(data__horizontal_flip=True), location)
    with pytest.raises(Interrupted):
        begin("cut", latent_spec(data__horizontal_flip=True), location, max_hours=1e-9)
    cut = Run(whole.path.with_name("cut"))
    for file in location.cache_dir.rglob("latents.f32"):
        file.unlink()  # as on another machine
    session.resume(cut, location, steps=None, conduct=Conduct(device="cpu"))
    assert_same_end(whole, cut)
    section = whole.spec().latents
    assert section is not None
    assert (section.channels, section.size, len(section.sha256), section.bounded) == (3, 4, 64, False)
    assert (cut.path / "autoencoder.safetensors").is_file()


def test_a_signal_while_images_are_encoded_says_that_what_was_done_is_kept(
    location: DataLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("debiasctl.data.latents._encoded", stopped)
    with pytest.raises(Interrupted, match="what was encoded is kept; repeat the command to resume") as caught:
        begin("a", latent_spec(), location)
    assert caught.value.exit_code == 128 + signal.SIGTERM


def test_a_lack_of_memory_while_images_are_encoded_again_is_reported(
    location: DataLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin("a", latent_spec(training__steps=1), location)

    def lack(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("debiasctl.data.latents._encoded", lack)
    elsewhere = DataLocation(data_dir=None, cache_dir=location.cache_dir / "elsewhere")
    with pytest.raises(TrainingError, match=r"out of memory while the images are encoded\. Choose fewer or smaller"):
        session.resume(run, elsewhere, steps=2, conduct=Conduct(device="cpu"))


def test_samples_are_decoded_images_whatever_the_batch(location: DataLocation) -> None:
    run = begin("a", latent_spec(training__steps=1), location)
    images = _drawn(run, batch_size=20)
    assert (images.shape, images.dtype) == ((20, 1, 8, 8), torch.uint8)
    described = json.loads(next(run.samples_dir.glob("*/samples.json")).read_text())
    assert described["sampler"]["options"]["clip_x0"] is False
    for path in run.samples_dir.glob("*/*"):
        path.unlink()
    assert torch.equal(_drawn(run, batch_size=7), images)
    with pytest.raises(SpecError, match="clip_x0=True clips estimates to the range of images"):
        _drawn(run, sampler="ddim:clip_x0=true")


def test_what_the_run_keeps_decodes_what_training_encoded(location: DataLocation) -> None:
    run = begin("a", latent_spec("pca:patch=2,components=4", training__steps=1), location)
    space = latent_space(run, run.spec(), device=CPU)
    assert space is not None
    data = trained_data(run.spec(), digits(), space, cache_dir=location.cache_dir)
    indices = torch.arange(5)
    decoded, images = space.decode(data.heldout.images(indices)), to_model_space(digits().heldout.images(indices))
    torch.testing.assert_close(decoded, images, atol=1e-5, rtol=0)


@pytest.mark.parametrize("how", ["missing", "cut", "other"])
def test_a_damaged_autoencoder_of_a_run_is_noticed(how: str, location: DataLocation) -> None:
    run = begin("a", latent_spec(training__steps=1), location)
    path = run.path / "autoencoder.safetensors"
    data = path.read_bytes()
    path.unlink()
    if how != "missing":
        path.write_bytes(data[:-3] if how == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
    wanted = {"missing": "No such file", "cut": "it is damaged", "other": "does not match the SHA-256"}[how]
    with pytest.raises(RunError, match=rf"the autoencoder of run 'a' cannot be used: .*{wanted}"):
        _drawn(run)


def test_a_spec_of_another_autoencoder_is_refused(location: DataLocation) -> None:
    spec = begin("a", latent_spec(training__steps=1), location).spec()
    latents_section = spec.latents
    assert latents_section is not None
    assert spec.content is not None
    other = spec.content.model_copy(update={"latents": latents_section.model_copy(update={"sha256": "0" * 64})})
    with pytest.raises(DataError, match="autoencoder 'pca' is not the one that this spec was made for"):
        begin("b", spec.model_copy(update={"content": other}), location)


def test_the_monitor_measures_decoded_images(location: DataLocation) -> None:
    spec = latent_spec(training__steps=2, monitor={"every": 16, "num": 16, "steps": 2, "features": "pixels", "grid": 4})
    run = begin("a", spec, location, observer=Monitor)
    (record,) = [one for one in metrics(run) if "sampler" in one]
    assert "fd_pixels" in record["metrics"]
    assert (run.grids_dir / "00000002.png").is_file()


def test_edm_is_told_the_deviation_of_standardised_latents() -> None:
    assert latent_spec(model__prediction="edm").model.sigma_data == 1.0
    assert latent_spec(model__prediction="edm", model__sigma_data=0.7).model.sigma_data == 0.7
    assert latent_spec("identity", model__prediction="edm").model.sigma_data == 0.5
    assert latent_spec(model__prediction="v").model.sigma_data == 0.5  # without effect there


def test_the_cache_is_keyed_by_the_autoencoder(location: DataLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    def keys() -> int:
        return len(list((location.cache_dir / "latents").glob("*")))

    begin("a", latent_spec(training__steps=1), location)
    begin("b", latent_spec(training__steps=1, training__seed=1), location)
    assert keys() == 1
    begin("c", latent_spec("pca:patch=2,components=2", training__steps=1), location)
    assert keys() == 2
    monkeypatch.setattr(latents, "VERSION", latents.VERSION + 1)
    begin("d", latent_spec(training__steps=1), location)
    assert keys() == 3
