"""How `debiasctl sample` checks and writes its pictures and files."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from debiasctl.errors import UsageError
from debiasctl.files import check_file, check_new_folder
from debiasctl.reporting.style import PICTURES as PICTURES
from debiasctl.wording import printable, quoted

if TYPE_CHECKING:
    import torch

    from debiasctl.sampling import SampleRequest, Samples
    from debiasctl.sampling.strip import Row

_NOT_WRITTEN = (
    ".bmp", ".webp", ".gif", ".tif", ".tiff", ".eps", ".zip", ".tar", ".npy", ".pt", ".csv", ".html",
)  # fmt: skip
_MOMENTS, _FRAMES = 12, 60  # of a trajectory: of a picture, and of a GIF


@dataclass(frozen=True)
class Look:
    """How pictures are drawn."""

    columns: str
    scale: int | None
    labels: bool


def check_look(
    out: Path | None, way: Path | None, *, columns: str | None, scale: int | None, labels: bool, is_strip: bool
) -> None:
    """Refuse options of a picture that is not drawn."""
    if columns is not None and columns not in ("steps", "noises"):
        raise UsageError(f"--columns {quoted(columns)}: choose steps or noises")
    pictured = out is not None and out.suffix.lower() in PICTURES
    if columns is not None and not is_strip:
        raise UsageError("--columns is for a strip: give several runs with --same-noise, or several --steps")
    if labels and is_strip:
        raise UsageError("--labels is for a grid of one run, and a strip names its rows and columns. Leave it out")
    if labels and not pictured:
        raise UsageError("--labels is for a grid of one run. Say where to write it: --out grid.png")
    if scale is not None and not pictured and way is None:
        raise UsageError("--scale enlarges the images of a picture. Say where to write it: --out grid.png")


def check_out(out: Path | None) -> None:
    """Refuse, before any work, an --out that could not be written."""
    if out is None:
        return
    if out.suffix.lower() in (*PICTURES, ".npz"):
        check_file(out, argument="out")
    elif out.suffix.lower() in _NOT_WRITTEN:
        raise UsageError(
            f"--out {out}: write FILE.png, .jpg, .svg or .pdf (one grid), FILE.npz, or the name of a new folder of PNGs"
        )
    else:
        check_new_folder(out, argument="out")


def write(out: Path, drawn: "Samples", look: Look) -> None:
    """Write samples as a grid, an npz or a folder, by the path's ending."""
    from debiasctl.reporting import pictures
    from debiasctl.sampling.image_files import save_npz

    kind, num = out.suffix.lower(), drawn.description.num
    if kind in PICTURES:
        pictures.save_grid(out, drawn.images, labels=_names(drawn) if look.labels else None, scale=look.scale)
    elif kind == ".npz":
        save_npz(out, drawn.blocks(), drawn.labels, num=num)
    else:
        images = (image for block in drawn.blocks() for image in block)
        pictures.save_folder(out, images, drawn.labels, num=num, classes=tuple(drawn.description.classes))


def _names(drawn: "Samples") -> list[str]:
    """The class of every image."""
    assert drawn.labels is not None, "it was checked that the model has classes"
    return [printable(drawn.description.classes[label]) for label in drawn.labels.tolist()]


def write_trajectory(path: Path, row: "Row", request: "SampleRequest", look: Look, *, device: "torch.device") -> None:
    """Draw the first images again and write their way from noise."""
    from debiasctl.reporting import pictures
    from debiasctl.sampling.trajectory import trajectory

    kind = path.suffix.lower()
    way = trajectory(row.run, row.spec, request, device=device, moments=_FRAMES if kind == ".gif" else _MOMENTS)
    names = ["x_t", "x0"]
    if kind == ".gif":
        frames = [
            pictures.labelled_grid(
                [list(x), list(x0)],
                row_names=names,
                caption=name if name == "end" else f"t = {name}",
                scale=look.scale,
            )
            for name, x, x0 in zip(way.names, way.x, way.x0, strict=True)
        ]
        pictures.save_gif(path, frames)
        return
    rows = [[moment[index] for moment in moments] for index in range(len(way.x[0])) for moments in (way.x, way.x0)]
    picture = pictures.labelled_grid(
        rows, row_names=names * (len(rows) // 2), column_names=way.names, caption="t", group=2, scale=look.scale
    )
    picture.save(path)
