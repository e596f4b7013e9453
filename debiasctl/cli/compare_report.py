"""What `debiasctl compare` draws of a study: a report, one picture in a file, or one in the terminal."""

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from debiasctl.cli import options
from debiasctl.cli.messages import with_options
from debiasctl.cli.output import note, terminal_width
from debiasctl.errors import DebiasctlError, UsageError
from debiasctl.wording import did_you_mean, quoted

if TYPE_CHECKING:
    from debiasctl.comparison.pictures import Picture
    from debiasctl.comparison.study_record import Study
    from debiasctl.reporting.report.document import Report
    from debiasctl.reporting.style import Width
    from debiasctl.runs.store import Run

PICTURES = ("verdicts", "training", "steps", "samples", "colours", "heldout", "weights")
PAGES = (".html", ".htm")
_NOT_OF_CHARACTERS = ("samples", "colours")
# outputs of this very call, which are no part of the comparison that a report names
_OUTPUTS = ("--html", "--plot", "--picture", "--width", "--csv", "--md", "--latex", "--columns", "--sort", "--top")
_SWITCHES = ("--open", "--json", "--all")
_COLUMNS = 100  # of a picture in characters where stdout is no terminal


@dataclass(frozen=True)
class Drawn:
    """What is to be drawn, and where it is written."""

    html: Path | None
    open: bool
    plot: Path | None
    picture: str | None
    width: "Width"
    skip_damaged: bool

    @property
    def anything(self) -> bool:
        """Whether there is anything to draw."""
        return not (self.html is None and self.plot is None and self.picture is None)

    def write(self, study: "Study", runs: "Sequence[Run]") -> bool:
        """Write what was asked for; whether a picture went to stdout instead."""
        if self.html is not None:
            self._write_page(self.html, study, runs)
        if self.plot is None and self.picture is None:
            return False
        picture = self._chosen(study, runs)
        if self.plot is not None:
            from debiasctl.reporting.study_pictures import save_study_figure

            save_study_figure(self.plot, picture.draw(self.width))
            note(f"{picture.name}: {self.plot}")
            return False
        print_picture(picture)
        return True

    def _write_page(self, path: Path, study: "Study", runs: "Sequence[Run]") -> None:
        from debiasctl.comparison.report import report_of
        from debiasctl.reporting.report.render import write_report

        command = comparison_command(sys.argv[1:])
        said = {field: [with_options(text) for text in getattr(study, field)] for field in ("notes", "warnings")}
        report = report_of(
            study.model_copy(update=said),
            runs,
            command=f"{command} --html {shlex.quote(str(path))}",
            drawing=lambda name: f"{command} --picture {name} --plot {name}.svg",
            skip_damaged=self.skip_damaged,
        )
        write_report(path, in_options(report))
        note(f"report: {path}")
        if self.open:
            open_page(path)

    def _chosen(self, study: "Study", runs: "Sequence[Run]") -> "Picture":
        """The picture that was asked for; without a name, curves over training or over steps, whichever there are."""
        from debiasctl.comparison.pictures import pictures_of
        from debiasctl.comparison.run_sources import read_sources

        found = {
            picture.name: picture
            for picture in pictures_of(study, read_sources(study, runs, skip_damaged=self.skip_damaged))
        }
        wanted = ("training", "steps") if self.picture is None else (self.picture,)
        for name in wanted:
            if name in found:
                return found[name]
        if self.picture is None:
            raise DebiasctlError(
                "there is nothing to draw as curves: measure every run with the same options by several numbers of "
                "steps, or at several checkpoints, for example: debiasctl evaluate RUN --steps 5,10,20,50"
            )
        has = ", ".join(found) or "none"
        raise DebiasctlError(f"the study has no picture '{self.picture}': it has no data for it. It has: {has}")


def parse_drawn(
    html: Path | None,
    open: bool,
    plot: Path | None,
    picture: str | None,
    width: str | None,
    *,
    skip_damaged: bool,
    stdout_taken: bool,
) -> Drawn:
    """Check, before any work, what is to be drawn, and that it can be written and opened.

    Raises:
        UsageError: if a name or an ending is unknown, if a page is to be opened that is not written or where there is
        no display, or if a picture is to be printed where `stdout_taken` by another result.
    """
    from debiasctl.files import check_file

    wide = options.parse_width(width, plotted=plot is not None)
    if picture is not None and picture not in PICTURES:
        raise UsageError(
            f"`picture`: {quoted(picture)} is no picture.{did_you_mean(picture, PICTURES)} Choose one of "
            f"{', '.join(PICTURES)}"
        )
    if plot is not None:
        from debiasctl.reporting.style import FORMATS

        check_file(plot, argument="plot", endings=FORMATS)
    if html is not None:
        check_file(html, argument="html", endings=PAGES)
    if open:
        check_display(html)
    if picture is not None and plot is None:
        where = f"Say where to write it: --plot {picture}.png"
        if picture in _NOT_OF_CHARACTERS:
            raise UsageError(f"`picture={picture}` cannot be drawn with characters. {where}")
        if stdout_taken:
            raise UsageError(f"`picture={picture}` is drawn on stdout, to which another result goes. {where}")
    return Drawn(html, open, plot, picture, wide, skip_damaged)


def check_display(html: Path | None) -> None:
    """Refuse to open what is not written, or where nobody would see it."""
    if html is None:
        raise UsageError("`open` opens a report. Say where to write it: --html report.html")
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise UsageError(
            f"`open`: there is no display here (neither DISPLAY nor WAYLAND_DISPLAY is set). Leave it out, and open "
            f"{html} where there is one"
        )


def in_options(report: "Report") -> "Report":
    """The report, with the options of the command line where its sentences name settings."""
    return replace(
        report,
        sections=[
            replace(
                section,
                text=[with_options(text) for text in section.text],
                points=[
                    replace(one, sentences=[with_options(text) for text in one.sentences]) for one in section.points
                ],
            )
            for section in report.sections
        ],
        status_lines=[with_options(text) for text in report.status_lines],
    )


def open_page(path: Path) -> None:
    """Open a report in a browser.

    Raises:
        DebiasctlError: if none can be started.
    """
    import webbrowser

    if not webbrowser.open(path.absolute().as_uri()):
        raise DebiasctlError(f"no browser could be started. Open {path} yourself")


def comparison_command(arguments: Sequence[str]) -> str:
    """The command line without what it writes, from which a report's other commands are made."""
    kept, words = [], iter(arguments)
    for word in words:
        if word in _OUTPUTS:
            next(words, None)
        elif word not in _SWITCHES and word.partition("=")[0] not in _OUTPUTS:
            kept.append(word)
    return shlex.join(["debiasctl", *kept])


def print_picture(picture: "Picture") -> None:
    """Print a picture of characters."""
    assert picture.text is not None, "others were refused before any work"
    text = picture.text(terminal_width() or _COLUMNS)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        raise DebiasctlError(
            f"stdout is written as {sys.stdout.encoding}, which has no characters for a picture. Set PYTHONUTF8=1, or "
            f"write it to a file: --plot {picture.name}.png"
        ) from None
    print(text)
