"""Every law fails on a plugin that breaks it: a check that cannot fail says nothing."""

from typing import Any

import broken_images  # noqa: F401 - they add to BROKEN
import broken_maps  # noqa: F401
import broken_networks  # noqa: F401
import broken_noise  # noqa: F401
import pytest
from broken import BROKEN, result_of

from debiasctl import registry
from debiasctl.testing.kinds import laws_of

KINDS = [kind for kind in registry.KINDS if kind != "commands"]


@pytest.mark.parametrize(
    ("kind", "law", "plugin"), [(kind, law, one) for kind in BROKEN for law, one in BROKEN[kind].items()]
)
def test_the_law_fails(kind: str, law: str, plugin: Any) -> None:
    result = result_of(kind, law, plugin)
    assert result is not None
    assert result.state == "failed", result
    assert len(result.detail) > 20


@pytest.mark.parametrize("kind", KINDS)
def test_a_plugin_breaks_each_law(kind: str) -> None:
    laws = [law.text for law in laws_of(kind)]
    covered = [next(law for law in laws if law.startswith(beginning)) for beginning in BROKEN.get(kind, {})]
    assert set(covered) == set(laws)
