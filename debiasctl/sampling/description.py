"""The description stored beside drawn images in samples.json: everything their pixels depend on, and facts on them."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, SerializerFunctionWrapHandler, model_serializer

from debiasctl.files import content_key
from debiasctl.reading.documents import read_json
from debiasctl.registry.choices import PluginChoice
from debiasctl.runs.guides import Guide
from debiasctl.sampling.guidance import network_key
from debiasctl.sampling.request import Precision, SampleRequest
from debiasctl.specs.section import without_null

FILE = "samples.json"
VERSION = 2  # of the drawing: increased when the same request would give other images


class GuideOrigin(BaseModel):
    """The weaker network that guidance led away from; `network` is a key of all that defines it but its weights."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    run: str
    run_identity: str | None
    step: int = Field(ge=0)
    weights: str
    unconditional: bool
    network: str
    weights_sha256: str

    @classmethod
    def of(cls, guide: Guide, *, weights_sha256: str) -> "GuideOrigin":
        """The origin of a guide with weights of the given checksum."""
        return cls(
            run=guide.run.name, run_identity=guide.run.identity(), step=guide.step, weights=guide.weights,
            unconditional=guide.unconditional, network=network_key(guide.run.spec()), weights_sha256=weights_sha256,
        )  # fmt: skip

    def content(self) -> dict[str, JsonValue]:
        """What images depend on: a guide of another name with the same network and weights gives the same ones."""
        return self.model_dump(mode="json", include={"unconditional", "network", "weights_sha256"})


class Origin(BaseModel):
    """Everything that a set of images depends on; a single image depends on all of it but `num`."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    num: int = Field(ge=1)
    num_steps: int = Field(ge=1)
    sampler: PluginChoice
    seed: int = Field(ge=0)
    step: int = Field(ge=0)
    weights: str
    label: Annotated[int, Field(ge=0)] | None
    precision: Precision
    compile: bool
    weights_sha256: str
    version: int
    guide: GuideOrigin | None = None

    @classmethod
    def of(cls, request: SampleRequest, *, weights_sha256: str, guide: GuideOrigin | None = None) -> "Origin":
        """The origin of a request's images, drawn with weights of the given checksum, and with a guide or without."""
        return cls(**{**vars(request), "guide": guide}, weights_sha256=weights_sha256, version=VERSION)

    @model_serializer(mode="wrap")
    def _without_null(self, dump: SerializerFunctionWrapHandler) -> dict[str, JsonValue]:
        return without_null(dump(self), "guide")

    @property
    def _content(self) -> dict[str, JsonValue]:
        """What keys are made of."""
        found: dict[str, JsonValue] = self.model_dump(mode="json")
        return found if self.guide is None else {**found, "guide": self.guide.content()}

    @property
    def key(self) -> str:
        """The name of the images' folder."""
        return content_key(self._content)

    @property
    def series_key(self) -> str:
        """A key that requests share if they differ only in their number of images; the shorter set is a prefix."""
        return content_key({key: value for key, value in self._content.items() if key != "num"})


class Description(Origin):
    """The description of stored images: also the run's name and identity, the model's classes, and the file's checksum.

    `nfe` is the number of network evaluations for each image. Sets of older versions have no identity and no checksum.
    """

    classes: list[str]
    run: str
    run_identity: str | None = None
    series: str
    nfe: int = Field(ge=0)
    images_sha256: str | None = None

    def to_json(self) -> dict[str, JsonValue]:
        """Return the fields as they are stored and printed; those that an older version did not store are left out."""
        return self.model_dump(mode="json", exclude_unset=True)

    @property
    def origin(self) -> Origin:
        """What the images depend on, without the facts about them."""
        return Origin(**{name: getattr(self, name) for name in Origin.model_fields})

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the description in a folder of images.

        Raises:
            OSError, ValueError: if it does not exist, is damaged, or is of images drawn by another version.
        """
        raw = read_json(folder / FILE)
        version = raw.get("version")
        if type(version) is int and version != VERSION:  # which may describe them otherwise
            raise ValueError(
                f"version: they were drawn by version {version} of the drawing, and this is version {VERSION}"
            )
        return cls.model_validate(raw)
