import shutil
from pathlib import Path

import pytest
from tiny import OPTIONS, succeed

METRICS = ("--num", "8", "--steps", "2,3")


@pytest.fixture(scope="session")
def _evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("evaluated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEBIASCTL_HOME", str(home))
        patch.delenv("DEBIASCTL_DATA", raising=False)
        for name, data, weighting in (
            ("a", "digits", "debiased"),
            ("b", "digits", "constant"),
            ("colour-a", "photo-patches", "debiased"),
            ("colour-b", "photo-patches", "min-snr:gamma=3"),
        ):
            succeed("train", data, "--weighting", weighting, *OPTIONS, "--steps", "4", "--name", name)
            features = "local:steps=2,dimension=4" if data == "digits" else "pixels:dimension=4"
            succeed("evaluate", name, *METRICS, "--features", features)
    return home


@pytest.fixture
def evaluated(_evaluated: Path, debiasctl_home: Path) -> Path:
    """A user folder with runs a and b on digits, and colour-a and colour-b on photo-patches, all evaluated."""
    shutil.copytree(_evaluated, debiasctl_home, dirs_exist_ok=True)
    return debiasctl_home
