import threading
from pathlib import Path

import pytest
import torch
from PIL import Image

from debiasctl.api import ArraySplit, DataLocation
from debiasctl.builtin.datasets._support import decoded_images
from debiasctl.compute import counter_random
from debiasctl.compute.counter_random import Stream
from debiasctl.data.pixels import to_uint8
from debiasctl.errors import DataError
from debiasctl.registry.entry_points import create
from debiasctl.registry.refs import PluginRef
from debiasctl.training.batches import BatchSource, resident

CPU = torch.device("cpu")


class ReadSplit:
    """A split whose images are not known to lie in an array; it notes by which threads it is read."""

    def __init__(self, split: ArraySplit) -> None:
        self.split, self.threads = split, set()

    def __len__(self) -> int:
        return len(self.split)

    def images(self, indices: torch.Tensor) -> torch.Tensor:
        self.threads.add(threading.current_thread().name)
        assert indices.dtype == torch.int64  # which plugins may rely on
        return self.split.images(indices)

    def labels(self, indices: torch.Tensor) -> torch.Tensor | None:
        return self.split.labels(indices)


def array_split(size: int) -> ArraySplit:
    images = (torch.arange(size * 12) % 256).to(torch.uint8).reshape(size, 1, 3, 4)
    return ArraySplit(images, torch.arange(size))


def source(size: int, batch_size: int, split=None, **changes) -> BatchSource:
    settings = {"seed": 3, "horizontal_flip": False, "conditional": True, "device": CPU} | changes
    return BatchSource(split or array_split(size), batch_size=batch_size, **settings)


@pytest.mark.parametrize("batch_size", [1, 4, 10, 25])  # 4 straddles two epochs, 25 three
def test_each_epoch_sees_each_image_once_in_an_order_of_its_own(batch_size: int) -> None:
    batches = source(10, batch_size)
    drawn = torch.cat([batches.indices(step) for step in range(100 // batch_size)])
    epochs = drawn.reshape(10, 10)
    assert torch.equal(epochs.sort(dim=1).values, torch.arange(10).expand(10, 10))
    assert len({tuple(epoch.tolist()) for epoch in epochs}) == 10
    # steps may be read in any order: nothing is drawn in sequence
    last = 100 // batch_size - 1
    assert torch.equal(source(10, batch_size).indices(last), drawn[last * batch_size :])


def test_the_order_depends_on_the_seed() -> None:
    assert not torch.equal(source(50, 50).indices(0), source(50, 50, seed=4).indices(0))


@pytest.mark.parametrize("step", [0, 7])
def test_flips_are_functions_of_seed_step_and_position(step: int) -> None:
    batches, plain = source(40, 16, horizontal_flip=True), source(40, 16)
    draw = counter_random.uniform(3, Stream.FLIP, step=step, positions=torch.arange(16))
    flipped, whole = batches(step), plain(step)
    assert 2 < int((draw < 0.5).sum()) < 14
    for position in range(16):
        expected = whole.x0[position].flip(-1) if draw[position] < 0.5 else whole.x0[position]
        assert torch.equal(flipped.x0[position], expected)
    assert torch.equal(flipped.labels, whole.labels)


def test_processes_share_one_global_batch() -> None:
    whole = source(40, 16, horizontal_flip=True)(2)
    parts = [source(40, 16, horizontal_flip=True, process_index=i, num_processes=4)(2) for i in range(4)]
    for name in ("x0", "labels", "positions"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))


def test_labels_are_the_images_own_and_only_where_asked_for() -> None:
    batches = source(40, 16)
    assert torch.equal(batches(1).labels, batches.indices(1))  # labels are numbered like the images
    assert source(40, 16, conditional=False)(1).labels is None


# ---------------------------------------------------------------- reading ahead


def readers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


@pytest.mark.parametrize("changes", [{}, {"conditional": False}, {"process_index": 1, "num_processes": 4}])
@pytest.mark.parametrize("flip", [False, True])
def test_what_is_read_ahead_is_what_an_array_gives(flip: bool, changes) -> None:
    split = ReadSplit(array_split(40))
    with source(40, 16, split, horizontal_flip=flip, **changes) as batches:
        plain = source(40, 16, horizontal_flip=flip, **changes)
        for step in (0, 1, 2, 9, 10, 3, 3):  # in turn, and as after a resume
            one, other = batches(step), plain(step)
            assert torch.equal(one.x0, other.x0)
            assert (one.labels is None) == (other.labels is None) == (changes == {"conditional": False})
            assert one.labels is None or torch.equal(one.labels, other.labels)
            assert torch.equal(one.positions, other.positions)


def test_one_thread_reads_and_none_is_left() -> None:
    split = ReadSplit(array_split(40))
    batches = source(40, 16, split)
    assert not readers()
    first = batches(0)
    batches(7)
    assert len(readers()) == len(split.threads) == 1
    assert threading.current_thread().name not in split.threads
    batches.close()
    assert not readers()
    batches.close()
    assert torch.equal(batches(0).x0, first.x0)  # it can be used again
    with pytest.raises(KeyError), batches:
        raise KeyError
    assert not readers()


def test_arrays_in_memory_need_no_thread() -> None:
    batches = source(40, 16)
    batches(0)
    assert not readers()


def test_a_file_that_vanishes_is_told_of_at_its_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(40):
        Image.new("L", (8, 8), number).save(tmp_path / f"{number:02}.png")
    monkeypatch.setattr(decoded_images, "MAX_DECODED_BYTES", 0)
    folder = create("datasets", PluginRef("folder", {"path": str(tmp_path)}))
    split = folder.load(DataLocation(None, tmp_path / "cache")).train
    with source(0, 4, split, conditional=False) as batches:
        gone = split.split.split.files[int(batches.indices(5)[0])].name
        (tmp_path / gone).unlink()
        for step in range(5):
            assert batches(step).x0.shape == (4, 1, 8, 8)
        with pytest.raises(DataError, match=f"1 of 4 images .* {gone}"):
            batches(5)
    assert not readers()


# ---------------------------------------------------------------- arrays on a GPU


class Overridden(ArraySplit):
    def images(self, indices: torch.Tensor) -> torch.Tensor:
        return 255 - self.array[indices]


def test_only_plain_arrays_are_indexed_directly() -> None:
    split = array_split(4)
    assert resident(split, CPU) is split
    assert resident(ReadSplit(split), CPU) is None
    overridden = Overridden(split.array, split.targets)
    assert resident(overridden, CPU) is None
    with source(4, 4, overridden) as batches:
        assert torch.equal(to_uint8(batches(0).x0), 255 - split.array[batches.indices(0)])


class Moved:
    """A tensor of some size that says where it was moved."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes, self.shape = nbytes, (1,)

    def to(self, device: torch.device) -> tuple[str, torch.device]:
        return "moved", device


@pytest.mark.parametrize("size, fits", [(24, True), (25, False)])
def test_an_array_moves_to_a_gpu_that_has_room(size: int, fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 10_000))
    device = torch.device("cuda", 1)
    held = resident(ArraySplit(Moved(size), Moved(1)), device)
    assert (held is not None) == fits
    assert held is None or (held.array, held.targets) == (("moved", device), ("moved", device))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("kind", [lambda split: split, ReadSplit], ids=["resident", "read ahead"])
def test_a_gpu_gets_the_same_batches_and_is_not_waited_for(kind) -> None:
    gpu = torch.device("cuda")
    with source(40, 16, kind(array_split(40)), horizontal_flip=True, device=gpu) as batches:
        batches(0)
        torch.cuda.set_sync_debug_mode("error")
        try:
            found = [batches(step) for step in range(1, 6)]
        finally:
            torch.cuda.set_sync_debug_mode("default")
        for step, batch in enumerate(found, start=1):
            expected = source(40, 16, horizontal_flip=True)(step)
            assert torch.equal(to_uint8(batch.x0.cpu()), to_uint8(expected.x0))
            assert torch.equal(batch.labels.cpu(), expected.labels)
            assert torch.equal(batch.positions.cpu(), expected.positions)
