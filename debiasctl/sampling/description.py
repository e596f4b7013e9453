"""What is kept beside drawn images, in samples.json: all that their pixels depend on, and what they are."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from debiasctl.files import content_key, read_json
from debiasctl.registry.choices import PluginChoice
from debiasctl.sampling.request import Precision, SampleRequest

FILE = "samples.json"
VERSION = 2  # of what follows from a request: raised when the same request would give other images


class Origin(BaseModel):
    """All that images depend on; the image with an index, on all of it but `num`."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    num: int = Field(ge=1)
    num_steps: int
    sampler: PluginChoice
    seed: int
    step: int
    weights: str
    label: int | None
    precision: Precision
    compile: bool
    weights_sha256: str
    version: int

    @classmethod
    def of(cls, request: SampleRequest, *, weights_sha256: str) -> "Origin":
        """Of a request's images, drawn by weights with that checksum."""
        return cls(**vars(request), weights_sha256=weights_sha256, version=VERSION)

    def to_json(self) -> dict[str, JsonValue]:
        """As it is stored and printed."""
        return self.model_dump(mode="json")

    @property
    def key(self) -> str:
        """The name of the images' folder."""
        return content_key(self.to_json())

    @property
    def series_key(self) -> str:
        """What is equal for requests that differ in their number of images alone: the shorter one is a prefix."""
        return content_key({key: value for key, value in self.to_json().items() if key != "num"})


class Description(Origin):
    """Of images that are there: the run's name, the classes that the model knows, and network forwards an image."""

    classes: list[str]
    run: str
    series: str
    nfe: int = Field(ge=0)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The one in a folder of images.

        Raises:
            OSError, ValueError: if it is not there or damaged.
        """
        return cls.model_validate(read_json(folder / FILE))
