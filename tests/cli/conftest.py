import shutil
from pathlib import Path

import pytest
from tiny import OPTIONS, succeed


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 colour images of 16x16 pixels: tiles of a photograph that scikit-learn ships, halved."""
    from PIL import Image
    from sklearn.datasets import load_sample_image

    photo = Image.fromarray(load_sample_image("china.jpg")).reduce(2)
    folder = tmp_path_factory.mktemp("photo") / "tiles"
    folder.mkdir()
    for number in range(120):
        left, top = 16 * (number % 15), 16 * (number // 15)
        photo.crop((left, top, left + 16, top + 16)).save(folder / f"{number:03d}.png")
    return folder


@pytest.fixture(scope="session")
def _evaluated(tmp_path_factory: pytest.TempPathFactory, photo_folder: Path) -> Path:
    home = tmp_path_factory.mktemp("evaluated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEBIASCTL_HOME", str(home))
        patch.delenv("DEBIASCTL_DATA", raising=False)
        for name, data, weighting in (
            ("a", "digits", "debiased"),
            ("b", "digits", "constant"),
            ("colour-a", photo_folder, "debiased"),
            ("colour-b", photo_folder, "min-snr:gamma=3"),
        ):
            succeed("train", data, "--weighting", weighting, *OPTIONS, "--steps", "4", "--name", name)
            features = ("pixels:dimension=4",)
            if data == "digits":
                features = ("local:steps=2,dimension=4,min_accuracy=0", "--metrics", "fd_local,kd_local")
            succeed("evaluate", name, "--num", "8", "--steps", "2,3", "--features", *features)
    return home


@pytest.fixture
def evaluated(_evaluated: Path, debiasctl_home: Path) -> Path:
    """A user folder with runs a and b on digits, colour-a and colour-b on tiles of a photograph, all evaluated."""
    shutil.copytree(_evaluated, debiasctl_home, dirs_exist_ok=True)
    return debiasctl_home
