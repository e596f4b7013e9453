"""What people type who come from other tools is answered with our word for it, which then works."""

import pytest
from tiny import OPTIONS, debiasctl, error_of

from debiasctl.cli.synonyms import _OPTIONS


@pytest.mark.parametrize(
    "line, meant",
    [
        ("train digits --learning-rate 0.1", "Here it is --lr"),
        ("train digits --learning_rate 0.1", "Here it is --lr"),
        ("train digits --batch_size 4", "It is written --batch-size"),
        ("train digits --epochs 3", "(--images): N epochs are N times the number of training images"),
        ("train digits --output_dir out", "Here it is --name (runs are kept in the store"),
        ("sample a --output_dir out", "Here it is --out"),
        ("sample a --guidance 3", "Here it is --sampler ddim:guidance=2"),
        ("sample a --guidance_interval 1", "Here it is --sampler ddim:guidance=2,guidance_interval=[0.28,2.9]"),
        ("evaluate a --gnet b", "Here it is --guide"),
        ("train digits --weight_decay 0.1", "It is a setting: --set optimizer.weight_decay=VALUE"),
        ("train digits --ema-decay 0.9", "Here it is --set ema.decay=0.999"),
        ("train digits --warmup 10", "Here it is --set optimizer.warmup_steps=500"),
        ("train digits optimizer.lr=0.1", "A setting is given by --set: --set optimizer.lr=0.1"),
        ("train --data-path digits", "Give it as the argument, without an option"),
        ("evaluate a --metric fd_local", "Here it is --metrics"),
        ("compare a b --metrics fd_local", "Here it is --metric"),
        ("runs list --jsn", "Did you mean --json?"),
    ],
)
def test_an_option_of_other_tools_is_answered_with_ours(line: str, meant: str) -> None:
    assert meant in error_of(*line.split(), code=2)


def test_an_option_like_nothing_is_answered_with_nothing() -> None:
    message = error_of("train", "digits", "--zzz", code=2)
    assert "No such option: --zzz" in message
    assert "Here it is" not in message
    assert "Did you mean" not in message


@pytest.mark.parametrize(
    "option, value, meant",
    [
        ("--prediction", "epsilon", "eps"),
        ("--prediction", "v_prediction", "v"),
        ("--prediction", "sample", "x0"),
        ("--schedule", "squaredcos_cap_v2", "cosine"),
        ("--device", "gpu", "cuda"),
        ("--precision", "bf16-mixed", "bf16"),
        ("--precision", "16-mixed", "fp16"),
        ("--normalize", "no", "none"),
        ("--weighting", "min_snr_gamma", "min-snr"),
        ("--backbone", "transformer", "dit"),
    ],
)
def test_a_value_of_other_tools_is_answered_with_ours(option: str, value: str, meant: str) -> None:
    assert f"Did you mean '{meant}'?" in error_of("train", "digits", option, value, "--dry-run", code=2)


def test_what_is_offered_in_place_of_an_option_is_accepted() -> None:
    offered = {text for texts in _OPTIONS.values() for text in ((texts,) if isinstance(texts, str) else texts)}
    for text in sorted(
        text for text in offered if " " in text and text.split()[0] not in ("--track", "--sampler", "--weights")
    ):
        if text not in ("--device cuda", "--precision fp16"):  # which need a GPU
            outcome = debiasctl("train", "digits", *OPTIONS, *text.split(), "--dry-run")
            assert outcome.code == 0, (text, outcome.err)


@pytest.mark.parametrize("device", ["cuda:1", "mps", "cuda:x", "cuda:", "cpu:0"])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    assert device in error_of("train", "digits", *OPTIONS, "--device", device, "--dry-run", code=2)


def test_a_numbered_gpu_becomes_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from debiasctl.cli.launch import check_devices
    from debiasctl.compute.device import choose_device
    from debiasctl.errors import UsageError

    current: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    assert (choose_device("cuda:1"), current) == (torch.device("cuda", 1), [1])
    assert choose_device("cuda") == torch.device("cuda")
    assert current == [1]
    with pytest.raises(UsageError, match="torch sees 2 GPUs, numbered from 0"):
        choose_device("cuda:2")
    with pytest.raises(UsageError, match="is one GPU"):
        check_devices(2, device="cuda:1")


def test_a_guide_is_said_to_be_of_samples() -> None:
    for option in ("--guide", "--autoguidance"):
        message = error_of("analyze", "run", option, "other", code=2)
        assert "in the commands sample and evaluate; here a network is guided by itself" in message
        assert "--sampler" not in error_of("likelihood", "run", option, "other", code=2)
    assert "Here it is --guide" in error_of("sample", "run", "--autoguidance", "other", code=2)
