"""Food-101."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from debiasctl.api import DataError
from debiasctl.api.files import read_json
from debiasctl.builtin.datasets._support.file_sets import FileSet, FileSetOptions, Place, read_list
from debiasctl.builtin.datasets._support.image_files import FolderSource, ImageSource

_NAMES = (
    "apple_pie baby_back_ribs baklava beef_carpaccio beef_tartare beet_salad beignets bibimbap bread_pudding "
    "breakfast_burrito bruschetta caesar_salad cannoli caprese_salad carrot_cake ceviche cheese_plate cheesecake "
    "chicken_curry chicken_quesadilla chicken_wings chocolate_cake chocolate_mousse churros clam_chowder club_sandwich "
    "crab_cakes creme_brulee croque_madame cup_cakes deviled_eggs donuts dumplings edamame eggs_benedict escargots "
    "falafel filet_mignon fish_and_chips foie_gras french_fries french_onion_soup french_toast fried_calamari "
    "fried_rice frozen_yogurt garlic_bread gnocchi greek_salad grilled_cheese_sandwich grilled_salmon guacamole gyoza "
    "hamburger hot_and_sour_soup hot_dog huevos_rancheros hummus ice_cream lasagna lobster_bisque "
    "lobster_roll_sandwich macaroni_and_cheese macarons miso_soup mussels nachos omelette onion_rings oysters pad_thai "
    "paella pancakes panna_cotta peking_duck pho pizza pork_chop poutine prime_rib pulled_pork_sandwich ramen ravioli "
    "red_velvet_cake risotto samosa sashimi scallops seaweed_salad shrimp_and_grits spaghetti_bolognese "
    "spaghetti_carbonara spring_rolls steak strawberry_shortcake sushi tacos takoyaki tiramisu tuna_tartare waffles"
)


class Food101(FileSet):
    """101,000 photographs of food in 101 classes (Bossard et al., 2014): 75,750 to train on, 25,250 held out.

    The official test images are held out, and the middle squares are used, of any size. The files are read from the
    data folder (DEBIASCTL_DATA) or the cache in torchvision's layout (food-101/images and food-101/meta), or else
    downloaded into the cache.
    """

    class Options(FileSetOptions):
        """The options of food101."""

    options: Options

    title, name, base, archive = "Food-101", "food101", "food-101", "food-101.tar.gz"
    torchvision_name = "Food101"
    markers = ("meta/train.json",)
    needed = ("images/", "meta/train.json", "meta/test.json")

    def published(self) -> tuple[int, int, tuple[str, ...]]:
        """The published facts."""
        return 75_750, 25_250, tuple(_NAMES.split())

    def source(self, folder: Path) -> ImageSource:
        """The photographs, in a folder for each class."""
        if not (folder / "images").is_dir():
            raise DataError(f"{folder} lacks images/ of Food-101. Unpack {self.archive} again")
        return FolderSource(folder / "images")

    def places(self, folder: Path, source: ImageSource) -> tuple[tuple[str, ...], Mapping[str, Place]]:
        """Read the classes and splits from JSON files: names without their ending, by class."""
        lists = {
            is_train: _read(folder / "meta" / name) for is_train, name in ((True, "train.json"), (False, "test.json"))
        }
        classes = tuple(sorted(lists[True]))
        unknown = sorted(set(lists[False]) - set(classes))
        if unknown:
            raise DataError(f"{folder / 'meta'}: test.json has the class {unknown[0]}, but train.json does not")
        numbers = {name: number for number, name in enumerate(classes)}
        return classes, {
            f"{name}.jpg": (is_train, numbers[label])
            for is_train, stated in lists.items()
            for label, names in stated.items()
            for name in names
        }

    def addresses(self) -> Sequence[str]:
        """Where the archive is published."""
        return ["http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz"]


def _read(path: Path) -> dict[str, list[str]]:
    stated: Any = read_list(path, read_json, title="Food-101")
    is_list = isinstance(stated, dict) and all(isinstance(names, list) for names in stated.values())
    if not is_list or not all(isinstance(name, str) for names in stated.values() for name in names):
        raise DataError(f"{path} is not a list of names for each class. Unpack food-101.tar.gz again")
    found: dict[str, list[str]] = stated
    return found
