"""CIFAR-100."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from debiasctl.api import DataLocation
from debiasctl.builtin.datasets._support.array_sets import TRAIN, ArraySet, ArraySetOptions
from debiasctl.builtin.datasets._support.cifar_pickles import read_arrays
from debiasctl.builtin.datasets.cifar10 import RECOMMENDED

_PUBLISHED_BYTES = {"train": 155_249_918, "test": 31_049_494}
_FINE = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle "
    "caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant "
    "flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man "
    "maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree "
    "plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper "
    "snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train "
    "trout tulip turtle wardrobe whale willow_tree wolf woman worm"
)
_COARSE = (
    "aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices "
    "household_furniture insects large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes "
    "large_omnivores_and_herbivores medium_mammals non-insect_invertebrates people reptiles small_mammals trees "
    "vehicles_1 vehicles_2"
)


class CIFAR100(ArraySet):
    """60,000 colour photographs of 32x32 pixels in a hundred classes (Krizhevsky, 2009): 50,000 to train on.

    The 10,000 test images are held out. The files are read from the data folder (DEBIASCTL_DATA) or the cache in
    torchvision's layout (cifar-100-python), or else unpacked from cifar-100-python.tar.gz or downloaded into the cache.
    Every file's MD5 is checked, and no code in the files is run.
    """

    class Options(ArraySetOptions):
        """The options of cifar100."""

        labels: Literal["fine", "coarse"] = Field(
            "fine", description="fine: 100 classes; coarse: their 20 superclasses"
        )

    options: Options

    title, name, base, archive, size = "CIFAR-100", "cifar100", "cifar-100-python", "cifar-100-python.tar.gz", 32
    torchvision_name = "CIFAR100"

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes or superclasses."""
        return tuple((_FINE if self.options.labels == "fine" else _COARSE).split())

    @property
    def published(self) -> tuple[int, int]:
        """The published numbers of images."""
        return 50_000, 10_000

    def recommended(self, location: DataLocation) -> Mapping[str, Any]:
        """At 32 pixels, the published setup of arXiv 2310.08442 for CIFAR-10."""
        return RECOMMENDED if self.options.image_size in (None, 32) else super().recommended(location)

    def files(self) -> list[tuple[str, str]]:
        """List the files of the images."""
        return [(name, md5) for name, md5 in [*self.torchvision.train_list, *self.torchvision.test_list]]

    def count(self, folder: Path, part: str) -> int:
        """Count the images; a file of the published size is not read."""
        path = folder / _file(part)
        if path.stat().st_size == _PUBLISHED_BYTES[_file(part)]:
            return self.published[part != TRAIN]
        return len(self.read(folder, part)[0])

    def read(self, folder: Path, part: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[Any] | None]:
        """Read a pickle of the arrays."""
        return read_arrays(folder / _file(part), labels=f"{self.options.labels}_labels")


def _file(part: str) -> str:
    return "train" if part == TRAIN else "test"
