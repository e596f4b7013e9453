"""Where the files of a published data set may lie, and what to say where they do not."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from debiasctl.api import DataError, DataLocation
from debiasctl.builtin.datasets._support.downloads import cached_folder, not_found
from debiasctl.builtin.datasets._support.image_files import holds_images


def torchvision_set(name: str) -> Any:
    """A data set's class in torchvision, which is slow to import."""
    from torchvision import datasets

    return getattr(datasets, name)


def folders(location: DataLocation, *, name: str, title: str, base: str) -> list[Path]:
    """The folders in which the files of a set are looked for; `base` is torchvision's folder of them, if it has one."""
    root = location.data_dir
    named = [] if root is None else [root / folder for folder in dict.fromkeys((name, title))]
    given = [] if root is None else [root]
    cached = cached_folder(location, name)
    # the folder itself comes last, since other sets may lie in it
    return [*(folder / base for folder in [*given, *named] if base), *named, *given, cached / base]


def archive_in(location: DataLocation, *, name: str, title: str, base: str, archive: str) -> Path | None:
    """The archive of a set, where it lies in one of its folders."""
    found = (folder / archive for folder in folders(location, name=name, title=title, base=base))
    return next((path for path in found if path.is_file()), None)


def help_text(
    location: DataLocation,
    *,
    name: str,
    title: str,
    base: str,
    files: Sequence[str],
    addresses: Sequence[str],
    archive: str | None = None,
    notes: Sequence[str] = (),
) -> str:
    """The message for a set that is neither found nor downloadable."""
    root = location.data_dir
    more = list(notes)
    if root is not None and holds_images(root):
        more.append(f"{root} holds image files. To train on those: debiasctl train {shlex.quote(str(root))}")
    return not_found(
        title,
        files=files,
        addresses=addresses,
        searched=folders(location, name=name, title=title, base=base),
        example=(base or name) + (f" (or {archive} into DIR itself)" if archive else ""),
        notes=more,
    )


def check_files(
    folder: Path, files: Sequence[tuple[str, str]], *, title: str, whole: bool, verify: bool, way_on: str = ""
) -> None:
    """Check the names and, with `verify`, the MD5 sums of a set's files; `way_on` is added to the advice.

    `whole` says that the folder holds this set alone.

    Raises:
        DataError: if a file is missing, or is not as published.
    """
    missing = [name for name, _ in files if not (folder / name).is_file()]
    if missing:
        others = "the folder" if whole else "the others"
        raise DataError(f"{folder} lacks {', '.join(missing)} of {title}. Add them, or remove {others}")
    damaged = list(_damaged(folder, files)) if verify else []
    if damaged:
        raise DataError(
            f"{folder}: {', '.join(damaged)} {'is' if len(damaged) == 1 else 'are'} not as published (MD5 differs). "
            f"Replace the damaged files, or remove {'the folder' if whole else 'them'}{way_on}"
        )


def _damaged(folder: Path, files: Sequence[tuple[str, str]]) -> Iterator[str]:
    from torchvision.datasets.utils import check_integrity

    yield from (name for name, md5 in files if not check_integrity(str(folder / name), md5))
