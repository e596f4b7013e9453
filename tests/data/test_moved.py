"""Images that have moved since a run was trained on them."""

from pathlib import Path

import pytest
from tiny import make_spec

from debiasctl.data.moved import moved_to
from debiasctl.errors import UnknownPluginError
from debiasctl.registry.choices import PluginChoice


def test_a_data_set_whose_package_is_gone_is_not_said_to_be_found_by_its_name(tmp_path: Path) -> None:
    spec = make_spec()
    gone = PluginChoice(name="scans", options={"path": "/scans"}, distribution="lab-scans", version="2.0")
    spec = spec.model_copy(update={"data": spec.data.model_copy(update={"dataset": gone})})
    with pytest.raises(UnknownPluginError, match=r"dataset 'scans' of lab-scans 2\.0 is not installed here"):
        moved_to(spec, tmp_path)
