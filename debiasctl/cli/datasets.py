"""`debiasctl datasets`: what a data set holds, and what is wrong in it."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from debiasctl.cli import options
from debiasctl.cli.completion import complete_plugin
from debiasctl.cli.options import option
from debiasctl.cli.output import note, print_json, print_pairs, print_table, say
from debiasctl.cli.summaries import print_summaries
from debiasctl.errors import DataError, UsageError
from debiasctl.wording import counted

if TYPE_CHECKING:
    from debiasctl.api import DataLocation, Dataset, DatasetInfo, ImageProblem, LoadedDataset

app = typer.Typer(no_args_is_help=True, help="List, show and check data sets.", rich_markup_mode="rich")

DATASET = Annotated[
    str,
    typer.Argument(
        metavar="NAME|PATH",
        help="A data set: its name, name:key=value,..., or the path of a folder, .zip, .tar or .npz of images.",
        autocompletion=complete_plugin("datasets"),
        show_default=False,
    ),
]
_CLASSES = 12  # whose counts are printed
_SIZES = 5  # that are printed

SHOW_EXAMPLES = """[bold]Examples[/bold]

debiasctl datasets show digits

debiasctl datasets show ./my-images --image-size 32 --out look.png"""
CHECK_EXAMPLES = """[bold]Examples[/bold]

debiasctl datasets check ./my-images

debiasctl datasets check digits --out found.json --json"""


@app.command("list", epilog="[bold]Example[/bold]  debiasctl datasets list")
def list_(as_json: Annotated[bool, options.AS_JSON] = False) -> None:
    """List the installed data sets with what each is. Nothing is imported."""
    print_summaries("datasets", as_json=as_json)
    if not as_json:
        note("next: debiasctl datasets show digits")


@app.command(epilog=SHOW_EXAMPLES)
def show(
    dataset: DATASET,
    out: Annotated[
        Path | None,
        option(
            "--out", "-o", metavar="FILE", help="Picture to write: .png, .jpg, .svg or .pdf (default: NAME-grid.png)."
        ),
    ] = None,
    num: Annotated[int, option("--num", "-n", min=1, max=1024, help="Images in the picture.")] = 64,
    labels: Annotated[bool, option("--labels", help="Write the class below each image of the picture.")] = False,
    image_size: Annotated[int | None, options.IMAGE_SIZE] = None,
    data_dir: Annotated[Path | None, options.DATA_DIR] = None,
    as_json: Annotated[bool, options.AS_JSON] = False,
) -> None:
    """Show what a data set holds: images, sizes, classes, hash, mean and deviation; and draw a grid of its images.

    All training images are read. Means and deviations are of values from 0 to 1. Images of different sizes are brought
    to one if --image-size does not say which.
    """
    from debiasctl.cli.locations import data_location
    from debiasctl.cli.progress import images_progress
    from debiasctl.data.summary import class_counts, pixel_moments, spread_images
    from debiasctl.files import check_file
    from debiasctl.reporting.pictures import PICTURES, save_grid

    location = data_location(data_dir)
    picture = out or Path(f"{_stem(dataset)}-grid.png")
    check_file(picture, argument="out", endings=PICTURES)
    _check_outside(picture, dataset)
    made, data, size_note = _loaded(dataset, image_size, location)
    info = data.info
    if labels and not info.classes:
        raise UsageError("--labels: this data set has no classes. Leave it out")
    with images_progress() as progress:
        moments = pixel_moments(data.train, progress=lambda done, total: progress("reading images", done, total))
    content_hash = (data.files.content_hash() if data.files else None) or data.content_hash
    images, numbers = spread_images(data, num)
    names = [info.classes[number] for number in numbers.tolist()] if labels and numbers is not None else None
    save_grid(picture, images, labels=names)
    train, heldout = (class_counts(split, len(info.classes)) for split in (data.train, data.heldout))
    sizes = made.stored_sizes(location)
    if as_json:
        print_json(
            {
                "dataset": str(_reference(dataset, image_size)),
                "num_train": info.num_train,
                "num_heldout": info.num_heldout,
                "image_size": info.image_size,
                "channels": info.channels,
                "value_type": info.value_type,
                "stored_sizes": []
                if sizes is None
                else [
                    {"width": width, "height": height, "images": count}
                    for (width, height), count in sizes.most_common()
                ],
                "classes": [
                    {"name": name, "train": train[number], "heldout": heldout[number]}
                    for number, name in enumerate(info.classes)
                ],
                "content_hash": content_hash,
                "mean": list(moments.mean),
                "std": list(moments.std),
                "picture": str(picture),
            }
        )
        return
    if size_note:
        note(size_note)
    pairs = _facts(info, content_hash, sizes)
    pairs |= {"mean": _figures(moments.mean), "deviation": _figures(moments.std), "picture": str(picture)}
    print_pairs(pairs)
    if info.classes:
        _print_classes(info, train, heldout)


@app.command(epilog=CHECK_EXAMPLES)
def check(
    dataset: DATASET,
    out: Annotated[
        Path | None,
        option("--out", "-o", metavar="FILE", help="List to write: .csv or .json (default: NAME-problems.csv)."),
    ] = None,
    data_dir: Annotated[Path | None, options.DATA_DIR] = None,
    as_json: Annotated[bool, options.AS_JSON] = False,
) -> None:
    """Decode every image of a data set, and list what is wrong or unusual in a file: a line for each finding.

    Errors are what training refuses: images that are damaged or cannot be read. Warnings are worth a look: duplicates,
    tiny, narrow and blank images, differing sizes and modes, several frames, endings that are not of the format. Exit
    code 1 if there are errors, and 0 if there are only warnings.
    """
    from debiasctl.cli.datasets_list import ENDINGS, write_problems
    from debiasctl.cli.locations import data_location
    from debiasctl.cli.progress import images_progress
    from debiasctl.data.checking import problems_of
    from debiasctl.files import check_file

    location = data_location(data_dir)
    path = out or Path(f"{_stem(dataset)}-problems.csv")
    check_file(path, argument="out", endings=ENDINGS)
    made = _made(_reference(dataset, None))
    counts, examined = Counter[tuple[str, str]](), 0
    examples: dict[tuple[str, str], str] = {}
    with images_progress() as progress:

        def report(done: int, total: int) -> None:
            nonlocal examined
            examined = done
            progress("checking images", done, total)

        def findings() -> "Iterator[ImageProblem]":
            for problem in problems_of(made, location, progress=report):
                key = problem.severity, problem.kind
                counts[key] += 1
                examples.setdefault(key, problem.file if problem.file != "." else problem.detail)
                yield problem

        write_problems(path, findings())
    num_errors = sum(count for (severity, _), count in counts.items() if severity == "error")
    rows = sorted(counts.items(), key=lambda item: (item[0][0], -item[1], item[0][1]))
    if as_json:
        found = [
            {"kind": kind, "severity": severity, "count": count, "example": _text(examples[severity, kind])}
            for (severity, kind), count in rows
        ]
        print_json(
            {
                "dataset": str(_reference(dataset, None)),
                "images": examined,
                "errors": num_errors,
                "warnings": counts.total() - num_errors,
                "kinds": found,
                "list": str(path),
            }
        )
    else:
        if rows:
            cells = [
                [severity, kind, f"{count:,}", _text(examples[severity, kind])] for (severity, kind), count in rows
            ]
            print_table(["severity", "found", "count", "such as"], cells, keys=2, prose=True)
        totals = f"{counted(num_errors, 'error')}, {counted(counts.total() - num_errors, 'warning')}"
        say(f"{counted(examined, 'image')}: {totals}; listed in {path}")
    if num_errors:
        raise typer.Exit(1)


def _reference(dataset: str, image_size: int | None) -> Any:
    """The data set that is named, with the option for the size of its images if it is given."""
    from debiasctl import registry
    from debiasctl.cli.dataset import check_image_size, dataset_named

    ref = registry.as_ref(dataset_named(dataset))
    if image_size is None:
        return ref
    check_image_size({"data": {"dataset": {"name": ref.name, "options": dict(ref.options)}}})
    return registry.as_ref({"name": ref.name, "options": {**ref.options, "image_size": image_size}})


def _made(reference: Any) -> "Dataset":
    from debiasctl import registry

    made: Dataset = registry.create("datasets", reference)
    return made


def _loaded(dataset: str, image_size: int | None, location: "DataLocation") -> "tuple[Dataset, LoadedDataset, str]":
    """The data set, loaded; at a size that fits if its images differ and none is given, with a note of that."""
    made = _made(_reference(dataset, image_size))
    try:
        return made, made.load(location), ""
    except (DataError, UsageError) as error:
        ways: tuple[Mapping[str, Any], ...] = () if error.hint is None else error.hint.ways
        sizes = [way["image_size"] for way in ways if set(way) == {"image_size"}]
        if not sizes:
            raise
    made = _made(_reference(dataset, sizes[0]))
    return (
        made,
        made.load(location),
        f"note: the images are not square and of one size: they are shown at --image-size {sizes[0]}",
    )


def _check_outside(picture: Path, dataset: str) -> None:
    """Raise UsageError if a picture would lie among the images of a folder, and be one of them from then on."""
    reference = _reference(dataset, None)
    place = _made(reference).bound_place() if reference.name == "folder" else None
    if place is not None and picture.resolve().is_relative_to(place.resolve()):
        raise UsageError(
            f"{picture} would lie in the data set's folder, and be one of its images. Give a file elsewhere, such as "
            f"--out ../{picture.name}"
        )


def _stem(dataset: str) -> str:
    """The name of a data set, or of the folder or file that it is bound to, for the names of files about it."""
    reference = _reference(dataset, None)
    path = reference.options.get("path")
    return (Path(path).stem if isinstance(path, str) else reference.name) or "images"


def _facts(info: "DatasetInfo", content_hash: str, sizes: "Counter[tuple[int, int]] | None") -> dict[str, str]:
    facts = {
        "images": f"{info.num_train:,} training, {info.num_heldout:,} held out",
        "shape": f"{info.channels} x {info.image_size} x {info.image_size}, {info.value_type}",
    }
    if sizes is not None:
        shown = [f"{width}x{height} ({count:,})" for (width, height), count in sizes.most_common(_SIZES)]
        facts["stored as"] = ", ".join(shown) + (f", ... {len(sizes):,} sizes in all" if len(sizes) > _SIZES else "")
    facts["classes"] = f"{len(info.classes):,}" if info.classes else "none"
    return facts | {"content hash": content_hash}


def _print_classes(info: "DatasetInfo", train: tuple[int, ...], heldout: tuple[int, ...]) -> None:
    shown = min(len(info.classes), _CLASSES)
    rows = [[info.classes[number], f"{train[number]:,}", f"{heldout[number]:,}"] for number in range(shown)]
    print_table(["class", "training", "held out"], rows)
    if shown < len(info.classes):
        say(f"... and {len(info.classes) - shown:,} classes more: --json shows all")


def _figures(values: tuple[float, ...]) -> str:
    return "  ".join(f"{value:.4f}" for value in values)


def _text(name: str) -> str:
    """A file's name, which need not be valid text."""
    return name.encode("utf-8", "backslashreplace").decode()
