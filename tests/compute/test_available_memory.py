import resource
import subprocess
import sys

import psutil
import pytest
import torch

from debiasctl.compute.memory import available_memory


def test_what_is_available_is_free_memory_and_what_the_process_holds() -> None:
    found = available_memory(torch.device("cpu"))
    own = psutil.Process().memory_info().rss
    assert own < found <= psutil.virtual_memory().total
    assert found == pytest.approx(psutil.virtual_memory().available + own, rel=0.1)


def test_a_limit_on_the_address_space_counts() -> None:
    code = (
        "import psutil, resource, torch\n"
        "from debiasctl.compute.memory import available_memory\n"
        "own = psutil.Process().memory_info()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (own.vms + 10**8, resource.RLIM_INFINITY))\n"
        "print((available_memory(torch.device('cpu')) - own.rss) / 1e8)\n"
    )
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        pytest.skip("this session has a limit already")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(result.stdout) == pytest.approx(1, abs=0.2)
