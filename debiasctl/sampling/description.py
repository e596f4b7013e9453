"""The description stored beside drawn images in samples.json: everything their pixels depend on, and facts on them."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from debiasctl.files import content_key
from debiasctl.reading.documents import read_json
from debiasctl.registry.choices import PluginChoice
from debiasctl.sampling.request import Precision, SampleRequest

FILE = "samples.json"
VERSION = 2  # of the drawing: increased when the same request would give other images


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

    @classmethod
    def of(cls, request: SampleRequest, *, weights_sha256: str) -> "Origin":
        """The origin of a request's images, drawn with weights of the given checksum."""
        return cls(**vars(request), weights_sha256=weights_sha256, version=VERSION)

    def to_json(self) -> dict[str, JsonValue]:
        """Return the fields as they are stored and printed."""
        return self.model_dump(mode="json")

    @property
    def key(self) -> str:
        """The name of the images' folder."""
        return content_key(self.to_json())

    @property
    def series_key(self) -> str:
        """A key that requests share if they differ only in their number of images; the shorter set is a prefix."""
        return content_key({key: value for key, value in self.to_json().items() if key != "num"})


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
