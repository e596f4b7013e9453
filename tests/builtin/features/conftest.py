import pytest
import torch
from real_data import as_dataset, digits_dataset


@pytest.fixture(scope="session")
def digits():
    return digits_dataset(every=5)


@pytest.fixture(scope="session")
def photos():
    """Real colour images: 40x40 patches of scikit-learn's two photographs; labels say which."""
    from sklearn.datasets import load_sample_images

    whole = [torch.from_numpy(photo.copy()).permute(2, 0, 1) for photo in load_sample_images().images]
    patches = [one.unfold(1, 40, 40).unfold(2, 40, 40).permute(1, 2, 0, 3, 4).reshape(-1, 3, 40, 40) for one in whole]
    labels = torch.arange(2).repeat_interleave(len(patches[0]))
    return as_dataset(torch.cat(patches), labels, classes=("china", "flower"), every=4)
