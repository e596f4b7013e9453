"""What `debiasctl analyze` writes of an analysis: a report, one picture, or all pictures with their data."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from debiasctl.cli import options
from debiasctl.cli.compare_report import PAGES, check_display, comparison_command, in_options, open_page, print_picture
from debiasctl.cli.output import note
from debiasctl.errors import DebiasctlError, UsageError
from debiasctl.wording import did_you_mean, quoted

if TYPE_CHECKING:
    from debiasctl.comparison.analyses.results import Analysis
    from debiasctl.reporting.picture import Picture
    from debiasctl.reporting.style import Width


@dataclass(frozen=True)
class Asked:
    """What is to be written: `plot` is a file for the `picture`, or a folder for all of them."""

    html: Path | None
    open: bool
    plot: Path | None
    picture: str | None
    width: "Width"

    @property
    def is_folder(self) -> bool:
        """Whether all pictures are written to a folder."""
        return self.plot is not None and not self.plot.suffix


def parse_outputs(
    html: Path | None, open: bool, plot: Path | None, picture: str | None, width: str | None, *, stdout_taken: bool
) -> Asked:
    """Check, before any work, that what is asked for can be written and opened.

    Raises:
        UsageError: if an ending is unknown, one file is named twice, a page is to be opened that is not written, or
        a picture is to be printed where `stdout_taken` by another result; DebiasctlError: if it cannot be written.
    """
    from debiasctl.files import check_file, check_place
    from debiasctl.reporting.style import FORMATS

    asked = Asked(html, open, plot, picture, options.parse_width(width, plotted=plot is not None))
    if html is not None:
        check_file(html, argument="html", endings=PAGES)
    if open:
        check_display(html)
    if plot is not None and asked.is_folder:
        if picture is not None:
            raise UsageError(
                f"--plot {plot} is a folder, to which all pictures are written. For one of them name a file: "
                f"--plot {picture}.svg"
            )
        if plot.exists() and not plot.is_dir():
            raise UsageError(f"`plot={plot}` exists and is not a folder. Choose another name")
        check_place(plot)
    elif plot is not None:
        check_file(plot, argument="plot", endings=FORMATS)
    elif picture is not None and stdout_taken:
        raise UsageError(
            f"`picture={picture}` is drawn on stdout, to which another result goes. Say where to write it: "
            f"--plot {picture}.png"
        )
    return asked


class Outputs:
    """An analysis with what is to be written of it; `arguments` are those of this command."""

    def __init__(
        self, asked: Asked, analysis: "Analysis", weightings: Mapping[str, str], arguments: Sequence[str]
    ) -> None:
        self.asked, self.analysis, self.weightings = asked, analysis, weightings
        self.command = comparison_command(arguments)

    @cached_property
    def pictures(self) -> "list[Picture]":
        """All pictures, part by part."""
        from debiasctl.comparison.analyses.pictures import pictures_by_part

        return [one for found in pictures_by_part(self.analysis, self.weightings).values() for one in found]

    def write(self) -> bool:
        """Write what was asked for; whether a picture went to stdout instead."""
        asked = self.asked
        if asked.html is not None:
            self._write_page(asked.html)
        if asked.plot is not None and asked.is_folder:
            self._write_all(asked.plot)
        elif asked.plot is not None:
            from debiasctl.reporting.study_pictures import save_study_figure

            picture = self._chosen()
            save_study_figure(asked.plot, picture.draw(asked.width))
            note(f"{picture.name}: {asked.plot}")
        elif asked.picture is not None:
            picture = self._chosen()
            if picture.text is None:
                raise UsageError(
                    f"`picture={picture.name}` cannot be drawn with characters. Say where to write it: "
                    f"--plot {picture.name}.png"
                )
            print_picture(picture)
            return True
        return False

    def _chosen(self) -> "Picture":
        found = {one.name: one for one in self.pictures}
        if not found:
            raise DebiasctlError("the analysis has no picture")
        if self.asked.picture is None and len(found) > 1:
            raise UsageError(
                f"the analysis has several pictures. Name one: `picture={next(iter(found))}`; or write all of them to "
                f"a folder: --plot pictures. It has: {', '.join(found)}"
            )
        name = self.asked.picture or next(iter(found))
        if name not in found:
            raise UsageError(
                f"`picture`: {quoted(name)} is no picture of this analysis.{did_you_mean(name, found)} It has: "
                f"{', '.join(found)}"
            )
        return found[name]

    def _write_all(self, folder: Path) -> None:
        from debiasctl.files import write_json
        from debiasctl.reporting.study_pictures import save_study_figure

        folder.mkdir(parents=True, exist_ok=True)
        for picture in self.pictures:
            for ending in (".svg", ".png"):
                save_study_figure(folder / f"{picture.name}{ending}", picture.draw(self.asked.width))
            write_json(folder / f"{picture.name}.json", picture.data)
        note(f"{len(self.pictures)} pictures with their data: {folder}")

    def _write_page(self, path: Path) -> None:
        from debiasctl.comparison.analyses.report import report_of_analysis
        from debiasctl.reporting.report.render import write_report

        report = report_of_analysis(
            self.analysis, weightings=self.weightings, command=f"{self.command} --html {shlex.quote(str(path))}",
            drawing=lambda part, name: f"{self.command} --picture {name} --plot {name}.svg",
        )  # fmt: skip
        write_report(path, in_options(report))
        note(f"report: {path}")
        if self.asked.open:
            open_page(path)
