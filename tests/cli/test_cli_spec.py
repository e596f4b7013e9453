"""`debiasctl spec describe`."""

import json
import subprocess
import sys

import pytest
from tiny import error_of, succeed

from debiasctl.cli.completion import complete_section


def test_every_section_is_shown_with_types_defaults_and_meanings() -> None:
    outcome = succeed("spec", "describe")
    words = outcome.out.split()
    for name in ("data.dataset", "ema.decay", "training.init_from.run", "monitor.every"):
        assert words.count(name) == 1
    line = next(line for line in outcome.out.splitlines() if "training.batch_size" in line)
    assert line.split() == [
        "training.batch_size",
        "integer",
        ">=",
        "1",
        "128",
        "images",
        "per",
        "step,",
        "over",
        "all",
        "processes",
    ]
    assert "data set may recommend other values" in outcome.err


def test_one_section_as_json() -> None:
    (section,) = json.loads(succeed("spec", "describe", "diffusion", "--json").out)["sections"]
    assert section == {
        "name": "diffusion",
        "summary": "The noise process.",
        "settings": [
            {"name": "diffusion.schedule", "type": "plugin", "required": False, "default": "linear",
             "description": "noise schedule"},
        ],
    }  # fmt: skip


def test_a_wrong_section_is_met_with_the_nearest_and_the_list() -> None:
    message = error_of("spec", "describe", "trainning", code=2)
    assert message.startswith("unknown section 'trainning'. Did you mean 'training'? Known: ")
    assert "optimizer" in message


def test_one_setting_by_its_full_name() -> None:
    (section,) = json.loads(succeed("spec", "describe", "training.init_from.run", "--json").out)["sections"]
    assert section["name"] == "training"
    assert [setting["name"] for setting in section["settings"]] == ["training.init_from.run"]
    text = succeed("spec", "describe", "ema.decay").out
    assert "ema.decay" in text
    assert "ema.kind" not in text


@pytest.mark.parametrize(
    "name, message",
    [
        ("ema.decai", "unknown setting 'ema.decai'. Did you mean 'ema.decay'? Known: ema.kind, ema.decay, "),
        ("emma.decay", "unknown section 'emma'. Did you mean 'ema'? Known: "),
        ("ema.", "unknown setting 'ema.'. Did you mean 'ema."),
        ("extensions.name", "unknown setting 'extensions.name'. Did you mean 'extensions'? Known: extensions"),
    ],
)
def test_a_wrong_setting_is_met_with_the_nearest_and_its_section(name: str, message: str) -> None:
    assert error_of("spec", "describe", name, code=2).startswith(message)


def test_sections_and_settings_are_completed() -> None:
    assert complete_section("mo") == ["model", "monitor"]
    assert complete_section("ema.de") == ["ema.decay"]


def test_torch_is_not_imported() -> None:
    code = (
        "import sys\nfrom debiasctl.cli.app import main\nsys.argv = ['debiasctl', 'spec', 'describe']\n"
        "try:\n    main()\nfinally:\n    print([name for name in ('torch', 'numpy') if name in sys.modules], "
        "file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"
