"""Features that messages suggest, and those that published statistics were made with."""

import sys
from pathlib import Path

import pytest
from tiny import write_distribution

from debiasctl.evaluation.suggestions import features_by_mode, features_where

PLUGIN = '''
from debiasctl.api import Features, PluginOptions, PublishedStatistics


class Aardvark(Features):
    """Named before all of debiasctl's own."""

    any_size = True
    published_statistics = (
        PublishedStatistics("clean-fid", "clean", {}),
        PublishedStatistics("elsewhere", "one", {"size": 7, "kept": 1}),
    )

    class Options(PluginOptions):
        """Two numbers."""

        size: int = 3
        kept: int = 1

    def prepare(self, data, *, cache_dir, device):
        raise NotImplementedError
'''


def test_features_are_suggested_by_what_they_declare() -> None:
    assert features_where(lambda plugin: plugin.pretrained) == "`features=clip`, dinov2 or inception"
    assert features_where(lambda plugin: not plugin.labelled and not plugin.pretrained) == (
        "`features=local-ssl` or pixels"
    )
    assert features_where(lambda plugin: plugin.labelled) == "`features=local`"
    assert features_where(lambda plugin: False) == "other features"


def test_statistics_name_the_features_that_they_were_made_with() -> None:
    assert features_by_mode("clean-fid") == {"clean": "inception", "legacy_tensorflow": "inception:resize=legacy-tf"}
    assert features_by_mode("elsewhere") == {}


def test_a_third_partys_features_come_after_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that cannot be loaded is not suggested."""
    write_distribution(
        tmp_path,
        name="aardvark",
        version="1",
        entry_points={"debiasctl.features": {"aardvark": "aardvark_features:Aardvark", "absent": "not_there:Absent"}},
        modules={"aardvark_features": PLUGIN},
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        assert features_where(lambda plugin: plugin.any_size) == "`features=clip`, dinov2, inception or aardvark"
        assert features_by_mode("clean-fid")["clean"] == "inception"
        assert features_by_mode("elsewhere") == {"one": "aardvark:size=7"}
    finally:
        sys.modules.pop("aardvark_features", None)
