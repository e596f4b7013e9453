"""Anyone's images, measured against anyone's, through the command line."""

import dataclasses
import hashlib
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import error_of, succeed, write_distribution

from debiasctl.builtin.features import inception
from debiasctl.evaluation.metrics.colour import mean_colours
from debiasctl.evaluation.uncertainty.jackknife import Division, mean_jackknife

# what is measured here and by clean-fid: 13x13 pixels of clean-fid's 299x299 ones, projected to 24 numbers
PLUGIN = '''
import hashlib
import torch
from cleanfid.resize import build_resizer
from debiasctl.api import Features, PluginOptions, PreparedFeatures


def extract(x):
    """[N, 24] for float x [N, 3, 299, 299] in [0, 255]."""
    projection = torch.randn(507, 24, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.avg_pool2d(x, 23).flatten(1) / 255 @ projection


class Coarse(Features):
    """Random projections of coarse images."""

    pretrained = True
    any_size = True
    weights_option = "salt"

    class Options(PluginOptions):
        """None but a name of its own."""

        salt: str = ""

    def prepare(self, data, *, cache_dir, device):
        return Prepared(self.options.salt)


class Prepared(PreparedFeatures):
    def __init__(self, salt):
        super().__init__(identity=hashlib.sha256(salt.encode()).hexdigest(), dimension=24, details={})

    def __call__(self, images):
        resize = build_resizer("clean")
        rgb = images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous().numpy()
        rows = [torch.from_numpy(resize(image)).permute(2, 0, 1) for image in rgb]
        return extract(torch.stack(rows)).double()
'''


@pytest.fixture(autouse=True)
def coarse(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path_factory.mktemp("site")
    write_distribution(
        site,
        name="coarse-features",
        version="1",
        entry_points={"debiasctl.features": {"coarse": "coarse_features:Coarse"}},
        modules={"coarse_features": PLUGIN},
    )
    monkeypatch.syspath_prepend(str(site))


def tiles(name: str, *, size: int, count: int = 60) -> list[Image.Image]:
    from sklearn.datasets import load_sample_image

    photo = Image.fromarray(load_sample_image(name))
    across = photo.width // size
    corners = [(size * (n % across), size * (n // across)) for n in range(count)]
    return [photo.crop((x, y, x + size, y + size)) for x, y in corners]


def save(folder: Path, images: list[Image.Image], *, mode: str = "RGB") -> Path:
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        image.convert(mode).save(folder / f"{number:03d}.png")
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of tiles: `colour`, `real` (smaller), `grey`, `real-grey`."""
    root = tmp_path_factory.mktemp("images")
    save(root / "colour", tiles("flower.jpg", size=40))
    save(root / "real", tiles("china.jpg", size=32, count=80))
    save(root / "grey", tiles("flower.jpg", size=40), mode="L")
    save(root / "real-grey", tiles("china.jpg", size=40, count=80), mode="L")
    return root


def pixels_of(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.iterdir())])


def evaluate(*arguments: str | Path) -> dict:
    (record,) = json.loads(succeed("evaluate", *arguments, "--json").out)["evaluations"]
    return record


def measured(samples: Path, reference: Path | str, *more: str | Path) -> dict:
    return evaluate("--samples", samples, "--reference", reference, "--features", "coarse", *more)


def clean_fid(first: Path, second: Path, monkeypatch: pytest.MonkeyPatch) -> float:
    import cleanfid.fid
    import coarse_features
    import scipy.linalg

    def sqrtm(matrix: np.ndarray, disp: bool = True) -> object:
        root = scipy.linalg.sqrtm(matrix)
        return root if disp else (root, 0.0)  # what clean-fid asks for, and SciPy no longer has

    class Linalg:
        pass

    linalg = Linalg()
    linalg.sqrtm = sqrtm
    monkeypatch.setattr(cleanfid.fid, "linalg", linalg)
    return cleanfid.fid.compute_fid(
        str(first), str(second), mode="clean", num_workers=0, device=torch.device("cpu"), verbose=False,
        custom_feat_extractor=coarse_features.extract,
    )  # fmt: skip


@pytest.mark.parametrize("samples, reference", [("colour", "real"), ("grey", "real-grey")])
@pytest.mark.parametrize("form", ["png", "npz", "zip"])
def test_two_folders_as_clean_fid_measures_them(
    images: Path, samples: str, reference: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = clean_fid(images / samples, images / reference, monkeypatch)
    given = images / samples
    if form == "npz":
        given = tmp_path / "samples.npz"
        np.savez(given, arr_0=pixels_of(images / samples))
    elif form == "zip":
        given = tmp_path / "samples.zip"
        with zipfile.ZipFile(given, "w") as archive:
            for path in (images / samples).iterdir():
                archive.write(path, f"deep/er/{path.name}")
    record = measured(given, images / reference, "--metrics", "fd_coarse")
    assert record["metrics"]["fd_coarse"]["value"] == pytest.approx(expected, rel=1e-4)
    assert expected > 1
    assert (record["measured"]["num"], record["measured"]["reference_num"]) == (60, 80)


def test_the_record_and_the_features_beside_it(images: Path, debiasctl_home: Path) -> None:
    record = measured(images / "colour", images / "real")
    assert (record["run"], record["checkpoint"], record["measured"]["sampler"]) == (None, None, None)
    assert (record["measured"]["dataset"], record["measured"]["reference"]) == ("real", "all")
    folder = debiasctl_home / "evaluations"
    (stored,) = folder.glob("*.json")
    assert json.loads(stored.read_text()) == record
    with np.load(folder / record["features_file"]) as kept:
        import coarse_features

        array = torch.from_numpy(pixels_of(images / "colour")).permute(0, 3, 1, 2)
        np.testing.assert_array_equal(kept["features"], coarse_features.Prepared("")(array).float())
        assert str(kept["identity"]) == record["measured"]["features_identity"]
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    measured(images / "colour", images / "real")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    "counts, note",
    [
        ([40] * 3, "that their counts were chosen"),
        ([16, 24, 80], "that they were drawn at random"),
        ([120], "have no labels"),
    ],
    ids=["even", "uneven", "none"],
)
@pytest.mark.parametrize("form", ["folders", "npz", "adm"])
def test_labels_say_whether_class_counts_were_chosen(tmp_path: Path, counts: list[int], note: str, form: str) -> None:
    """Even counts keep the division's classes, as a run's do; all others leave the interval as without labels."""
    sorted_tiles = sorted(tiles("flower.jpg", size=8, count=120), key=lambda tile: np.asarray(tile).mean())
    labels = np.repeat(np.arange(len(counts)), counts)
    for label in range(len(counts)):
        save(tmp_path / "folders" / f"class{label}", [sorted_tiles[n] for n in np.flatnonzero(labels == label)])
    pixels = np.stack([np.asarray(tile) for tile in sorted_tiles])
    names = ("images", "labels") if form == "npz" else ("arr_0", "arr_1")
    arrays = {names[0]: pixels, **({names[1]: labels} if len(counts) > 1 else {})}
    np.savez(tmp_path / "x.npz", **arrays)
    np.savez(tmp_path / "real.npz", images=pixels[::2])
    given = tmp_path / ("folders" if form == "folders" else "x.npz")
    chosen = ("--features", "pixels:dimension=4", "--metrics", "mean_shift_r")
    record = evaluate("--samples", given, "--reference", tmp_path / "real.npz", *chosen)
    (found,) = [text for text in record["notes"] if "the intervals assume" in text]
    assert note in found
    colours = mean_colours(torch.from_numpy(pixels).permute(0, 3, 1, 2))[:, 0]
    division = Division.of(120, torch.from_numpy(labels) if note.endswith("chosen") else None)
    figure = record["metrics"]["mean_shift_r"]
    pseudo_values = np.array(figure["interval"]["jackknife"]["pseudo_values"])
    expected = np.array(mean_jackknife(colours, division=division).pseudo_values)
    np.testing.assert_allclose(pseudo_values - figure["value"], expected - float(colours.mean()), atol=1e-9)


def test_spatial_statistics_without_spatial_features(images: Path, tmp_path: Path) -> None:
    arrays = {"mu": np.zeros(24), "sigma": np.eye(24)}
    np.savez(tmp_path / "half.npz", **arrays, mu_s=np.zeros(7))
    np.savez(tmp_path / "shapes.npz", **arrays, mu_s=np.zeros(7), sigma_s=np.eye(6))
    for name, message in {
        "half": "but not sigma_s",
        "shapes": "mu_s [7] and sigma_s [6, 6] are not a mean [D]",
    }.items():
        given = ("--samples", images / "colour", "--reference", tmp_path / f"{name}.npz", "--features", "coarse")
        assert message in error_of("evaluate", *given, code=1)


def test_the_table_says_what_was_measured(images: Path) -> None:
    out = succeed(
        "evaluate", "--samples", images / "grey", "--reference", images / "real-grey", "--features", "coarse"
    ).out
    assert out.startswith(f"60 images of {images / 'grey'} against 80 images of real-grey")
    assert "NFE" not in out


def test_a_data_set_as_the_reference_has_a_floor(tmp_path: Path) -> None:
    from debiasctl.api import DataLocation
    from debiasctl.registry.entry_points import create

    data = create("datasets", "digits").load(DataLocation(None, tmp_path))
    some = data.heldout.images(torch.arange(0, 120))
    np.savez(tmp_path / "digits.npz", images=some[:, 0].numpy())
    features = ("--features", "pixels:dimension=4")
    record = evaluate("--samples", tmp_path / "digits.npz", "--reference", "digits", *features)
    figure = record["metrics"]["fd_pixels"]
    assert figure["floor"] is not None
    assert figure["floor_num"] == 120
    assert record["measured"]["reference"] == "train"
    assert record["measured"]["reference_num"] == len(data.train)
    out = succeed("evaluate", "--samples", tmp_path / "digits.npz", "--reference", "digits", *features).out
    (row,) = [line.split() for line in out.splitlines() if "fd_pixels" in line]
    interval = figure["interval"]
    assert row[:6] == [
        "fd_pixels",
        f"{figure['value']:.4g}",
        f"{figure['corrected']:.4g}",
        f"({interval['low']:.4g}",
        "to",
        f"{interval['high']:.4g})",
    ]


# ---------------------------------------------------------------- statistics


def test_exported_statistics_give_the_same_figure(images: Path, tmp_path: Path) -> None:
    file = tmp_path / "new" / "real.npz"
    first = measured(images / "colour", images / "real", "--export-reference", file)
    second = measured(images / "colour", file)
    assert second["metrics"]["fd_coarse"]["value"] == pytest.approx(first["metrics"]["fd_coarse"]["value"], rel=1e-9)
    assert second["measured"]["reference"] == "statistics"
    assert "kd_coarse" not in second["metrics"]
    assert not any("does not say how it was made" in text for text in second["notes"])
    with np.load(file) as archive:
        assert archive["mu"].shape == (24,)
        assert archive["sigma"].shape == (24, 24)
        about = json.loads(str(archive["debiasctl"]))
    assert (about["num"], about["features"], about["split"]) == (80, "coarse", "all")
    assert about["features_identity"] == first["measured"]["features_identity"]
    message = error_of("evaluate", "--samples", images / "colour", "--reference", file,
                       "--features", "coarse:salt=x", code=1)  # fmt: skip
    assert "was made with features 'coarse' of identity" in message
    assert "Copy it" in error_of("evaluate", "--samples", images / "colour", "--reference", file, "--features",
                                 "coarse", "--export-reference", tmp_path / "b.npz", code=2)  # fmt: skip


@pytest.mark.parametrize("form", ["edm", "adm"])
def test_statistics_in_the_forms_of_edm_and_adm(images: Path, tmp_path: Path, form: str) -> None:
    import coarse_features

    real = torch.from_numpy(pixels_of(images / "real")).permute(0, 3, 1, 2)
    found = coarse_features.Prepared("")(real).numpy()
    arrays = {"mu": found.mean(axis=0), "sigma": np.cov(found, rowvar=False)}
    if form == "adm":
        arrays |= {"mu_s": np.zeros(7), "sigma_s": np.eye(7), "arr_0": pixels_of(images / "real")[:3]}
    np.savez(tmp_path / "stats.npz", **arrays)
    record = measured(images / "colour", tmp_path / "stats.npz")
    expected = measured(images / "colour", images / "real")["metrics"]["fd_coarse"]["value"]
    assert record["metrics"]["fd_coarse"]["value"] == pytest.approx(expected, rel=1e-9)
    assert any("does not say how it was made" in text for text in record["notes"])


SIGMA = np.eye(24)


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"mu": np.zeros(5), "sigma": np.eye(5)}, "have 5 dimensions, but these features have 24"),
        ({"mu": np.zeros(0), "sigma": np.zeros((0, 0))}, "are not a mean [D] and a covariance [D, D]"),
        ({"mu": np.zeros(24), "sigma": np.eye(5)}, "are not a mean [D] and a covariance [D, D]"),
        ({"mu": np.full(24, np.nan), "sigma": SIGMA}, "mu or sigma holds NaN or infinity"),
        ({"mu": np.zeros(24), "sigma": SIGMA + np.eye(24, k=1)}, "sigma is not symmetric"),
        (
            {"mu": np.zeros(24), "sigma": -SIGMA},
            "sigma has the eigenvalue -1, and a covariance has none below 0",
        ),
        ({"mu": np.zeros(24)}, "holds mu, but no images, named images or arr_0. Statistics are mu and sigma together"),
        ({"mu": np.array(["a"] * 24), "sigma": SIGMA}, "are damaged"),
    ],
    ids=["dimension", "empty", "shapes", "nan", "asymmetric", "negative", "no sigma", "text"],
)
def test_statistics_that_are_none(images: Path, tmp_path: Path, arrays: dict, message: str) -> None:
    np.savez(tmp_path / "stats.npz", **arrays)
    assert message in error_of(
        "evaluate",
        "--samples",
        images / "colour",
        "--reference",
        tmp_path / "stats.npz",
        "--features",
        "coarse",
        code=1,
    )


def test_statistics_want_features_that_need_no_data(images: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "stats.npz", mu=np.zeros(4), sigma=np.eye(4))
    message = error_of("evaluate", "--samples", images / "colour", "--reference", tmp_path / "stats.npz",
                       "--features", "pixels", code=2)  # fmt: skip
    assert "are made from a data set's own images" in message


# ---------------------------------------------------------------- what cannot be measured


def folder_with(root: Path, **files: Image.Image | bytes) -> Path:
    root.mkdir()
    for name, content in files.items():
        if isinstance(content, bytes):
            (root / f"{name}.png").write_bytes(content)
        else:
            content.save(root / f"{name}.png")
    return root


@pytest.mark.parametrize(
    "name, message",
    [
        ("one", "at least 2 images to measure, not 1"),
        ("sizes", "images have different sizes: a.png (40x40), b.png (32x32)"),
        ("wide", "images are not square: a.png (40x20)"),
        ("broken", "cannot be read: b.png (not an image that can be read)"),
        ("cut", "cannot be read: b.png"),
    ],
)
def test_folders_that_cannot_be_measured(images: Path, tmp_path: Path, name: str, message: str) -> None:
    tile = Image.open(images / "colour" / "000.png")
    data = (images / "colour" / "001.png").read_bytes()
    others = {
        "one": {},
        "sizes": {"b": tile.resize((32, 32))},
        "wide": {"a": tile.resize((40, 20)), "b": tile.resize((40, 20))},
        "broken": {"b": b"no image"},
        "cut": {"b": data[: len(data) // 2]},
    }
    folder = folder_with(tmp_path / "folder", **({"a": tile} | others[name]))
    assert message in error_of(
        "evaluate", "--samples", folder, "--reference", images / "real", "--features", "coarse", code=1
    )


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"images": np.full((4, 8, 8, 3), np.nan)}, "hold NaN or infinity"),
        ({"images": np.zeros((4, 8, 8, 3), dtype=np.float32)}, "is float32 [4, 8, 8, 3]"),
        ({"arr_0": np.zeros((4, 8, 6, 3), dtype=np.uint8)}, "must be square"),
        ({"arr_0": np.zeros((4, 3, 8, 8), dtype=np.uint8)}, "uint8 [N, H, H, 1 or 3]"),
        ({"images": np.zeros((0, 8, 8, 3), dtype=np.uint8)}, "holds no image"),
        ({"x": np.zeros(3)}, "holds x, but no images, named images or arr_0"),
    ],
    ids=["nan", "float", "wide", "channels first", "none", "other name"],
)
def test_npz_files_that_cannot_be_measured(images: Path, tmp_path: Path, arrays: dict, message: str) -> None:
    np.savez(tmp_path / "samples.npz", **arrays)
    assert message in error_of(
        "evaluate", "--samples", tmp_path / "samples.npz", "--reference", images / "real", code=1
    )


def test_features_whose_classifier_nobody_tested_say_so(images: Path) -> None:
    found = measured(images / "real", images / "real", "--features", "local-ssl:steps=2", "--metrics", "fd_local-ssl")
    note = "features 'local-ssl': no images are held out, so their classifier's accuracy is unknown"
    assert found["notes"].count(note) == 1


def test_an_array_under_the_name_of_an_npz(images: Path, tmp_path: Path) -> None:
    path = tmp_path / "samples.npz"
    with path.open("wb") as stream:
        np.save(stream, pixels_of(images / "grey"))
    message = error_of("evaluate", "--samples", path, "--reference", images / "real", code=1)
    assert "samples.npz cannot be read as an npz: it is one array (numpy.save), not an npz. Write it" in message


@pytest.mark.parametrize("damage", ["cut", "text"])
def test_a_damaged_npz(images: Path, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "samples.npz"
    np.savez(path, images=pixels_of(images / "grey"))
    path.write_bytes(path.read_bytes()[:-200] if damage == "cut" else b"no npz")
    assert "cannot be read as an npz" in error_of("evaluate", "--samples", path, "--reference", images / "real", code=1)
    assert "cannot be read as an npz" in error_of("evaluate", "--samples", images / "real", "--reference", path, code=1)


def test_grey_against_colour_and_other_sizes_are_seen_before_any_work(images: Path, tmp_path: Path) -> None:
    given = ("--reference", images / "real")
    assert "the images are grey and the reference's RGB" in error_of(
        "evaluate", "--samples", images / "grey", *given, code=1
    )
    message = error_of("evaluate", "--samples", images / "colour", *given, "--features", "pixels", code=1)
    assert "the images have 40 pixels a side and the reference's 32: features 'pixels' do not resize" in message
    assert not list((Path(os.environ["DEBIASCTL_HOME"])).rglob("*.safetensors"))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "name a run, or images with --samples"),
        (["a", "--samples", "x", "--reference", "digits"], "a RUN and --samples are two measurements"),
        (["--samples", "x"], "--samples needs --reference"),
        (["--samples", "no-such-folder", "--reference", "digits"], "does not exist. Give a folder, .zip, .tar or .npz"),
        (["--samples", "no-such.npz", "--reference", "digits"], "no-such.npz does not exist"),
        (["--samples", "{grey}", "--reference", "{grey}", "--metrics", "fd_clip"], "needs --features clip"),
        (["--samples", "{grey}", "--reference", "digts"], "Did you mean 'digits'?"),
        (["--samples", "{grey}", "--reference", "gone.npz"], "'gone.npz' is neither a data set nor a path"),
        (["--samples", "{grey}", "--reference", "digits", "--steps", "5", "--num", "8"], "--num, --steps say how"),
        (["--samples", "{grey}", "--reference", "{grey}", "--feature-weights", "w"], "have no weights from a file"),
        (["--samples", "{grey}", "--reference", "{grey}", "--features", "local"], "Use --features local-ssl or pixels"),
        (["--samples", "{grey}", "--reference", "{grey}", "--export-reference", "x.pt"], "choose one of .npz"),
        (["--samples", "{grey}", "--reference", "{grey}", "--metrics", "fd_pixls"], "Did you mean 'fd_pixels'?"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant(images: Path, arguments: list[str], message: str) -> None:
    given = [text.format(grey=images / "grey") for text in arguments]
    assert message in error_of("evaluate", *given, code=2)


def test_weights_go_to_the_option_that_the_features_declare(images: Path, tmp_path: Path) -> None:
    given = ("--samples", images / "colour", "--reference", images / "real", "--feature-weights", tmp_path / "w")
    record = evaluate(*given, "--features", "coarse", "--metrics", "fd_coarse")
    assert record["measured"]["features_identity"] == hashlib.sha256(str(tmp_path / "w").encode()).hexdigest()
    message = error_of("evaluate", *given, "--features", "coarse:salt=other", code=2)
    assert "the features' own option salt=... are the same. Give only one" in message


@pytest.mark.parametrize("weights", ["absent", "other", "given and other"])
def test_weights_of_inception_that_are_absent_or_others(
    images: Path, debiasctl_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str
) -> None:
    """Never another extractor instead: exit 1, and what lies where."""
    no_server = dataclasses.replace(inception.WEIGHTS, url="http://127.0.0.1:9/inception.pt")
    monkeypatch.setattr(inception, "WEIGHTS", no_server)
    path = debiasctl_home / "cache" / "features" / "inception" / inception.FILE_NAME
    more: list[str | Path] = []
    if weights != "absent":
        path = tmp_path / "mine.pt" if weights == "given and other" else path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"other weights")
        more = ["--feature-weights", path] if weights == "given and other" else []
    message = error_of("evaluate", "--samples", images / "colour", "--reference", images / "real",
                       "--features", "inception", *more, code=1)  # fmt: skip
    assert str(path) in message
    if weights != "absent":
        assert hashlib.sha256(b"other weights").hexdigest() in message
        assert path.read_bytes() == b"other weights"
    assert not (debiasctl_home / "evaluations").exists()
