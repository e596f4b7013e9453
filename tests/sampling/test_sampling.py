import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import BACKBONE, error_of, make_spec, resume, succeed, train, write_distribution

from debiasctl.errors import RunError, UnknownPluginError, UsageError
from debiasctl.runs.store import Run
from debiasctl.sampling import SampleRequest, Samples, class_index, labels_of, make_request, sample
from debiasctl.sampling.description import Description, Origin
from debiasctl.sampling.drawing import Drawer, check_batch_size
from debiasctl.sampling.samples import Networks
from debiasctl.specs.recorded import ContentSection
from debiasctl.specs.sections import RunSpec

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose raw and averaged weights differ much."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEBIASCTL_HOME", str(tmp_path_factory.mktemp("store")))
        spec = make_spec(training__steps=30, training__checkpoint_every=15, optimizer__lr=0.02, optimizer__decay="none",
                         model__backbone=f"{BACKBONE},dropout=0.5")  # fmt: skip
        return train("run", spec).path


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Run:
    return Run(Path(shutil.copytree(trained, tmp_path / "run")))


def request(run: Run, **changes) -> SampleRequest:
    settings = {"num": 6, "num_steps": 3, "sampler": "ddpm", "seed": 0, "checkpoint": None, "weights": "ema"}
    return make_request(run, run.spec(), **settings | changes)


def draw(run: Run, batch_size: int = 64, on_progress=None, **changes) -> Samples:
    found = request(run, **changes)
    return sample(run, run.spec(), found, device=CPU, batch_size=batch_size, on_progress=on_progress)


def kept(run: Run) -> list[str]:
    """The finished requests' folders."""
    return sorted(path.name for path in run.samples_dir.glob("[!.]*"))


@pytest.mark.parametrize("sampler", ["ddim", "ddim:eta=1", "ddpm"])
def test_an_image_depends_on_seed_and_index_alone(run: Run, sampler: str) -> None:
    few = draw(run, num=5, batch_size=2, sampler=sampler)
    assert few.images.shape == (5, 1, 8, 8)
    assert few.labels.shape == (5,)
    shutil.rmtree(run.samples_dir)
    many = draw(run, num=9, batch_size=64, sampler=sampler)
    assert not many.reused
    assert torch.equal(few.images, many.images[:5])
    assert torch.equal(few.labels, many.labels[:5])
    other = draw(run, num=5, seed=1, sampler=sampler)
    assert (other.images.int() - few.images.int()).abs().float().mean() > 5
    assert not any(torch.equal(many.images[i], many.images[j]) for i in range(9) for j in range(i))


def test_without_a_seed_a_run_is_sampled_with_its_training_seed(run: Run) -> None:
    """Runs of one arm would share the sampling error of a common seed, and it would not average out over them."""
    settings = {"num": 2, "num_steps": 1, "sampler": "ddim", "checkpoint": None, "weights": "ema", "seed": None}
    spec = run.spec()
    assert make_request(run, spec, **settings).seed == 0
    spec = spec.model_copy(update={"training": spec.training.model_copy(update={"seed": 5})})
    assert make_request(run, spec, **settings).seed == 5
    assert make_request(run, spec, **settings | {"seed": 0}).seed == 0


def test_a_batch_that_can_never_fit_is_refused_with_one_that_fits(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("debiasctl.sampling.drawing.total_memory", lambda device: 10**9)
    monkeypatch.setattr(Networks, "get", lambda *_, **__: pytest.fail("a network is loaded"))
    message = r"`batch_size=1000000000000`: 100,000 images at a time take about 25\.6 GB .* at most about 3,906, or"
    with pytest.raises(UsageError, match=message):
        draw(run, batch_size=10**12, num=10**5)
    with pytest.raises(UsageError, match="2 images at a time"):
        check_batch_size(10**12, 2, (3, 2**10, 2**10), CPU)
    check_batch_size(10**12, 1, (1, 8, 8), CPU)  # no more than there are to draw


def test_a_sampler_is_given_noise_for_each_image_and_step(run: Run, tmp_path: Path, monkeypatch) -> None:
    code = """
import torch
from debiasctl.api import Sampler

SEEN = []


class Spy(Sampler):
    \"\"\"Looks, and gives what is not a number.\"\"\"

    def __call__(self, denoiser, x, *, num_steps, noise, labels=None, on_step=None):
        SEEN.append((x, noise(0), noise(1), noise(1), labels, num_steps))
        return x * float("nan")
"""
    points = {"debiasctl.samplers": {"spy": "spy_sampler:Spy"}}
    write_distribution(tmp_path / "site", name="spy", version="1", entry_points=points, modules={"spy_sampler": code})
    monkeypatch.syspath_prepend(tmp_path / "site")
    with pytest.raises(RunError, match="sampling gave values that are not finite"):
        draw(run, num=200, sampler="spy", batch_size=200)
    import spy_sampler  # type: ignore[import-not-found]

    x, first, second, again, labels, num_steps = spy_sampler.SEEN[0]
    assert torch.equal(second, again)
    assert torch.equal(x, first)
    for noise in (first, second):
        assert abs(noise.mean()) < 0.05
        assert abs(noise.std() - 1) < 0.05
    assert abs((first * second).mean()) < 0.05
    assert labels.shape == (208,)  # whole groups of 16
    assert num_steps == 3
    assert kept(run) == []


def test_classes_keep_to_the_datas_proportions_in_every_prefix() -> None:
    counts = (100, 300, 600)
    content = ContentSection(image_size=8, channels=1, classes=("a", "b", "c"), class_counts=counts, num_train=1000,
                             num_heldout=1, content_hash="")  # fmt: skip
    labels = labels_of(torch.arange(2000), content, seed=4, label=None)
    for size in (10, 50, 333, 2000):
        shares = torch.bincount(labels[:size], minlength=3) / size
        assert (shares - torch.tensor(counts) / 1000).abs().max() < 3 / size
    assert torch.equal(labels_of(torch.arange(500, 600), content, seed=4, label=None), labels[500:600])
    assert not torch.equal(labels_of(torch.arange(2000), content, seed=5, label=None), labels)
    assert labels_of(torch.arange(5), content, seed=4, label=2).tolist() == [2] * 5
    empty = content.model_copy(update={"class_counts": (0, 5, 0)})
    assert labels_of(torch.arange(100), empty, seed=0, label=None).unique().tolist() == [1]


def test_the_same_request_is_not_drawn_twice(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    first = draw(run)
    assert not first.reused
    monkeypatch.setattr(Drawer, "batch", lambda *_, **__: pytest.fail("drawn again"))
    second = draw(run, batch_size=1)  # which decides nothing
    assert second.reused
    assert second.folder == first.folder
    assert torch.equal(first.images, second.images)
    assert first.images.stride() == second.images.stride()  # on which the last bit of a feature may depend
    assert torch.equal(first.labels, second.labels)
    assert first.description == second.description


def test_other_requests_have_other_keys(run: Run) -> None:
    changes = [{}, {"num": 7}, {"num_steps": 4}, {"sampler": "ddim"}, {"sampler": "ddim:eta=0.5"}, {"seed": 1},
               {"checkpoint": "15"}, {"weights": "raw"}, {"class_name": "3"}]  # fmt: skip
    assert len({draw(run, **change).folder.name for change in changes}) == len(changes)


def test_raw_and_averaged_weights_and_checkpoints_give_other_images(run: Run) -> None:
    images = [draw(run, **change).images for change in ({}, {"weights": "raw"}, {"checkpoint": "15"})]
    for i in range(3):
        for j in range(i):
            assert (images[i].int() - images[j].int()).abs().max() > 5


def test_what_is_kept_with_the_images(run: Run) -> None:
    drawn = draw(run, num=5, num_steps=4, sampler="ddim:eta=0.5", batch_size=2, class_name="3")
    stored = json.loads((drawn.folder / "samples.json").read_text())
    assert stored == drawn.description.to_json()
    assert (stored["sampler"]["options"]["eta"], stored["precision"], stored["compile"]) == (0.5, "fp32", False)
    assert (stored["num"], stored["num_steps"], stored["seed"], stored["step"]) == (5, 4, 0, 30)
    assert stored["nfe"] == 4  # for each image, however many batches there were
    assert (stored["weights"], stored["label"], stored["run"]) == ("ema", 3, "run")
    with np.load(drawn.folder / "images.npz") as arrays:
        assert sorted(arrays) == ["images", "labels"]
        assert (arrays["images"].shape, arrays["images"].dtype) == ((5, 8, 8, 1), np.uint8)
        assert (arrays["labels"].tolist(), arrays["labels"].dtype) == ([3] * 5, np.int64)
        assert np.array_equal(arrays["images"].transpose(0, 3, 1, 2), drawn.images.numpy())


def test_samples_drawn_before_are_found_by_their_key() -> None:
    """A recorded samples.json: its folder's name, and that of all requests which differ in their number alone."""
    folder = Path(__file__).parent / "recorded"
    found = Description.read(folder)
    assert found.to_json() == json.loads((folder / "samples.json").read_text())
    origin = Origin.model_validate({name: getattr(found, name) for name in Origin.model_fields})
    assert origin.key == "9008b6173d5441d3"
    assert origin.series_key == found.series


def test_progress_counts_every_step_of_every_image(run: Run) -> None:
    seen: list[tuple[float, int]] = []
    draw(run, num=5, num_steps=3, batch_size=2, on_progress=lambda done, total: seen.append((done, total)))
    assert [round(3 * done) for done, _ in seen] == [0, 2, 4, 6, 8, 10, 12, 13, 14, 15]
    assert {total for _, total in seen} == {5}


@pytest.mark.parametrize("harm", ["cut", "garbage", "flip", "description", "keys", "nested", "types", "version"])
def test_damaged_samples_are_reported_and_not_overwritten(run: Run, harm: str) -> None:
    folder = draw(run).folder
    file = folder / ("samples.json" if harm in ("description", "keys", "nested", "types", "version") else "images.npz")
    data = file.read_bytes()
    middle = len(data) // 3
    file.write_bytes(
        {"cut": data[:middle], "garbage": b"x" * 100, "description": b"{", "keys": b"{}",
         "version": data.replace(b'"version": 2,', b'"version": 1,'),
         "nested": b"[" * 100_000, "types": data.replace(b'"nfe": 3', b'"nfe": "3"'),
         "flip": data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]}[harm]
    )  # fmt: skip
    harmed = file.read_bytes()
    with pytest.raises(RunError, match=r"the samples in .* are damaged .*Remove that folder to draw them again"):
        draw(run)
    assert file.read_bytes() == harmed
    shutil.rmtree(folder)
    assert not draw(run).reused


def test_more_training_is_another_checkpoint(run: Run) -> None:
    first = draw(run)
    resume(run, steps=31)
    second = draw(run)
    assert second.folder != first.folder
    assert second.description.step == 31
    assert draw(run, checkpoint="30").folder == first.folder


def test_other_weights_under_the_same_step_are_not_taken_for_the_old_ones(run: Run) -> None:
    first = draw(run)
    shutil.rmtree(run.checkpoint_path(30))
    shutil.copytree(run.checkpoint_path(15), run.checkpoint_path(30))
    manifest = run.checkpoint_path(30) / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"step": 30}))
    second = draw(run)
    assert not second.reused
    assert not torch.equal(first.images, second.images)


def test_classes_by_name_and_number(run: Run) -> None:
    spec = run.spec()

    def with_classes(*names: str) -> RunSpec:
        return spec.model_copy(update={"content": spec.content.model_copy(update={"classes": names})})

    named = with_classes("bird", "cat", "dog")
    assert [class_index(text, named) for text in ("cat", "dog", "0", "1", "index:2")] == [1, 2, 0, 1, 2]
    for text in ("3", "-1", "cart", "Cat", "", "index:3", "index:", "²", "9" * 5000):
        known = "Known: bird, cat, dog; or by index, 0 to 2$"
        with pytest.raises(UsageError, match=rf"unknown class '{text[:60]}.*{known}"):
            class_index(text, named)
    numbered = with_classes("3", "5", "7")
    assert [class_index(text, numbered) for text in ("3", "5", "7", "index:0", "index:1")] == [0, 1, 2, 0, 1]
    for text in ("0", "1", "2", "03", "index:3"):  # what could be a name is never an index
        with pytest.raises(UsageError, match=rf"unknown class '{text}'.*3, 5, 7; or by index, index:0 to index:2"):
            class_index(text, numbered)
    assert class_index("index:1", with_classes("index:1", "x")) == 0
    with pytest.raises(UsageError, match="Did you mean 'cat'"):
        class_index("cart", named)
    counts = {"class_counts": (4, 0, 2)}
    untrained = named.model_copy(update={"content": named.content.model_copy(update=counts)})
    assert class_index("dog", untrained) == 2
    for text in ("cat", "1"):
        with pytest.raises(UsageError, match=r"class 'cat' had no training image.*Learnt: bird, dog"):
            class_index(text, untrained)
    unconditional = named.model_copy(update={"model": spec.model.model_copy(update={"conditional": False})})
    with pytest.raises(UsageError, match="trained without class labels"):
        class_index("cat", unconditional)


def test_the_class_that_is_asked_for_reaches_the_network(run: Run) -> None:
    threes, fours = draw(run, class_name="3"), draw(run, class_name="4")
    assert threes.labels.tolist() == [3] * 6
    assert not torch.equal(threes.images, fours.images)


def test_a_model_without_labels_draws_without(tmp_path: Path) -> None:
    drawn = draw(train("plain", make_spec(model__conditional=False)))
    assert drawn.labels is None
    assert drawn.description.classes == []
    with np.load(drawn.folder / "images.npz") as arrays:
        assert list(arrays) == ["images"]


def test_the_variance_that_was_learned_is_the_one_that_is_drawn_with() -> None:
    spec = make_spec(model__learned_variance=True, loss__variance_weight=1.0, optimizer__lr=0.02)
    run = train("learned", spec)
    drawn = [draw(run, sampler=f"ddpm:variance={variance}") for variance in ("learned", "fixed-small", "fixed-large")]
    assert [one.images.shape for one in drawn] == [(6, 1, 8, 8)] * 3
    assert not any(torch.equal(drawn[i].images, drawn[j].images) for i in range(3) for j in range(i))
    outcome = succeed("sample", "learned", "--num", "6", "--steps", "3", "--sampler", "ddpm:variance=learned")
    assert "drawn before" in outcome.out


def test_a_variance_that_was_not_learned_is_refused() -> None:
    run = train("plain", make_spec())
    message = error_of("sample", "plain", "--num", "2", "--steps", "2", "--sampler", "ddpm:variance=learned", code=2)
    assert "needs a model trained with --set model.learned_variance=true" in message
    assert kept(run) == []


@pytest.mark.parametrize(
    "changes, error, message",
    [
        ({"num": 0}, UsageError, "`num=0`: draw at least one image"),
        ({"num_steps": 1001}, UsageError, "1001 sampling steps: choose from 1 to 1000"),
        ({"num_steps": 0}, UsageError, "0 sampling steps"),
        ({"weights": "mean"}, UsageError, "`weights=mean`: choose ema"),
        ({"sampler": "dimm"}, UnknownPluginError, "unknown sampler 'dimm'. Did you mean 'ddim'"),
        ({"sampler": "ddim:eta=2"}, UsageError, "sampler 'ddim': eta: input should be less than or equal to 1"),
        ({"checkpoint": "7"}, UsageError, "no checkpoint '7'. It has: 15, 30"),
    ],
)
def test_what_cannot_be_meant(run: Run, changes: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        request(run, **changes)


def test_a_spec_that_does_not_say_what_the_data_were(run: Run) -> None:
    spec = run.spec().model_copy(update={"content": None})
    with pytest.raises(RunError, match=r"run 'run': its spec.json does not describe its data"):
        sample(run, spec, request(run), device=CPU, batch_size=2)
