"""Images that are known by their files in one run, and by their content in another that has read all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from debiasctl.comparison.observations import ArmData, Measured, Observation
from debiasctl.specs.recorded import ContentSection
from debiasctl.specs.sections import RunSpec

_HASH = "dataset_hash"


def content_by_files(specs: Sequence[RunSpec]) -> dict[str, str]:
    """The hash of the content for each hash of files of which some spec states both."""
    stated = [spec.content for spec in specs if spec.content is not None]
    return {one.files_hash: one.content_hash for one in stated if one.files_hash is not None}


def known_by_content(specs: Sequence[RunSpec]) -> list[RunSpec]:
    """The specs with their images known by their content where one of them states it, without the hash of files."""
    known = content_by_files(specs)
    return [spec if spec.content is None else _renamed(spec, spec.content, known) for spec in specs]


def measured_on_content(arms: Sequence[ArmData], specs: Sequence[RunSpec]) -> list[ArmData]:
    """Arms of observations, some of which were made before all images had been read."""
    known = content_by_files(specs)
    if not known:
        return list(arms)
    return [
        replace(arm, members=[replace(one, observations=[_named(seen, known) for seen in one.observations])
                              for one in arm.members])
        for arm in arms
    ]  # fmt: skip


def _renamed(spec: RunSpec, content: ContentSection, known: Mapping[str, str]) -> RunSpec:
    found = known.get(content.content_hash, content.content_hash)
    if content.files_hash is None and found == content.content_hash:
        return spec
    return spec.model_copy(update={"content": content.model_copy(update={"content_hash": found, "files_hash": None})})


def _named(seen: Observation, known: Mapping[str, str]) -> Observation:
    def renamed(measured: Measured) -> Measured:
        return tuple((name, known.get(str(value), value) if name == _HASH else value) for name, value in measured)

    return replace(seen, measured=renamed(seen.measured), of_pixels=renamed(seen.of_pixels))
