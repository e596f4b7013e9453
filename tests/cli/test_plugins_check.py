"""`debiasctl plugins check`: each plugin in a process of its own, whatever it does there."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import debiasctl, error_of, succeed, write_distribution

import debiasctl as debiasctl_package
from debiasctl.cli.completion import complete_checked, complete_distribution

GOOD = '''
from debiasctl.api import PluginOptions, Weighting
from pydantic import Field


class One(Weighting):
    """One."""

    space = "eps"

    class Options(PluginOptions):
        """Its options."""

        number: float = Field(1.0, gt=0, description="the weight")

    def __call__(self, snr):
        return snr * 0 + self.options.number


class Undescribed(One):
    """Has an option that is not described."""

    class Options(PluginOptions):
        """Its options."""

        number: float = 1.0


class Negative(One):
    """Below 0."""

    def __call__(self, snr):
        return -One.__call__(self, snr)


class Ends(One):
    """Ends the process at a call."""

    def __call__(self, snr):
        import os
        os._exit(3)


class Hangs(One):
    """Never returns."""

    def __call__(self, snr):
        while True:
            pass
'''
MODULES = {
    "check_good": GOOD,
    "check_raises": "raise RuntimeError('no licence')",
    "check_exits": "import sys\nsys.exit(0)",
    "check_dies": "import os\nos._exit(7)",
    "check_leaves": "import os, time\nif os.fork() == 0:\n    time.sleep(600)\nos._exit(5)",
    "check_hangs": "import time\nprint('one moment')\ntime.sleep(600)",
    "check_prints": "import os\nprint('hello')\nos.write(1, b'there')\n" + GOOD,
}
POINTS = {
    "one": "check_good:One",
    "undescribed": "check_good:Undescribed",
    "negative": "check_good:Negative",
    "ends": "check_good:Ends",
    "hangs": "check_good:Hangs",
    "raises": "check_raises:One",
    "exits": "check_exits:One",
    "dies": "check_dies:One",
    "leaves": "check_leaves:One",
    "hangs-at-import": "check_hangs:One",
    "prints": "check_prints:One",
}
MADE = "It is a class of its kind, and is made from its options"
LIVES = "Its code ends in time, and leaves its process running"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_distribution(
        tmp_path,
        name="check-pack",
        version="1",
        entry_points={"debiasctl.weightings": POINTS},
        modules=MODULES,
        requires=["debiasctl>=0.1,<0.2"],
    )
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def failures(*arguments: str) -> dict[str, str]:
    """The laws that are broken, and how."""
    done = debiasctl("plugins", "check", *arguments, "--json")
    (one,) = json.loads(done.out)["plugins"]
    found = {law["law"]: law["detail"] for law in one["laws"] if law["state"] == "failed"}
    assert (done.code, one["failed"]) == (int(bool(found)), len(found)), done
    return found


@pytest.mark.parametrize(
    ("name", "law", "cause"),
    [
        ("raises", MADE, "cannot be imported (RuntimeError: no licence)"),
        ("exits", MADE, "cannot be imported (SystemExit: 0)"),
        ("dies", LIVES, "it ended its process, with exit code 7, while it was imported"),
        ("leaves", LIVES, "it ended its process, with exit code 5, while it was imported"),
        (
            "hangs-at-import",
            LIVES,
            "within 5 seconds it did not end, while it was imported. It printed: one moment. If",
        ),
        ("prints", "It prints nothing when it is imported", "it printed: hello there"),
        ("ends", LIVES, 'it ended its process, with exit code 3, after the law "'),
        ("hangs", LIVES, 'within 5 seconds it did not end, after the law "'),
        ("undescribed", "Every option is described", "no description: number."),
        ("negative", "Its weights are finite", "weights must be finite and not negative"),
    ],
)
def test_a_plugin_that_misbehaves_is_reported_and_harms_nothing(site: Path, name: str, law: str, cause: str) -> None:
    found = failures("weightings", name, "--timeout", "5")
    (detail,) = [text for broken, text in found.items() if broken.startswith(law)]
    assert cause in detail
    assert not {one for one in MODULES if one in sys.modules}  # not imported here


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("one:number=-1", "number: input should be greater than 0 (given: -1)"),
        ("one:numbr=1", "unknown option 'numbr'. Did you mean 'number'?"),
    ],
)
def test_options_that_it_refuses_are_no_fault_of_the_plugin(site: Path, name: str, cause: str) -> None:
    assert cause in error_of("plugins", "check", "weightings", name, code=2)


def test_a_plugin_that_keeps_its_laws(site: Path) -> None:
    assert failures("weightings", "one") == {}
    assert failures("one:number=2") == {}  # of any kind
    text = succeed("plugins", "check", "weightings", "one").out
    assert "weightings  one   check-pack 1" in text
    assert "not checked:" not in text


def test_a_name_that_two_claim(site: Path, tmp_path: Path) -> None:
    points = {"debiasctl.weightings": {"one": "check_good:One"}}
    write_distribution(tmp_path, name="rival", version="2", entry_points=points, modules={}, requires=["debiasctl"])
    done = debiasctl("plugins", "check", "weightings", "one", "--json")
    assert done.code == 1
    both = json.loads(done.out)["plugins"]
    assert [one["distribution"] for one in both] == ["check-pack", "rival"]
    for one in both:
        (broken,) = [law for law in one["laws"] if law["state"] == "failed"]
        assert broken["law"] == "No other distribution claims its name"
        assert "claimed by two distributions: check-pack 1 and rival 2" in broken["detail"]


def test_what_is_not_there() -> None:
    assert "unknown plugin kind 'weightigns'. Did you mean 'weightings'?" in error_of(
        "plugins", "check", "weightigns", code=2
    )
    assert "unknown weighting 'min-snt'. Did you mean 'min-snr'?" in error_of(
        "plugins", "check", "weightings", "min-snt", code=2
    )
    assert "No plugin is called 'min-snt' either. Did you mean 'min-snr'?" in error_of(
        "plugins", "check", "min-snt", code=2
    )
    assert "unknown plugin kind 'x'" in error_of("plugins", "check", "x", "min-snr", code=2)


def test_what_needs_options_says_so() -> None:
    out = succeed("plugins", "check", "backbones", "python").out
    assert "not checked: It is a class of its kind, and is made from its options (it needs options that have no" in out


def test_jobs_are_not_sent_to_other_machines_unless_the_engine_is_named(site: Path, tmp_path: Path) -> None:
    code = '''
from debiasctl.api import Engine


class Far(Engine):
    """Elsewhere."""

    def run(self, jobs, workplace, *, on_event, stopping):
        raise ValueError("sent")

    def runs_here(self):
        return False
'''
    points = {"debiasctl.engines": {"far": "check_far:Far"}}
    write_distribution(
        tmp_path, name="far", version="2", entry_points=points, modules={"check_far": code}, requires=["debiasctl<1"]
    )
    assert "ValueError: sent" in " ".join(failures("engines", "far").values())
    from debiasctl import registry
    from debiasctl.testing.installed import check_installed

    found = check_installed(registry.find("engines", "far"), {}, seconds=60, elsewhere=False)
    assert found.count("failed") == 0
    assert {one.detail for one in found.results if one.state == "not checked"} == {
        "it sends jobs to other machines; name the engine to have it checked"
    }


def test_what_lies_in_the_folder_is_not_taken_for_debiasctl_or_torch(tmp_path: Path) -> None:
    """A process that runs a command given by -c finds modules in its folder first."""
    for module in ("debiasctl", "torch", "pydantic"):
        (tmp_path / f"{module}.py").write_text("raise RuntimeError('not this one')")
    program = "import sys; sys.path.pop(0); from debiasctl.__main__ import main; main()"
    words = ["plugins", "check", "weightings", "constant"]
    path = str(Path(debiasctl_package.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(1, {path!r}); {program}", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not this one" not in done.stderr


def test_the_plugins_of_one_package(site: Path, tmp_path: Path) -> None:
    points = {"debiasctl.weightings": {"two": "check_good:One", "three": "check_good:One"}}
    write_distribution(tmp_path, name="other", version="2", entry_points=points, modules={}, requires=["debiasctl"])
    done = succeed("plugins", "check", "--distribution", "other", "--json")
    assert [one["name"] for one in json.loads(done.out)["plugins"]] == ["three", "two"]
    error = error_of("plugins", "check", "--distribution", "othr", code=2)
    assert "no package 'othr' offers plugins. Did you mean 'other'? Known: check-pack, " in error
    wrong = error_of("plugins", "check", "weightings", "one", "--distribution", "other", code=2)
    assert "'one' is a plugin, and none of other. Leave one of the two out" in wrong


def test_completion(site: Path) -> None:
    assert complete_distribution("chec") == ["check-pack"]
    assert complete_checked("sam") == ["samplers"]
    assert complete_checked("min-s") == ["min-snr"]
    assert "weightings" in complete_checked("")
