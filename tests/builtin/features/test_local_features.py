import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file

from debiasctl.api import ArraySplit, Features, LoadedDataset
from debiasctl.builtin.features._support import classifier, prospects
from debiasctl.builtin.features._support.classifier import Classifier
from debiasctl.builtin.features.local import Local
from debiasctl.errors import EvaluationError, UnsuitableDataError, UsageError

CPU = torch.device("cpu")
QUICK = {"steps": 30, "min_accuracy": 0}


def prepared(data, cache, **options):
    return Local(Local.Options(**(QUICK | options))).prepare(data, cache_dir=cache, device=CPU)


def folder_of(cache):
    return next(path for path in (cache / "features" / "local").iterdir() if path.is_dir())


@pytest.fixture
def no_training(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("trained again")

    return lambda: monkeypatch.setattr(classifier, "train_classifier", refuse)


def test_it_learns_the_digits_and_gives_its_penultimate_layer(digits, tmp_path):
    features = prepared(digits, tmp_path, steps=300)
    assert isinstance(Local(Local.Options()), Features)
    assert features.details["heldout_accuracy"] > 0.95
    found = features(digits.heldout.array)
    assert found.shape == (len(digits.heldout), 32)
    assert found.dtype == torch.float64
    weights = load_file(folder_of(tmp_path) / "tensors.safetensors")
    logits = (found / weights["scale"]).float() @ weights["classes.weight"].T + weights["classes.bias"]
    network = Classifier(1, 32, num_classes=10)
    network.load_state_dict({name: tensor for name, tensor in weights.items() if name != "scale"})
    with torch.no_grad():
        in_float32 = network(digits.heldout.array.float() / 127.5 - 1)
    torch.testing.assert_close(logits, in_float32, rtol=1e-4, atol=1e-4)
    accuracy = (logits.argmax(dim=1) == digits.heldout.targets).double().mean().item()
    assert accuracy == pytest.approx(features.details["heldout_accuracy"])
    train = features(digits.train.array)
    assert train.var(dim=0).mean().item() == pytest.approx(1, rel=1e-2)
    assert torch.linalg.matrix_rank(train.T.cov()) == 32


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_training_is_the_same_every_time_and_leaves_torch_as_it_was(digits, tmp_path, two_threads):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = prepared(digits, tmp_path / "a")
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    torch.manual_seed(2)
    with torch.inference_mode():
        second = prepared(digits, tmp_path / "b")
    assert second.identity == first.identity
    torch.testing.assert_close(second(digits.heldout.array), first(digits.heldout.array), rtol=1e-12, atol=1e-12)


def test_the_cache_is_used(digits, tmp_path, no_training):
    first = prepared(digits, tmp_path)
    no_training()
    second = prepared(digits, tmp_path)
    assert second.identity == first.identity
    assert second.details == first.details
    assert torch.equal(second(digits.heldout.array), first(digits.heldout.array))


@pytest.mark.parametrize("options", [{"seed": 1}, {"steps": 31}, {"dimension": 8}, {"resolution": 6}], ids=str)
def test_other_options_are_another_extractor(digits, tmp_path, options):
    first, second = prepared(digits, tmp_path), prepared(digits, tmp_path, **options)
    assert first.identity != second.identity
    assert second(digits.heldout.array[:4]).shape == (4, options.get("dimension", 32))


def test_another_data_set_is_another_extractor(digits, tmp_path, no_training):
    prepared(digits, tmp_path)
    no_training()
    with pytest.raises(AssertionError, match="trained again"):
        prepared(dataclasses.replace(digits, content_hash="other"), tmp_path)


@pytest.mark.parametrize("name", ["tensors.safetensors", "manifest.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "gone"])
def test_a_damaged_cache_is_made_again_and_says_so(digits, tmp_path, caplog, name, damage):
    first = prepared(digits, tmp_path)
    path = folder_of(tmp_path) / name
    data = path.read_bytes()
    middle = data.index(b"sha256") + 12 if name == "manifest.json" else len(data) // 2
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:middle] + (b"" if damage == "cut" else bytes([data[middle] ^ 1]) + data[middle + 1 :]))
    again = prepared(digits, tmp_path)
    assert again.identity == first.identity
    assert path.read_bytes() == data
    assert ("damaged" in caplog.text) == ((name, damage) != ("manifest.json", "gone"))


def test_the_manifest(digits, tmp_path):
    features = prepared(digits, tmp_path)
    manifest = json.loads((folder_of(tmp_path) / "manifest.json").read_text())
    assert manifest["dataset_hash"] == digits.content_hash
    assert manifest["heldout_accuracy"] == features.details["heldout_accuracy"]
    assert manifest["options"]["steps"] == 30
    assert features.details["num_train"] == len(digits.train)
    assert features.details["classes"] == list("0123456789")


@pytest.mark.parametrize("size", [1, 3, 200])
def test_features_do_not_depend_on_the_batch(digits, tmp_path, size):
    features = prepared(digits, tmp_path)
    images = digits.heldout.array[:200]
    parts = torch.cat([features(part) for part in torch.split(images, size)])
    torch.testing.assert_close(parts, features(images), rtol=1e-12, atol=1e-12)


def test_larger_colour_images_are_averaged_down(photos, tmp_path):
    features = prepared(photos, tmp_path, resolution=20)
    images = photos.heldout.array[:6]
    blocks = images.double().reshape(6, 3, 20, 2, 20, 2).mean(dim=(3, 5)).round()
    even = blocks.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3).to(torch.uint8)
    assert features(images).shape == (6, 32)
    torch.testing.assert_close(features(even), features(blocks.to(torch.uint8)))


@pytest.mark.parametrize("classes", [(), ("all",)])
def test_without_classes_it_says_what_to_use(digits, tmp_path, classes):
    info = dataclasses.replace(digits.info, classes=classes)
    data = LoadedDataset(info, ArraySplit(digits.train.array), ArraySplit(digits.heldout.array), "unlabelled")
    with pytest.raises(UsageError, match="`features=local-ssl` or pixels"):
        prepared(data, tmp_path)


def test_a_classifier_that_knows_nothing_is_refused(digits, tmp_path, no_training):
    """Nothing is trained anew for what is asked of it, and nothing of the features depends on that."""
    features = prepared(digits, tmp_path, steps=2)
    accuracy = features.details["heldout_accuracy"]
    assert accuracy < 0.5
    no_training()
    counts = torch.bincount(digits.train.targets)
    needed = (1 + counts.max().item() / counts.sum().item()) / 2
    with pytest.raises(EvaluationError) as caught:
        prepared(digits, tmp_path, steps=2, min_accuracy=None)
    for part in (f"{accuracy:.1%}", f"needed: {needed:.1%}", "`features=local-ssl` or pixels", "local:steps="):
        assert part in str(caught.value)
    assert prepared(digits, tmp_path, steps=2, min_accuracy=accuracy).identity == features.identity
    with pytest.raises(EvaluationError):
        prepared(digits, tmp_path, steps=2, min_accuracy=accuracy + 1e-6)


def noisy_labels(digits):
    """Digits with labels drawn by lot, of which there is nothing to learn."""
    generator = torch.Generator().manual_seed(0)
    splits = {
        name: ArraySplit(split.array, torch.randint(0, 10, split.targets.shape, generator=generator))
        for name, split in {"train": digits.train, "heldout": digits.heldout}.items()
    }
    return dataclasses.replace(digits, **splits, content_hash="noisy labels")


def test_a_hopeless_classifier_is_refused_before_it_is_trained_to_the_end(digits, tmp_path, no_training, monkeypatch):
    steps = []
    stops = prospects.Watch.__call__

    def counted(watch, network, step):
        steps.append(step)
        stops(watch, network, step)

    monkeypatch.setattr(prospects.Watch, "__call__", counted)
    data = noisy_labels(digits)
    with pytest.raises(UnsuitableDataError, match="after 75 of 300 training steps") as caught:
        prepared(data, tmp_path, steps=300, min_accuracy=None)
    assert steps[-1] == 75
    for part in ("needed: 5", "not expected to reach", "`features=local-ssl` or pixels", "local:min_accuracy=0"):
        assert part in str(caught.value)
    no_training()
    with pytest.raises(AssertionError, match="trained again"):
        prepared(data, tmp_path, steps=300, min_accuracy=0.0)  # which is not out of reach
    with pytest.raises(UnsuitableDataError, match="after 75 of 300"):  # it is known already
        prepared(data, tmp_path, steps=300, min_accuracy=None)


def test_a_damaged_note_on_a_stopped_training_is_not_believed(tmp_path):
    stopped = prospects.Stopped(0.2, 500, 75, 300)
    prospects.write_stopped(tmp_path, stopped)
    assert prospects.read_stopped(tmp_path) == stopped
    for text in ("{", "[]", '{"accuracy": 0.2, "num": 0, "step": 1, "steps": 4}', '{"accuracy": "x"}'):
        (tmp_path / "stopped.json").write_text(text)
        assert prospects.read_stopped(tmp_path) is None


def test_what_is_within_reach():
    assert prospects.Stopped(0.2, 1000, 10, 100).reachable == 1  # too early to say
    reachable = [prospects.Stopped(0.4, 10**9, step, 100).reachable for step in (25, 50, 75)]
    assert reachable == pytest.approx([0.64, 0.55, 0.46], abs=1e-3)
    assert prospects.Stopped(0.4, 100, 50, 100).reachable > reachable[1]  # few images say little


def test_the_time_that_it_takes_is_reported(digits, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(prospects, "_FIRST_REPORT", 0.0)
    monkeypatch.setattr(prospects, "_LONG", 0.0)
    with caplog.at_level("INFO", "debiasctl"):
        prepared(digits, tmp_path)
    assert f"training the classifier whose features are 'local', once: 30 steps on {len(digits.train)}" in caplog.text
    assert "step 10 of 30, about" in caplog.text
    assert "step 9 of" not in caplog.text


def test_the_accuracy_that_a_refusal_names_is_enough(digits, tmp_path):
    with pytest.raises(UnsuitableDataError) as caught:
        prepared(digits, tmp_path, steps=2, min_accuracy=None)
    accepted = float(str(caught.value).rpartition("min_accuracy=")[2])
    assert prepared(digits, tmp_path, steps=2, min_accuracy=accepted)


def test_a_whole_cache_is_only_read(digits, tmp_path, no_training, monkeypatch):
    made = prepared(digits, tmp_path)

    def refuse(*arguments, **settings):
        raise AssertionError("the folder may be read-only")

    no_training()
    monkeypatch.setattr("debiasctl.files.file_lock", refuse)
    assert prepared(digits, tmp_path).identity == made.identity


def test_no_held_out_images(digits, tmp_path):
    empty = ArraySplit(digits.heldout.array[:0], digits.heldout.targets[:0])
    features = prepared(dataclasses.replace(digits, heldout=empty, content_hash="empty"), tmp_path)
    assert features.details["heldout_accuracy"] is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_gives_the_same_features(digits, tmp_path):
    on_cpu = prepared(digits, tmp_path)
    on_cuda = Local(Local.Options(**QUICK)).prepare(digits, cache_dir=tmp_path, device=torch.device("cuda"))
    assert on_cuda.identity == on_cpu.identity
    torch.testing.assert_close(on_cuda(digits.heldout.array), on_cpu(digits.heldout.array), rtol=1e-10, atol=1e-10)
