"""Oxford 102 Flowers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from debiasctl.api import DataError
from debiasctl.builtin.datasets._support.file_sets import FileSet, FileSetOptions, Place, read_list
from debiasctl.builtin.datasets._support.image_files import FolderSource, ImageSource

_LABELS, _SPLITS = "imagelabels.mat", "setid.mat"
_TRAIN, _VAL, _TEST = "trnid", "valid", "tstid"
_NAMES = (
    "pink primrose,hard-leaved pocket orchid,canterbury bells,sweet pea,english marigold,tiger lily,moon orchid,"
    "bird of paradise,monkshood,globe thistle,snapdragon,colt's foot,king protea,spear thistle,yellow iris,"
    "globe-flower,purple coneflower,peruvian lily,balloon flower,giant white arum lily,fire lily,pincushion flower,"
    "fritillary,red ginger,grape hyacinth,corn poppy,prince of wales feathers,stemless gentian,artichoke,"
    "sweet william,carnation,garden phlox,love in the mist,mexican aster,alpine sea holly,ruby-lipped cattleya,"
    "cape flower,great masterwort,siam tulip,lenten rose,barbeton daisy,daffodil,sword lily,poinsettia,"
    "bolero deep blue,wallflower,marigold,buttercup,oxeye daisy,common dandelion,petunia,wild pansy,primula,"
    "sunflower,pelargonium,bishop of llandaff,gaura,geranium,orange dahlia,pink-yellow dahlia?,cautleya spicata,"
    "japanese anemone,black-eyed susan,silverbush,californian poppy,osteospermum,spring crocus,bearded iris,"
    "windflower,tree poppy,gazania,azalea,water lily,rose,thorn apple,morning glory,passion flower,lotus,toad lily,"
    "anthurium,frangipani,clematis,hibiscus,columbine,desert-rose,tree mallow,magnolia,cyclamen,watercress,"
    "canna lily,hippeastrum,bee balm,ball moss,foxglove,bougainvillea,camellia,mallow,mexican petunia,bromelia,"
    "blanket flower,trumpet creeper,blackberry lily"
)


class Flowers102(FileSet):
    """8,189 photographs of flowers in 102 classes (Nilsback and Zisserman, 2008): 1,020 to train on, 6,149 held out.

    The official test images are held out, and the middle squares are used, of any size; train_on=train+val trains on
    the 1,020 validation images too. The files are read from the data folder (DEBIASCTL_DATA) or the cache in
    torchvision's layout (flowers-102/jpg, imagelabels.mat, setid.mat), or else downloaded into the cache.
    """

    class Options(FileSetOptions):
        """The options of flowers102."""

        train_on: Literal["train", "train+val"] = Field("train", description="train+val: the validation images too")

    options: Options

    title, name, base, archive = "Flowers102", "flowers102", "flowers-102", "102flowers.tgz"
    torchvision_name = "Flowers102"
    markers = ("jpg", _SPLITS)
    needed = ("jpg/ (from 102flowers.tgz)", _LABELS, _SPLITS)

    def published(self) -> tuple[int, int, tuple[str, ...]]:
        """The published facts."""
        return 1_020 * len(self._trained), 6_149, tuple(_NAMES.split(","))

    def source(self, folder: Path) -> ImageSource:
        """The photographs."""
        if not (folder / "jpg").is_dir():
            raise DataError(f"{folder} lacks jpg/ of Flowers102. Unpack 102flowers.tgz there")
        return FolderSource(folder / "jpg")

    def places(self, folder: Path, source: ImageSource) -> tuple[tuple[str, ...], Mapping[str, Place]]:
        """Read the classes and splits from MATLAB files of image numbers."""
        labels = read_list(folder / _LABELS, _numbers, title=self.title)
        splits = read_list(folder / _SPLITS, _numbers, title=self.title)
        lists = {part: splits.get(part) for part in (*self._trained, _TEST)}
        if "labels" not in labels or any(numbers is None for numbers in lists.values()):
            raise DataError(
                f"{folder / _SPLITS} or {_LABELS} lacks one of labels, {', '.join(lists)}. Fetch them again"
            )
        classes = tuple(_NAMES.split(","))
        places = {}
        for part, numbers in lists.items():
            for number in numbers or ():
                if not 1 <= number <= len(labels["labels"]):
                    raise DataError(f"{folder / _LABELS} has no class for image {number}. Fetch it again")
                label = labels["labels"][number - 1] - 1
                if not 0 <= label < len(classes):
                    raise DataError(f"{folder / _LABELS} has the class {label + 1}, which is not 1 to {len(classes)}")
                places[f"image_{number:05d}.jpg"] = (part != _TEST, label)
        return classes, places

    def addresses(self) -> Sequence[str]:
        """Where the files are published."""
        return ["https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"]

    def unpacking(self, archive: Path) -> str:
        """The archive holds jpg/ alone."""
        folder = archive.parent if archive.parent.name == self.base else archive.parent / self.base
        return f"mkdir -p {folder} && tar -xf {archive} -C {folder}, with {_LABELS} and {_SPLITS} beside jpg/"

    @property
    def _trained(self) -> tuple[str, ...]:
        return (_TRAIN, _VAL) if self.options.train_on == "train+val" else (_TRAIN,)


def _numbers(path: Path) -> dict[str, list[int]]:
    """The whole numbers in each array of a MATLAB file."""
    from scipy.io import loadmat

    content: dict[str, Any] = loadmat(path)
    return {name: value.reshape(-1).astype(int).tolist() for name, value in content.items() if not name.startswith("_")}
