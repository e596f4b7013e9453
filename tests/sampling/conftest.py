import shutil
from pathlib import Path

import pytest
from tiny import make_spec, train

from debiasctl.runs.store import Run


@pytest.fixture(scope="session")
def _sampled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEBIASCTL_HOME", str(tmp_path_factory.mktemp("sampled")))
        return train("run", make_spec(training__steps=10, optimizer__lr=0.02, optimizer__decay="none")).path


@pytest.fixture
def run(_sampled: Path, debiasctl_home: Path) -> Run:
    """A run named "run" in this test's user folder, with nothing drawn from it."""
    return Run(Path(shutil.copytree(_sampled, debiasctl_home / "runs" / "run")))
