"""The sections of a run spec that no user sets: the content of the data, and where a run comes from."""

from typing import Any, Self

from pydantic import Field, NonNegativeInt, SerializerFunctionWrapHandler, model_serializer, model_validator

from debiasctl.registry.choices import Plugin
from debiasctl.specs.section import Section, without_null


class LatentsSection(Section):
    """The latents that the network is trained on: what an autoencoder makes of the images, less shift, times scale."""

    channels: int = Field(ge=1, description="channels of a latent")
    size: int = Field(ge=1, description="height and width of a latent")
    sha256: str = Field(description="SHA-256 of the autoencoder, which the run keeps")
    shift: tuple[float, ...] = Field(description="what is taken from each channel")
    scale: tuple[float, ...] = Field(description="what each channel is then multiplied by, above 0")
    bounded: bool = Field(description="whether latents lie in [-1, 1], so that samplers may clip estimates to it")

    @model_validator(mode="after")
    def _one_for_each_channel(self) -> Self:
        if not len(self.shift) == len(self.scale) == self.channels:
            raise ValueError(f"it needs {self.channels} values of shift and of scale, one for each channel")
        if min(self.scale) <= 0:
            raise ValueError("scale must be above 0")
        return self


FILES = "files:"  # before the hash of the names, sizes and times of files that have not all been read


class ContentSection(Section):
    """The content of the data, filled in when they are first read and compared when they are read again."""

    image_size: int = Field(ge=1, description="height and width")
    channels: int = Field(ge=1, description="1 for grey, 3 for colour")
    classes: tuple[str, ...] = Field(description="class names; empty without labels")
    class_counts: tuple[NonNegativeInt, ...] = Field(description="training images of each class")
    num_train: int = Field(ge=0, description="training images; 0 for a model from elsewhere without a data set")
    num_heldout: int = Field(ge=0, description="held-out images")
    content_hash: str = Field(
        description="SHA-256 of images and labels; 'files:' and one of the files' names, sizes and times, until all "
        "images of a large set have been read"
    )
    files_hash: str | None = Field(
        None, description="what content_hash was, or would have been, before all images of a large set had been read"
    )
    latents: LatentsSection | None = Field(None, description="the latents, for a network that is trained on them")

    @property
    def trained_shape(self) -> tuple[int, int, int]:
        """What the network is trained on, [C, H, W]: latents, or the images."""
        if self.latents is not None:
            return self.latents.channels, self.latents.size, self.latents.size
        return self.channels, self.image_size, self.image_size

    @model_serializer(mode="wrap")
    def _without_null(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_null(without_null(dump(self), "latents"), "files_hash")

    @property
    def has_been_read(self) -> bool:
        """Whether the content of the images is known, not their files alone."""
        return not self.content_hash.startswith(FILES)

    @property
    def lasting_hash(self) -> str:
        """The hash that what is made of the images is kept under, which stays when all of them have been read."""
        return self.files_hash or self.content_hash

    def same_images(self, other: "ContentSection") -> bool:
        """Whether these are the same images, by their content or, where that is unknown of one, by their files."""
        if self.has_been_read and other.has_been_read:
            return self.content_hash == other.content_hash
        hashes = {self.content_hash, self.files_hash} & {other.content_hash, other.files_hash}
        return bool(hashes - {None})

    @model_validator(mode="after")
    def _check_counts(self) -> Self:
        if self.class_counts and len(self.class_counts) != len(self.classes):
            raise ValueError(f"it counts {len(self.class_counts)} classes, and names {len(self.classes)}")
        return self


class ImportedSection(Section):
    """Where the network came from, of a run that holds one trained elsewhere."""

    name: str = Field(description="the run's name when the network was added")
    source: Plugin = Field(description="where the network came from, as name:key=value,...")
    sha256: str = Field(description="SHA-256 of its tensors")
    steps: int | None = Field(None, ge=0, description="optimizer steps that it was trained for; null: unknown")
    weighting_known: bool = Field(
        False, description="whether loss.weighting is what it was trained with; false: nobody has stated it"
    )
    notes: tuple[str, ...] = Field((), description="what was inferred about it, and from what")


class ProvenanceSection(Section):
    """The run's identity, and the software that it was made with."""

    run: str | None = Field(None, description="random identity of the run, which all that it stores states too")

    packages: dict[str, str] = Field(default_factory=dict, description="versions of the packages used")
    python: str | None = Field(None, description="Python's version")
    git_commit: str | None = Field(None, description="git commit of the working directory, if there is one")
