"""The data set of `debiasctl train`: its summary, the size of its images, and hints as options of the command given."""

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from typing import TYPE_CHECKING, Any

from debiasctl.cli.launch import without_option
from debiasctl.cli.options import FLAGS
from debiasctl.cli.output import note
from debiasctl.errors import DebiasctlError, UnknownPluginError, UsageError
from debiasctl.reading.user_text import user_path
from debiasctl.wording import did_you_mean, printable, quoted

if TYPE_CHECKING:
    from debiasctl.api import DatasetInfo
    from debiasctl.specs.recorded import ContentSection

_NAMED = 6  # classes whose counts are listed
_LONGEST = 30  # letters of a class's name
_SETTING = "data.dataset"
_IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_ARCHIVES = (".zip", ".tar", ".npz")


def describe_images(info: "DatasetInfo | ContentSection") -> str:
    """`90 training and 10 held-out images, 3x64x64, 2 classes (cat 45, dog 45)`; many classes by their range."""
    text = f"{info.num_train:,} training and {info.num_heldout:,} held-out images, "
    text += f"{info.channels}x{info.image_size}x{info.image_size}, "
    text += f"{len(info.classes) or 'no'} class{'' if len(info.classes) == 1 else 'es'}"
    counts = info.class_counts
    if not counts:
        return text
    if len(counts) <= _NAMED:
        named = [f"{_shown(name)} {count:,}" for name, count in zip(info.classes, counts, strict=True)]
        return f"{text} ({', '.join(named)})"
    few, many = min(counts), max(counts)
    return f"{text} ({few:,} training images each)" if few == many else f"{text} ({few:,} to {many:,} training images)"


def announce_images(content: "ContentSection", *, conditional: bool) -> None:
    """Note what a run is trained on, and which of its classes it cannot learn."""
    latents = "" if content.latents is None else f"; latents {'x'.join(map(str, content.trained_shape))}"
    note(f"data: {describe_images(content)}{latents}")
    untrained = [name for name, count in zip(content.classes, content.class_counts, strict=True) if not count]
    if untrained and conditional:
        more = f" and {len(untrained) - _NAMED:,} more" if len(untrained) > _NAMED else ""
        names = ", ".join(map(_shown, untrained[:_NAMED])) + more
        note(f"note: no training image shows {names}, so the model cannot learn to draw it")


def _shown(name: str) -> str:
    return printable(name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…")


def dataset_named(text: str) -> str | dict[str, Any]:
    """A data set's reference; or the folder data set, where `text` is a path and names no data set."""
    from debiasctl import registry

    name = text.partition(":")[0]
    if name in {record.name for record in registry.records("datasets")}:
        return text
    path = user_path(text, argument="DATASET")
    if path.is_file() and path.suffix.lower() in _IMAGES:  # which the data set would say once torch is imported
        raise UsageError(
            f"{path.absolute()} is neither a folder nor a .zip, .tar or .npz of images. Give the folder that holds it"
        )
    if path.exists():
        return {"name": "folder", "options": {"path": str(path.absolute())}}
    if any(mark in text for mark in ("/", "\\")) or text.endswith(_ARCHIVES):
        raise UsageError(f"there is no folder or archive {quoted(text)}. Give the path of one that holds images")
    if name.strip() == text.strip():
        try:
            registry.find("datasets", name)
        except UnknownPluginError as error:
            raise UnknownPluginError(f"there is no folder ./{printable(text)}; and as a name: {error}") from error
    return text


def check_image_size(settings: Mapping[str, Any]) -> None:
    """Check that the data set of these settings has an option for the size of its images.

    Raises:
        UsageError: if it has none.
    """
    from debiasctl import registry

    data = settings.get("data")
    dataset = data.get("dataset") if isinstance(data, Mapping) else None
    if not isinstance(dataset, str | Mapping) or (isinstance(dataset, Mapping) and "name" not in dataset):
        return  # it is refused as no data set at all
    name = registry.as_ref(dataset if isinstance(dataset, str) else dict(dataset)).name
    known = registry.load("datasets", name).Options.model_fields
    if "image_size" not in known:
        other = f"{did_you_mean('image_size', known)} Known: {', '.join(known)}" if known else " It takes no options"
        raise UsageError(
            f"{FLAGS[f'{_SETTING}.image_size']}: data set '{name}' has no option image_size, so its images keep their "
            f"size.{other}"
        )


@contextmanager
def hinted(attempt: Callable[[Mapping[str, Any]], object]) -> Iterator[None]:
    """Show what a refused data set needs as this command with options added; `attempt` tries the command with them."""
    try:
        yield
    except DebiasctlError as error:
        if error.hint is not None:
            problems = [error.hint.problem]
            ways = [way for first in error.hint.ways if (way := _tried(attempt, first, problems)) is not None]
            commands = [shlex.join(["debiasctl", *_without(sys.argv[1:], way), *_options(way)]) for way in ways]
            head = ["This would run:" if len(commands) == 1 else "Either would run:"] if commands else []
            error.args = ("\n".join([".\nAlso: ".join(problems), *head, *commands]),)
        raise


def _tried(
    attempt: Callable[[Mapping[str, Any]], object], way: Mapping[str, Any], problems: list[str]
) -> Mapping[str, Any] | None:
    """A way with what else it takes to succeed; None, with the further problem, if nothing known does."""
    while True:
        try:
            attempt(way)
            return way
        except DebiasctlError as error:
            more = error.hint.ways[0] if error.hint is not None and error.hint.ways else {}
            problem = str(error) if error.hint is None else error.hint.problem
            problems += [problem] if problem not in problems else []
            if not more or more.items() <= way.items():
                return None
            way = {**way, **more}


def _without(arguments: list[str], way: Mapping[str, Any]) -> list[str]:
    """The arguments without the options that a way gives again."""
    flags = [FLAGS[setting] for name in way if (setting := f"{_SETTING}.{name}") in FLAGS]
    return reduce(without_option, flags, arguments)


def _options(way: Mapping[str, Any]) -> list[str]:
    words = []
    for name, value in way.items():
        setting, text = f"{_SETTING}.{name}", str(value).lower() if isinstance(value, bool) else str(value)
        words += [FLAGS[setting], text] if setting in FLAGS else ["--set", f"{setting}={text}"]
    return words
