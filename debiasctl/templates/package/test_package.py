"""The package is installed, and offers its plugin to debiasctl."""

from importlib.metadata import entry_points


def test_debiasctl_finds_the_plugin() -> None:
    found = entry_points(group="debiasctl.my_kind", name="my-plugin")
    assert len(found) == 1, "install the package again, as its README says, after each change of its entry points"
    (point,) = found
    assert point.load().__doc__ is not None or point.attr == "app"
