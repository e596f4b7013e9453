"""No images: the shapes and classes that a model from elsewhere takes, where no data set is named."""

from pydantic import Field

from debiasctl.api import DataError, DataLocation, Dataset, DatasetInfo, LoadedDataset, PluginOptions


class NoImages(Dataset):
    """The shapes and classes of a model from elsewhere, without any image.

    `debiasctl runs add-model` records it where no data set is given. Such a run can be sampled; whatever needs real
    images says how to name some.
    """

    class Options(PluginOptions):
        """What is known without images."""

        image_size: int = Field(ge=1, le=4096, description="height and width, in pixels")
        channels: int = Field(3, ge=1, le=3, description="1 for grey images, 3 for colour")
        num_classes: int = Field(0, ge=0, le=100_000, description="number of classes, which are named 0, 1, 2, ...")

    options: Options

    def info(self, location: DataLocation) -> DatasetInfo:
        """Return the facts, which follow from the options."""
        names = tuple(map(str, range(self.options.num_classes)))
        return DatasetInfo(self.options.image_size, self.options.channels, names, num_train=0, num_heldout=0)

    def load(self, location: DataLocation) -> LoadedDataset:
        """Refuse to load images.

        Raises:
            DataError: always.
        """
        raise DataError(
            "data set 'no-images' holds no images: it stands for those of a model from elsewhere that was added "
            "without a data set. Name real images where the command takes some (evaluate: `reference=digits`), or add "
            "the model again, by another name, with the data set that it was trained on (`dataset=digits`)"
        )
