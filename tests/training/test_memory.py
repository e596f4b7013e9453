"""What a training that ran out of memory is told to do."""

import errno
import re
from collections.abc import Mapping

import pytest
import torch
from tiny import BACKBONE, LOCATION, OPTIONS, digits, error_of, make_spec, train

from debiasctl.compute.memory import is_out_of_memory, out_of_memory
from debiasctl.training import session
from debiasctl.training.conduct import Conduct
from debiasctl.training.estimate import Estimate, estimate
from debiasctl.training.memory import memory_advice
from debiasctl.training.monitor import Monitor

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
GB, MB = 10**9, 10**6


def plan(*, activations: int, weights: int = 0, process: int = 0, **more: int) -> Estimate:
    memory = {"weights": weights, "activations": activations, "process": process, **more}
    return Estimate(parameters=1, steps=1, images=1, epochs=1.0, memory=memory)


def advice(
    found: Estimate,
    *,
    available: float,
    batch: int = 128,
    accumulation: int = 1,
    device: torch.device = CUDA,
    n: int = 1,
) -> str:
    spec = make_spec(training__batch_size=batch, compute__accumulation=accumulation)
    return memory_advice(spec, found, available=int(available), device=device, num_processes=n)


def numbers(text: str) -> tuple[int, ...]:
    """(accumulation, images at a time, batch size) of the advice."""
    match = re.search(r"`compute\.accumulation=(\d+)`: (\d+) images? at a time, .*`training\.batch_size=(\d+)`", text)
    assert match, text
    return tuple(map(int, match.groups()))


@pytest.mark.parametrize(
    "available, expected",
    [
        # 1 GB + 0.1 GB an image, against nine tenths
        (13.0, (2, 64, 64)),  # 64: 7.4 GB
        (8.22, (4, 32, 32)),  # 64: 7.4 GB is just over 0.9 of 8.22
        (8.23, (2, 64, 64)),
        (1.3, (128, 1, 1)),  # 1: 1.1 GB
    ],
)
def test_the_most_images_that_fit(available: float, expected: tuple[int, ...]) -> None:
    found = plan(activations=128 * GB // 10, weights=GB)
    text = advice(found, available=available * GB)
    assert numbers(text) == expected
    assert f"about {1 + expected[1] / 10:.1f} GB of the {available:.1f} GB available, with the same" in text


def test_where_the_estimate_says_that_what_failed_fits_it_is_scaled_to_the_failure() -> None:
    found = plan(activations=3 * GB, weights=GB)  # 4 GB of the 9 GB there are, and yet it failed
    text = advice(found, available=9 * GB)
    assert numbers(text) == (2, 64, 64)
    assert "about 5.0 GB of the 9.0 GB" in text  # 1 GB, and half of the 8 GB that 128 images took at least


@pytest.mark.parametrize(
    "settings, expected",
    [
        ({"accumulation": 4}, (8, 16, 16)),  # 32 at a time failed
        ({"n": 4}, (2, 16, 64)),  # 32 in each process
        ({"n": 2, "accumulation": 2}, (4, 16, 32)),
        ({"batch": 96}, (2, 48, 48)),
        ({"batch": 45}, (3, 15, 15)),  # parts are of one size
        ({"batch": 7}, (7, 1, 1)),
    ],
)
def test_what_was_tried_and_how_many_share_the_batch(settings: Mapping[str, int], expected: tuple[int, ...]) -> None:
    assert numbers(advice(plan(activations=GB), available=GB, **settings)) == expected


@pytest.mark.parametrize("available", [1.5, 2.2])  # one image takes 2 + 0.1 GB; nine tenths count
def test_where_one_image_does_not_fit_that_is_said(available: float) -> None:
    text = advice(plan(activations=GB, weights=2 * GB), batch=10, available=available * GB)
    assert f"Even one image at a time takes about 2.1 GB of the {available:.1f} GB available, 2.0 GB of it" in text
    assert "accumulation" not in text
    assert text.endswith("Choose a smaller `model.backbone`")


def test_a_batch_of_one_has_no_smaller_part() -> None:
    assert "Even one image" in advice(plan(activations=GB), batch=1, available=GB)


def test_what_lies_in_host_memory_counts_on_a_cpu_alone() -> None:
    found = plan(activations=128 * 10 * MB, weights=100 * MB, process=500 * MB, checkpoint=200 * MB)
    assert numbers(advice(found, available=GB, device=CUDA)) == (2, 64, 64)  # 740 MB
    assert numbers(advice(found, available=GB, device=CPU)) == (16, 8, 8)  # 880 MB


def test_a_process_that_already_holds_the_training_is_not_counted_twice() -> None:
    fresh = advice(plan(activations=128 * 10 * MB, process=750 * MB), available=GB, device=CPU)
    grown = advice(plan(activations=128 * 10 * MB, process=100 * GB), available=GB, device=CPU)
    assert fresh == grown


def test_a_real_estimate_is_what_the_advice_is_made_of() -> None:
    spec = make_spec(model__backbone=BACKBONE, training__batch_size=1024)
    found = estimate(spec, digits().info)
    part = found.memory["activations"] / 4
    others = sum(size for name, size in found.memory.items() if name not in ("activations", "process"))
    text = memory_advice(spec, found, available=int((others + part) / 0.9) + 10, device=CUDA)
    assert numbers(text) == (4, 256, 256)


# ---------------------------------------------------------------- before the first step, and in an evaluation

WATCHED = make_spec(monitor__every=16, monitor__features="pixels:dimension=4")
LACKING = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 38654705664 bytes. Error code 12"


def lack(*_: object, **__: object) -> None:
    raise RuntimeError(LACKING)


@pytest.mark.parametrize("moment", ["set_up", "load_data", "load_last", "create_run"])
def test_a_lack_of_memory_before_the_first_step_says_what_was_asked_and_what_to_reduce(
    moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if moment == "load_last":
        train("run", make_spec())
    monkeypatch.setattr(session, moment, lack)
    arguments = ("--resume", "run", "--steps", "9") if moment == "load_last" else ("digits", *OPTIONS)
    message = error_of("train", *arguments, "--device", "cpu", code=1)
    assert message.startswith("out of memory")
    assert "38.7 GB more could not be had" in message
    if moment in ("set_up", "load_last"):
        assert re.search(
            r"parameters with 8 images at a time needs about .*B \(weights .*\); .* are available", message
        )
        assert "model.backbone (--backbone)" in message


def test_where_even_the_estimate_lacks_memory_the_message_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "set_up", lack)
    monkeypatch.setattr("debiasctl.training.memory.estimate", lack)
    message = error_of("train", "digits", *OPTIONS, "--device", "cpu", code=1)
    assert message.startswith("out of memory before the first step: 38.7 GB more could not be had. Choose a smaller")


def test_an_evaluation_that_lacks_memory_does_not_end_the_training(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("debiasctl.training.monitor.draw", lack)
    run = session.start(WATCHED, LOCATION, name="run", conduct=Conduct(device="cpu", observer=Monitor))
    assert run.status().state == "finished"
    assert (
        "the evaluation at step 2 failed: out of memory: 38.7 GB more could not be had. Lower `monitor.num`"
        in caplog.text
    )


def test_another_error_of_an_evaluation_ends_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("debiasctl.training.monitor.draw", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        session.start(WATCHED, LOCATION, name="run", conduct=Conduct(device="cpu", observer=Monitor))


@pytest.mark.parametrize(
    "error, expected",
    [
        (MemoryError(), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (RuntimeError("cuBLAS: CUBLAS_STATUS_ALLOC_FAILED when calling"), True),
        (RuntimeError("shapes do not fit"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_is_a_lack_of_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) == expected
    assert (out_of_memory(error) is None) == (not expected)


@pytest.mark.parametrize("command", [["sample", "run"], ["evaluate", "run"], ["likelihood", "run"]])
def test_other_commands_report_it_too(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    train("run", make_spec())
    for module in ("sampling.networks", "evaluation.likelihood.likelihood"):
        monkeypatch.setattr(f"debiasctl.{module}.load_named_weights", lack)
    message = error_of(*command, "--device", "cpu", code=1)
    assert message.startswith("out of memory")
    assert "38.7 GB more could not be had" in message
    assert "Choose a smaller --batch-size" in message
