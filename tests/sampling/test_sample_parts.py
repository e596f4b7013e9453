"""Sampling that stops goes on: what was drawn is kept, checked, and drawn once."""

import logging
import signal
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from debiasctl.errors import Interrupted, RunError
from debiasctl.runs.store import Run
from debiasctl.sampling import SampleRequest, Samples, drawing, make_request, sample
from debiasctl.sampling.drawing import Drawer, Drawn, automatic_batch_size, group_size
from debiasctl.sampling.image_files import count_images, read_array, read_blocks, save_npz
from debiasctl.sampling.samples import prepare
from debiasctl.sampling.store import Parts, PartWriter, Source, assembled, missing, share

CPU = torch.device("cpu")


def request(run: Run, **changes) -> SampleRequest:
    settings = {"num": 12, "num_steps": 2, "sampler": "ddpm", "seed": 3, "checkpoint": None, "weights": "ema"}
    return make_request(run, run.spec(), **settings | changes)


def draw(run: Run, batch_size: int | None = None, on_progress=None, **changes) -> Samples:
    return sample(run, run.spec(), request(run, **changes), device=CPU, batch_size=batch_size, on_progress=on_progress)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The indices of all images that the network was asked for, in order."""
    seen: list[int] = []
    batch = Drawer.batch

    def spy(self: Drawer, positions: Tensor, **others) -> Tensor:
        x = batch(self, positions, **others)
        seen.extend(positions.tolist())
        return x

    monkeypatch.setattr(Drawer, "batch", spy)
    return seen


def stop_after(images: float, number: int = signal.SIGINT):
    def on_progress(done: float, total: int) -> None:
        if done > images:
            signal.raise_signal(number)

    return on_progress


@pytest.fixture
def whole(run: Run) -> Tensor:
    """What 12 images in one go are."""
    import shutil

    images = draw(run).images
    shutil.rmtree(run.samples_dir)
    return images


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_was_interrupted_goes_on(run: Run, whole: Tensor, drawn: list[int], number: int) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match="drawn 8 of 12; repeat the command to resume") as stopped:
        draw(run, batch_size=4, on_progress=stop_after(8, number))
    assert stopped.value.exit_code == 128 + number
    assert signal.getsignal(number) == before
    assert drawn == list(range(8))
    seen: list[float] = []
    found = draw(run, batch_size=3, on_progress=lambda done, total: seen.append(done))
    assert drawn == list(range(12))
    assert seen[0] == 8
    assert seen[-1] == 12
    assert seen == sorted(seen)
    assert not found.reused
    assert found.description.nfe == 2
    assert torch.equal(found.images, whole)
    assert list(run.samples_dir.glob(".*.partial")) == []


def test_a_failure_keeps_what_came_before_it(run: Run, drawn: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        batch = Drawer.batch

        def fail(self: Drawer, positions: Tensor, **others) -> Tensor:
            if 4 in positions:
                raise OSError("no such luck")
            return batch(self, positions, **others)

        patch.setattr(Drawer, "batch", fail)
        with pytest.raises(OSError, match="no such luck"):
            draw(run, batch_size=4)
    draw(run)
    assert drawn == list(range(12))


def test_more_images_of_the_same_kind_reuse_the_fewer(run: Run, whole: Tensor, drawn: list[int]) -> None:
    draw(run, num=5)
    more = draw(run, num=12)
    assert drawn == list(range(12))
    assert torch.equal(more.images, whole)
    fewer = draw(run, num=7)
    assert drawn == list(range(12))
    assert fewer.reused
    assert torch.equal(fewer.images, whole[:7])
    assert torch.equal(fewer.labels, more.labels[:7])
    assert (fewer.description.num, fewer.description.nfe) == (7, 2)
    draw(run, num=5, seed=4)
    assert drawn == [*range(12), *range(5)]


def test_a_damaged_longer_request_is_not_reused(run: Run, whole: Tensor, caplog: pytest.LogCaptureFixture) -> None:
    folder = draw(run, num=12).folder
    data = (folder / "images.npz").read_bytes()
    (folder / "images.npz").write_bytes(data[: len(data) // 2])
    assert torch.equal(draw(run, num=7).images, whole[:7])
    assert "is damaged" in caplog.text


@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "renamed"])
def test_a_damaged_part_is_drawn_again(
    run: Run, whole: Tensor, drawn: list[int], caplog: pytest.LogCaptureFixture, harm: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("debiasctl.sampling.store._BYTES", 0)  # a part a batch
    with pytest.raises(Interrupted):
        draw(run, batch_size=4, on_progress=stop_after(8))
    (folder,) = run.samples_dir.glob(".*.partial")
    first, second = sorted(folder.glob("*.npz"))
    assert [first.name, second.name] == ["000000000-000000004.npz", "000000004-000000008.npz"]
    data = first.read_bytes()
    middle = len(data) // 3
    first.write_bytes(
        {"cut": data[:middle], "empty": b"", "renamed": data,
         "flip": data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]}[harm]
    )  # fmt: skip
    if harm == "renamed":
        first.rename(folder / "000000000-000000003.npz")
    drawn.clear()
    assert torch.equal(draw(run).images, whole)
    assert drawn == [0, 1, 2, 3, 8, 9, 10, 11]
    assert f"images 0 to {2 if harm == 'renamed' else 3} cannot be used" in caplog.text


def test_one_of_two_at_a_time_draws_and_the_other_takes_it(
    run: Run, whole: Tensor, drawn: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "debiasctl")
    begun, go_on, found = threading.Event(), threading.Event(), {}

    def hold(done: float, total: int) -> None:
        begun.set()
        assert go_on.wait(60)

    def first() -> None:
        found["first"] = draw(run, on_progress=hold)

    def second() -> None:
        found["second"] = draw(run)

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert begun.wait(60)
    threads[1].start()
    deadline = time.monotonic() + 60
    while "waiting for it" not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.01)
    go_on.set()
    for thread in threads:
        thread.join()
    assert "another process is drawing these images; waiting for it" in caplog.text
    assert drawn == list(range(12))
    assert (found["first"].reused, found["second"].reused) == (False, True)
    assert torch.equal(found["first"].images, whole)
    assert torch.equal(found["second"].images, whole)


# ---------------------------------------------------------------- memory


def run_out(monkeypatch: pytest.MonkeyPatch, *, most: int, error: Exception) -> list[int]:
    """Let forwards of more than `most` images fail; the sizes that were tried."""
    sizes: list[int] = []
    batch = Drawer.batch

    def limited(self: Drawer, positions: Tensor, **others) -> Tensor:
        sizes.append(len(positions))
        if len(positions) > most:
            raise error
        return batch(self, positions, **others)

    monkeypatch.setattr(Drawer, "batch", limited)
    return sizes


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(),
     RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory")],
)  # fmt: skip
def test_the_batch_is_halved_where_memory_runs_out(
    run: Run, whole: Tensor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    caplog.set_level(logging.INFO, "debiasctl")
    monkeypatch.setattr(drawing, "automatic_batch_size", lambda shape, device: 16)
    sizes = run_out(monkeypatch, most=4, error=error)
    images = draw(run).images
    assert sizes == [12, 8, 4, 4, 4]
    assert "continuing with 4 images at a time" in caplog.text
    assert (images.int() - whole.int()).abs().max() <= 1


def test_a_batch_size_that_was_asked_for_is_not_changed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run_out(monkeypatch, most=4, error=MemoryError())
    with pytest.raises(RunError, match=r"with `batch_size=8`\. Choose a smaller one, or leave `batch_size` out"):
        draw(run, batch_size=8)


def test_not_even_one_image_fits(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run_out(monkeypatch, most=0, error=MemoryError())
    with pytest.raises(RunError, match="out of memory with one image at a time"):
        draw(run)


def test_other_errors_are_not_taken_for_a_lack_of_memory(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = run_out(monkeypatch, most=0, error=RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        draw(run)
    assert sizes == [12]


def test_the_first_guess_follows_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def guess(gigabytes: float, size: int, device: str = "cuda") -> int:
        monkeypatch.setattr(drawing, "available_memory", lambda _: int(gigabytes * 1e9))
        return automatic_batch_size((3, size, size), torch.device(device))

    assert guess(80, 32) == guess(8000, 256) == 512
    assert guess(8000, 256, "cpu") == 64
    assert guess(80, 256) == 32
    assert guess(0.001, 256) == 1


def test_groups_are_smaller_for_larger_images() -> None:
    assert [group_size(size, size) for size in (8, 32, 64, 128, 256)] == [16, 16, 4, 1, 1]


# ---------------------------------------------------------------- ranges


def source(start: int, stop: int) -> Source:
    return Source(path=None, start=start, stop=stop, nfe=1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "sources, gaps",
    [
        ([], [range(10)]),
        ([(0, 10)], []),
        ([(0, 99)], []),
        ([(2, 4), (4, 6)], [range(2), range(6, 10)]),
        ([(0, 8), (2, 4)], [range(8, 10)]),
        ([(12, 20), (0, 3)], [range(3, 10)]),
    ],
)
def test_what_is_missing(sources: list, gaps: list[range]) -> None:
    assert missing(10, [source(*one) for one in sources]) == gaps


@pytest.mark.parametrize("size", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("ranges", [[range(20)], [range(3, 4), range(6, 20), range(30, 31)], []])
def test_every_missing_image_is_drawn_by_one_process(size: int, ranges: list[range]) -> None:
    shares = [[index for one in share(ranges, rank=rank, size=size) for index in one] for rank in range(size)]
    assert [index for mine in shares for index in mine] == [index for one in ranges for index in one]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_parts_that_overlap_are_put_together(tmp_path) -> None:
    images = torch.arange(600).reshape(600, 1, 1, 1).expand(600, 3, 2, 2).remainder(251).to(torch.uint8)
    for start, stop in ((0, 300), (290, 310), (305, 600), (20, 30)):
        writer = PartWriter(Parts(tmp_path, identity="run/series"))
        writer.add(Drawn(start, images[start:stop], 1))
        writer.flush()
    blocks: Iterator[Tensor] = assembled(500, Parts(tmp_path, identity="run/series").sources())
    assert torch.equal(torch.cat(list(blocks)), images[:500])


def test_a_writer_keeps_apart_what_does_not_follow(tmp_path) -> None:
    writer = PartWriter(Parts(tmp_path, identity="run/series"))
    for start in (0, 2, 6):
        writer.add(Drawn(start, torch.zeros(2, 1, 2, 2, dtype=torch.uint8), 5))
    writer.flush()
    assert [(one.start, one.stop, one.nfe) for one in Parts(tmp_path, identity="run/series").sources()] == [
        (0, 4, 5),
        (6, 8, 5),
    ]


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("count", [1, 255, 256, 257, 600])
def test_an_npz_is_numpys_whatever_its_blocks(tmp_path, count: int) -> None:
    images = torch.randint(0, 256, (count, 3, 4, 5), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    labels = torch.arange(count)
    save_npz(tmp_path / "x.npz", images.split(100), labels, num=count)
    with np.load(tmp_path / "x.npz") as arrays:
        assert sorted(arrays) == ["images", "labels"]
        assert np.array_equal(arrays["images"], images.permute(0, 2, 3, 1).numpy())
        assert np.array_equal(arrays["labels"], labels.numpy())
    for start, stop in ((0, count), (count // 2, count), (count // 3, count // 2 + 1)):
        blocks = list(read_blocks(tmp_path / "x.npz", start=start, stop=stop))
        assert torch.equal(torch.cat(blocks), images[start:stop])
        assert all(len(block) <= 256 and block.is_contiguous() for block in blocks)
    assert count_images(tmp_path / "x.npz") == count
    assert torch.equal(read_array(tmp_path / "x.npz", "labels"), labels)
    assert read_array(tmp_path / "x.npz", "nfe") is None


@pytest.mark.parametrize("count", [1, 2, 7, 16])
def test_few_images_are_the_bits_that_they_are_among_many(run: Run, count: int) -> None:
    drawer, _ = prepare(run, run.spec(), request(run, num_steps=3), device=CPU)
    many, few = (drawer.batch(torch.arange(n), on_step=lambda *_: None) for n in (64, count))
    assert torch.equal(few, many[:count])
    later = drawer.batch(torch.arange(40, 40 + count), on_step=lambda *_: None)
    assert torch.equal(later, many[40 : 40 + count])
