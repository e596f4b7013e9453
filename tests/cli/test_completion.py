"""Values that the shell is offered, and how bash is answered."""

from pathlib import Path

import pytest
from tiny import succeed

from debiasctl import registry
from debiasctl.cli import completion
from debiasctl.cli.completion import (
    complete_choices,
    complete_metrics,
    complete_plugin,
    complete_setting,
    complete_where,
)
from debiasctl.cli.options import short_names
from debiasctl.registry.source import option_values, summary

_PLUGINS = [(kind, record.name) for kind in registry.KINDS if kind != "commands" for record in registry.records(kind)]


@pytest.mark.parametrize("kind, name", _PLUGINS, ids=[f"{kind}-{name}" for kind, name in _PLUGINS])
def test_what_the_source_says_is_what_the_plugin_has(kind: str, name: str) -> None:
    import inspect

    record, plugin = registry.find(kind, name), registry.load(kind, name)
    found = option_values(record)
    assert sorted(found) == sorted(plugin.Options.model_fields)
    for option, values in found.items():
        for value in values:
            field = plugin.Options.model_fields[option]
            assert value in str(field.annotation) or value in ("true", "false")
    assert summary(record) == (inspect.getdoc(plugin) or "").partition("\n")[0]


def test_options_and_their_values_are_completed_after_a_plugins_name() -> None:
    complete = complete_plugin("weightings")
    assert complete("min-snr:") == ["min-snr:gamma="]
    assert complete("sigmoid:m") == ["sigmoid:measure="]
    assert complete("sigmoid:measure=") == ["sigmoid:measure=log-snr", "sigmoid:measure=t"]
    assert complete("sigmoid:bias=3,me") == ["sigmoid:bias=3,measure="]
    assert complete("min-snr:gamma=5,") == []
    assert complete("nothing:") == []
    assert "ddim:guidance=" in complete_plugin("samplers")("ddim:gu")  # of the base that its options derive from


def test_filters_are_completed() -> None:
    complete = complete_where(short_names)
    assert complete("weighti") == ["weighting="]
    assert complete("weighting=min") == ["weighting=min-snr"]
    assert complete("lr<1 and sta") == ["lr<1 and state="]
    assert complete("lr<1 and state=fi") == ["lr<1 and state=finished"]
    assert complete("optimizer.l") == ["optimizer.lr="]
    assert "dataset=" in complete("")


def test_values_of_settings_are_completed() -> None:
    assert complete_choices("model.prediction")("") == ["eps", "x0", "v", "edm", "flow"]
    assert complete_choices("compute.precision")("b") == ["bf16"]
    assert complete_choices("loss.normalize")("m") == ["mean"]
    assert complete_setting("optimizer.l") == ["optimizer.lr="]
    assert "optimizer.lr=" in complete_setting("optim")
    assert complete_setting("ema.kind=p") == ["ema.kind=power"]
    assert complete_setting("loss.weighting=deb") == ["loss.weighting=debiased", "loss.weighting=debiased-clamped"]
    assert complete_setting("data.horizontal_flip=t") == ["data.horizontal_flip=true"]


def test_metrics_are_completed_and_none_is_missing() -> None:
    from debiasctl.api import DatasetInfo
    from debiasctl.evaluation.metrics.catalogue import available_metrics, metric_names

    names = complete_metrics("")
    for channels in (1, 3):
        info = DatasetInfo(8, channels, (), 10, 10)
        known = available_metrics(info, metric_names("pixels"))
        assert {name for name in known if not name.startswith(("is_", "sfd_"))} <= {*names}
    assert complete_metrics("precision,pre") == []
    assert complete_metrics("precision,rec") == ["precision,recall"]


@pytest.mark.parametrize(
    "words, left_out, last",
    [
        (["train", "--weighting", "min-snr", ":", "ga"], "min-snr:", "min-snr:ga"),
        (["train", "--weighting", "min-snr", ":"], "min-snr:", "min-snr:"),
        (["train", "--weighting", "sigmoid", ":", "measure", "=", "l"], "sigmoid:measure=", "sigmoid:measure=l"),
        (["train", "--weighting", "=", "deb"], "--weighting=", "--weighting=deb"),
        (["train", "dig"], "", "dig"),
        (["train", ""], "", ""),
    ],
)
def test_words_that_bash_splits_are_joined(
    words: list[str], left_out: str, last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    monkeypatch.setenv("COMP_WORDS", "\n".join(["debiasctl", *words]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    assert completion.bash_words() == left_out
    assert os.environ["COMP_WORDS"].split("\n")[int(os.environ["COMP_CWORD"])] == last


def test_bash_is_answered_with_the_rest_of_the_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_DEBIASCTL_COMPLETE", "complete_bash")

    def answered(*words: str) -> list[str]:
        monkeypatch.setenv("COMP_WORDS", "\n".join(["debiasctl", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        return succeed().out.split()

    assert answered("train", "--weighting", "min-snr", ":", "g") == ["gamma="]
    assert answered("train", "--prediction", "") == ["eps", "x0", "v", "edm", "flow"]
    assert answered("train", "--prediction", "=", "x") == ["x0"]
    assert answered("train", "--device", "cu") == ["cuda"]
    assert answered("plugins", "describe", "samplers", "h") == ["heun"]
    assert answered("sample", "--sampler", "ddim", ":", "eta", "=", "1,gu") == ["1,guidance=", "1,guidance_interval="]


def test_zsh_is_answered_with_the_whole_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_DEBIASCTL_COMPLETE", "complete_zsh")

    def answered(line: str) -> str:
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", line)
        return succeed().out

    assert '(("debiased"\n"debiased-clamped"))' in answered("debiasctl train digits --weighting deb")
    whole = answered("debiasctl train digits --weighting=deb")
    assert '(("--weighting=debiased"\n"--weighting=debiased-clamped"))' in whole


def test_zsh_finds_what_the_stored_script_completes() -> None:
    script = Path(__file__).parents[2] / "completions" / "_debiasctl"
    assert script.read_text().startswith("#compdef debiasctl\n")  # zsh reads the first line alone
    assert script.read_text().endswith("if [[ $funcstack[1] == _debiasctl ]]; then _debiasctl_completion; fi\n")
