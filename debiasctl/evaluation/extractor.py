"""The feature extractor of a measurement: chosen by the user, by statistics or by the data, checked and prepared."""

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from debiasctl import paths, registry
from debiasctl.api import Features, LoadedDataset, MetricNames, PreparedFeatures
from debiasctl.errors import EvaluationError, MissingWeightsError, UnsuitableDataError, UsageError
from debiasctl.evaluation.choices import Choices
from debiasctl.evaluation.metrics.catalogue import default_features, features_class
from debiasctl.evaluation.reference import clean_fid
from debiasctl.evaluation.reference.sources import Source
from debiasctl.evaluation.reference.statistics_file import StatisticsFile
from debiasctl.evaluation.suggestions import features_where, modes_of
from debiasctl.registry.refs import PluginRef
from debiasctl.wording import quoted

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """Features that may be used: their name and the plugin; `default` says what they are the default for, if so."""

    name: str
    plugin: Features
    default: str | None = None

    @property
    def names(self) -> MetricNames:
        """The names of the metrics in them."""
        return self.plugin.metric_names(self.name)

    @property
    def reference(self) -> str:
        """The text that stands for the plugin with the options that are not the default."""
        return str(PluginRef(self.name, self.plugin.options.model_dump(mode="json", exclude_defaults=True)))


@dataclass(frozen=True)
class Extractor(Candidate):
    """Features that are used, with the extractor, and `notes` on why they are used and how good they are."""

    prepared: PreparedFeatures = field(kw_only=True)
    notes: list[str] = field(kw_only=True)


def candidates_for(choices: Choices, base: LoadedDataset | None, source: Source) -> list[Candidate]:
    """The features that are asked for, or those that a reference or its data call for, the first ones preferred.

    `base` is the data set that an extractor can be made from, None where only statistics are known.

    Raises:
        UsageError: if the features are unknown, or do not fit the choices, the data or the reference.
    """
    published = None if source.published is None else source.published.features
    chosen = choices.features or published or _made_with(source)
    found = defaults(base, choices) if chosen is None else [_candidate(registry.as_ref(chosen), choices)]
    for one in found:
        _check_fits(one, base, source)
    return found


def defaults(data: LoadedDataset | None, choices: Choices | None = None) -> list[Candidate]:
    """The features for a data set, or for statistics alone if it is None, when none are asked for.

    Raises:
        UsageError: if weights are chosen that they do not have.
    """
    info = None if data is None else data.info
    kind = "statistics alone" if info is None else f"data {'with' if len(info.classes) > 1 else 'without'} classes"
    return [_candidate(PluginRef(name), choices, default=kind) for name in default_features(info)]


def _candidate(ref: PluginRef, choices: Choices | None, *, default: str | None = None) -> Candidate:
    ref = ref if choices is None else _with_weights(ref, choices)
    return Candidate(ref.name, registry.create("features", ref), default)


def prepare_first(
    candidates: Sequence[Candidate], data: LoadedDataset, *, metrics: Sequence[str] | None = None, device: torch.device
) -> Extractor:
    """Prepare the first of the candidates that the data suit, and that has the `metrics` asked for by name.

    Raises:
        UnsuitableDataError: if the data suit none of them; EvaluationError: if they are not available.
    """
    refused: list[str] = []
    for one in candidates:
        try:
            prepared = one.plugin.prepare(data, cache_dir=paths.cache_dir(), device=device)
        except UnsuitableDataError as error:
            if one is candidates[-1] or _owns(one, metrics):
                raise
            refused.append(str(error).partition("\n")[0])
            _LOG.info("%s Other features are used, as none were asked for", refused[-1])
            continue
        except MissingWeightsError as error:
            raise EvaluationError(f"{error}{_instead(one, data)}") from error
        notes = [f"features '{one.name}': {text}" for text in prepared.notes()]
        if refused:
            notes = [*refused, f"no features were asked for, so '{one.name}' is used instead", *notes]
        elif one.default is not None:
            notes = [f"no features were asked for: '{one.name}' is the default for {one.default}", *notes]
        return Extractor(one.name, one.plugin, one.default, prepared=prepared, notes=notes)
    raise AssertionError("there are candidates, and the last one is used or refused")


def _owns(candidate: Candidate, metrics: Sequence[str] | None) -> bool:
    """Whether one of the metrics asked for by name is measured in these features alone."""
    names = candidate.names
    return not {names.frechet, names.kernel, names.score, names.spatial}.isdisjoint(metrics or ())


def _instead(refused: Candidate, data: LoadedDataset) -> str:
    """What can be used without the weights that are missing, for images like these."""
    if not len(data.train):
        return ""
    has_classes = len(data.info.classes) > 1
    return "; or use " + features_where(lambda plugin: not plugin.pretrained and (has_classes or not plugin.labelled))


def _made_with(source: Source) -> str | None:
    """The features that stored statistics say they were made with."""
    if not isinstance(source.content, StatisticsFile):
        return None
    name = source.content.metadata.get("features")
    return name if isinstance(name, str) else None


def _with_weights(ref: PluginRef, choices: Choices) -> PluginRef:
    """The reference of the features with the weights that were chosen for them.

    Raises:
        UsageError: if they have no weights from a file, or these are given twice.
    """
    if choices.feature_weights is None:
        return ref
    option = features_class(ref.name).weights_option
    if option is None:
        raise UsageError(
            f"`feature_weights`: features '{ref.name}' have no weights from a file. Leave it out, or choose "
            + features_where(lambda plugin: plugin.weights_option is not None)
        )
    if option in ref.options:
        raise UsageError(f"`feature_weights` and the features' own option {option}=... are the same. Give only one")
    return dataclasses.replace(ref, options={**ref.options, option: str(choices.feature_weights)})


def _check_fits(candidate: Candidate, base: LoadedDataset | None, source: Source) -> None:
    """Check that the features fit the reference, and the data that they are made from.

    Raises:
        UsageError: if they do not.
    """
    name, plugin, made_with = candidate.name, candidate.plugin, _made_with(source)
    if source.published is not None:
        _check_published(source.published, plugin, name)
    if made_with not in (None, name):
        raise UsageError(
            f"{source.name} holds statistics in features {quoted(made_with)}, and those asked for are '{name}': "
            "distances between them are meaningless. Use the same features, or another reference"
        )
    if base is None and not plugin.pretrained:
        if made_with is not None:
            assert isinstance(source.content, StatisticsFile), "they say what they were made with"
            data = source.content.metadata.get("dataset")
            raise UsageError(
                f"{source.name} holds statistics of {quoted(data)} in features '{name}', which are made from that data "
                "set's own images, and statistics hold none. Name the data set: `reference=DATASET`; or measure a run "
                "on it"
            )
        raise UsageError(
            f"features '{name}' are made from a data set's own images, but {source.name} holds no images. "
            f"Use {features_where(lambda plugin: plugin.pretrained)}; or measure a run; or name the data set: "
            "`reference=DATASET`"
        )
    if base is not None and plugin.labelled and not base.info.classes:
        raise UsageError(
            f"features '{name}' need a data set with classes, and '{source.name}' has none. "
            f"Use {features_where(lambda plugin: not plugin.labelled and not plugin.pretrained)}"
        )


def _check_published(statistics: clean_fid.Statistics, plugin: Features, name: str) -> None:
    """Check that published statistics were made with these features.

    Raises:
        UsageError: if they were made with others.
    """
    others = modes_of(plugin, clean_fid.NAME)
    if statistics.mode in others:
        return
    raise UsageError(
        f"clean-fid's statistics of mode={statistics.mode} were not made with features '{name}' as chosen: distances "
        f"between them are meaningless. Use `features={statistics.features}`"
        + (f", or statistics of mode={' or mode='.join(others)}" if others else "")
    )


def check_identity(statistics: StatisticsFile, features: PreparedFeatures, name: str) -> None:
    """Check that statistics which say how they were made were made with this extractor.

    Raises:
        EvaluationError: if they were made with another one.
    """
    made = statistics.metadata.get("features_identity")
    if made not in (None, features.identity):
        raise EvaluationError(
            f"{statistics.path} was made with features {quoted(statistics.metadata.get('features'))} of identity "
            f"{str(made)[:12]}…, but these are '{name}' of identity {features.identity[:12]}…: distances between them "
            "are meaningless. Choose the same features, with the same options and weights; if another version of "
            "debiasctl wrote the file, export it again"
        )
