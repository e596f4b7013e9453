import platform
import subprocess
import sys

import pytest
import torch

from debiasctl.api import ImageShape
from debiasctl.builtin.backbones.dit import DiT
from debiasctl.builtin.backbones.unet import UNet
from debiasctl.compute.allocator import prepare_process
from debiasctl.errors import UsageError
from debiasctl.training.setup import set_layout

_FAULTS = """
import resource, torch
from debiasctl.compute.allocator import prepare_process
def faults():
    for step in range(40):
        if step == 30:  # the allocator has found places for all of them by now
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        activations = [torch.ones(2**23 + extra) for extra in (2**10, 2**19, 2**20)]  # beyond glibc's own 32 MiB
        activations.clear()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
as_it_is = faults()
prepare_process()
prepare_process()
print(as_it_is, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_memory_is_kept_for_the_next_tensor() -> None:
    done = subprocess.run([sys.executable, "-c", _FAULTS], capture_output=True, text=True, check=True)
    as_it_is, prepared = map(int, done.stdout.split())
    assert prepared * 5 < as_it_is


@pytest.mark.parametrize("libc", ["", "musl"])
def test_other_c_libraries_are_left_alone(libc: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: (libc, ""))
    monkeypatch.setattr("ctypes.CDLL", lambda name: pytest.fail("the C library was opened"))
    prepare_process()


@pytest.mark.parametrize(
    ("channels_last", "expected"),
    [(None, torch.channels_last), (True, torch.channels_last), (False, torch.contiguous_format)],
)
def test_layout(channels_last, expected) -> None:
    backbone = UNet(UNet.Options(channels=32, channel_mult=(1,)))
    network = backbone.build(ImageShape(8, 1, 1), 0)
    set_layout(network, backbone, channels_last=channels_last)
    assert network.memory_format == expected
    assert network(torch.zeros(1, 1, 8, 8), torch.zeros(1)).is_contiguous(memory_format=expected)


def test_a_layout_without_effect_is_refused() -> None:
    backbone = DiT(DiT.Options(hidden_size=16, depth=1, num_heads=2))
    network = backbone.build(ImageShape(8, 1, 1), 0)
    set_layout(network, backbone, channels_last=None)
    with pytest.raises(UsageError, match="channels_last has no effect"):
        set_layout(network, backbone, channels_last=False)
