"""The data set of `debiasctl train`: its summary, the size of its images, and hints as options of the command given."""

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from debiasctl.cli.options import FLAGS
from debiasctl.errors import DebiasctlError, UsageError
from debiasctl.wording import did_you_mean

_NAMED = 6  # classes whose counts are listed
_SETTING = "data.dataset"


def describe_images(
    *, num_train: int, num_heldout: int, channels: int, image_size: int, classes: Sequence[str], counts: Sequence[int]
) -> str:
    """`90 training and 10 held-out images, 3x64x64, 2 classes (cat 45, dog 45)`; many classes by their range."""
    text = f"{num_train:,} training and {num_heldout:,} held-out images, {channels}x{image_size}x{image_size}, "
    text += f"{len(classes) or 'no'} class{'' if len(classes) == 1 else 'es'}"
    if not counts:
        return text
    if len(classes) <= _NAMED:
        named = ", ".join(f"{name} {count:,}" for name, count in zip(classes, counts, strict=True))
        return f"{text} ({named})"
    few, many = min(counts), max(counts)
    return f"{text} ({few:,} training images each)" if few == many else f"{text} ({few:,} to {many:,} training images)"


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
def hinted() -> Iterator[None]:
    """Show what a refused data set needs as this command with the options added."""
    try:
        yield
    except DebiasctlError as error:
        if error.hint is not None and error.hint.ways:
            commands = [shlex.join(["debiasctl", *sys.argv[1:], *_options(way)]) for way in error.hint.ways]
            head = "This would run:" if len(commands) == 1 else "Either would run:"
            error.args = ("\n".join([error.hint.problem, head, *commands]),)
        raise


def _options(way: Mapping[str, Any]) -> list[str]:
    words = []
    for name, value in way.items():
        setting, text = f"{_SETTING}.{name}", str(value).lower() if isinstance(value, bool) else str(value)
        words += [FLAGS[setting], text] if setting in FLAGS else ["--set", f"{setting}={text}"]
    return words
