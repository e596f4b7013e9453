"""Which features measure images when none are asked for, and when statistics name theirs."""

import dataclasses

import pytest
import torch

from debiasctl.api import ArraySplit, EvaluationError, Features, PreparedFeatures, UnsuitableDataError, UsageError
from debiasctl.builtin.features.local import Local
from debiasctl.builtin.features.local_ssl import LocalSSL
from debiasctl.builtin.features.pixels import Pixels
from debiasctl.errors import MissingWeightsError
from debiasctl.evaluation.choices import Choices
from debiasctl.evaluation.extractor import Candidate, candidates_for, defaults, prepare_first
from debiasctl.evaluation.reference.sources import Source
from debiasctl.evaluation.reference.statistics_file import StatisticsFile

CPU = torch.device("cpu")


class Ready(PreparedFeatures):
    def __call__(self, images):
        return torch.zeros(len(images), 1, dtype=torch.float64)

    def notes(self):
        return ["they are ready"]


def offer(name, *, refusal=None, default="data with classes"):
    class Offered(Features):
        """Features that suit the data, or raise what they are told to."""

        def prepare(self, data, *, cache_dir, device):
            if refusal is not None:
                raise refusal
            return Ready(identity=name, dimension=1, details={})

    return Candidate(name, Offered(Offered.Options()), default)


def unsuited(name):
    return offer(name, refusal=UnsuitableDataError(f"features '{name}': right on 39.6%.\nUse others"))


def test_the_first_that_suits_is_used_and_says_why(digits):
    found = prepare_first([unsuited("a"), offer("b"), offer("c")], digits, device=CPU)
    assert found.name == "b"
    assert found.notes == [
        "features 'a': right on 39.6%.",
        "no features were asked for, so 'b' is used instead",
        "features 'b': they are ready",
    ]


def test_the_default_is_named(digits):
    found = prepare_first([offer("a"), offer("b")], digits, device=CPU)
    assert found.notes[0] == "no features were asked for: 'a' is the default for data with classes"


@pytest.mark.parametrize(
    "candidates, metrics",
    [
        ([unsuited("a")], None),  # asked for, or the last one
        ([unsuited("a"), offer("b")], ["fd_a"]),  # a metric in these features is asked for
    ],
)
def test_what_was_asked_for_is_refused(digits, candidates, metrics):
    with pytest.raises(UnsuitableDataError, match=r"right on 39.6%"):
        prepare_first(candidates, digits, metrics=metrics, device=CPU)


def test_metrics_in_all_features_do_not_tie(digits):
    assert prepare_first([unsuited("a"), offer("b")], digits, metrics=["precision"], device=CPU).name == "b"


def test_missing_weights_name_what_suits_the_data(digits, photos):
    one = offer("net", refusal=MissingWeightsError("no weights"), default=None)
    with pytest.raises(EvaluationError) as caught:
        prepare_first([one], digits, device=CPU)
    assert str(caught.value) == "no weights; or use `features=local`, local-ssl or pixels"
    with pytest.raises(EvaluationError) as caught:
        prepare_first([one], photos, device=CPU)
    assert str(caught.value) == "no weights; or use `features=local-ssl` or pixels"


def test_the_defaults_follow_the_data(digits, photos):
    for data, expected in ((digits, [Local, LocalSSL, Pixels]), (photos, [LocalSSL, Pixels])):
        found = [one.plugin for one in defaults(data)]
        assert len(found) == len(expected)
        assert all(isinstance(plugin, one) for plugin, one in zip(found, expected, strict=True))
    assert [one.name for one in defaults(None)] == ["inception"]


def test_labels_that_cannot_be_learned_lead_to_features_without_labels(digits, tmp_path, monkeypatch):
    monkeypatch.setattr("debiasctl.paths.cache_dir", lambda: tmp_path)
    generator = torch.Generator().manual_seed(0)
    lots = (torch.randint(0, 10, (len(split),), generator=generator) for split in (digits.train, digits.heldout))
    train, heldout = (
        ArraySplit(split.array, lot) for split, lot in zip((digits.train, digits.heldout), lots, strict=True)
    )
    data = dataclasses.replace(digits, train=train, heldout=heldout, content_hash="labels drawn by lot")
    found = prepare_first(defaults(data), data, device=CPU)
    assert found.name == "local-ssl"
    assert "not expected to reach" in found.notes[0]
    assert found.notes[1] == "no features were asked for, so 'local-ssl' is used instead"


def statistics(tmp_path, **metadata):
    file = StatisticsFile(tmp_path / "s.npz", torch.zeros(3), torch.eye(3), metadata, "ab")
    return Source("s.npz", "statistics", file)


def test_statistics_are_measured_in_the_features_that_they_name(digits, tmp_path):
    (found,) = candidates_for(Choices(), digits, statistics(tmp_path, features="pixels", dataset="digits"))
    assert (found.name, found.default) == ("pixels", None)


def test_statistics_whose_features_need_their_data_say_so_before_any_weights_are_missed(tmp_path):
    with pytest.raises(UsageError) as caught:
        candidates_for(Choices(), None, statistics(tmp_path, features="pixels", dataset="digits"))
    for part in ("s.npz holds statistics of 'digits' in features 'pixels'", "`reference=DATASET`"):
        assert part in str(caught.value)


def test_other_features_than_the_statistics_name_are_refused(tmp_path):
    with pytest.raises(UsageError, match="in features 'pixels', and those asked for are 'inception'"):
        candidates_for(Choices(features="inception"), None, statistics(tmp_path, features="pixels"))


@pytest.mark.parametrize("metadata", [{}, {"features": 3}])
def test_statistics_that_name_none_are_taken_for_inceptions(tmp_path, metadata):
    (found,) = candidates_for(Choices(), None, statistics(tmp_path, **metadata))
    assert found.name == "inception"
