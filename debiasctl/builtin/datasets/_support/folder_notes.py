"""What is worth knowing about how a folder of images was read."""

import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from debiasctl.api import DatasetInfo
from debiasctl.builtin.datasets._support.image_files import ImageSource, count_endings, named
from debiasctl.builtin.datasets._support.image_labels import Labels
from debiasctl.builtin.datasets._support.image_layout import Layout
from debiasctl.builtin.datasets._support.image_table import ImageFiles

_LABELLED = re.compile(r"(?P<label>.+?)[-_ .]+\d+|\d+[-_ .]+(?P<last>.*[^\W\d].*)")  # cat_00001, 00001_cat
_MOST_LABELS = 1000
_SHOWN = 4
_LISTED = 5  # unreadable files


def notes(
    source: ImageSource,
    layout: Layout,
    info: DatasetInfo,
    cropped: tuple[int, float] | None,
    transparent: int | None,
    labels: Labels | None,
) -> Iterator[str]:
    """Yield what was passed over, cropped, laid over white, held out or left unused, and labels that are not used."""
    if source.passed_over:
        yield f"passed over {count_endings(source.passed_over)}: only images are read"
    if labels is not None and labels.strays:
        yield f"names that are given a class and are no images here: {labels.strays:,}"
    for name, reason in source.unreadable:
        yield f"{named(name)} cannot be read and is left out: {reason}"
    num_images = info.num_train + info.num_heldout
    if cropped is not None and cropped[0]:
        yield (
            f"{cropped[0]:,} of {num_images:,} images are not square: image_size={info.image_size} crops each to its "
            f"middle square, which leaves out {cropped[1]:.0%} of their pixels (median)"
        )
    if transparent:
        yield (
            f"{transparent:,} of {num_images:,} images have transparency: what is transparent is laid over white, so a "
            "model learns it as white"
        )
    if layout.heldout_folder:
        unused = f"; {layout.unused}/ is not used" if layout.unused else ""
        yield f"{layout.heldout_folder}/ is held out{unused}"
    if not layout.classes:
        words = labels_in_names(layout.train)
        if words:
            more = ", ..." if len(words) > _SHOWN else ""
            yield (
                f"the file names hold {len(words)} words that may be classes ({', '.join(words[:_SHOWN])}{more}), "
                "which are not read. To train on classes, move the images of each into a sub-folder of its name"
            )


def left_out(skipped: Sequence[str]) -> str:
    """The note on images that cannot be read and are left out."""
    images = "images are" if len(skipped) > 1 else "image is"
    more = ", ..." if len(skipped) > _LISTED else ""
    return f"{len(skipped)} unreadable {images} left out: {', '.join(skipped[:_LISTED])}{more}"


def labels_in_names(files: ImageFiles) -> list[str]:
    """Words beside numbers in file names (cat_00001.png), if there are several and each occurs again; sorted."""
    counts = Counter[str]()
    for file in files:
        match = _LABELLED.fullmatch(posixpath.splitext(file.name.rpartition("/")[2])[0])
        if match is None:
            return []
        counts[match["label"] or match["last"]] += 1
        if len(counts) > _MOST_LABELS:
            return []
    return sorted(counts) if len(counts) > 1 and min(counts.values()) > 1 else []
