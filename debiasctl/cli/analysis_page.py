"""What `debiasctl analyze` prints: for each part what was found, its figures, and with `--all` its curves."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from debiasctl.cli.messages import with_options
from debiasctl.cli.output import note, print_table, print_text, terminal_width
from debiasctl.comparison.words import fewer, figure_text

if TYPE_CHECKING:
    from debiasctl.comparison.analyses.means import Figure
    from debiasctl.comparison.analyses.results import Analysis, PartResult
    from debiasctl.reporting.picture import Picture

_MOST_ROWS = 12
_MOST_PLACES = 8  # after the point; smaller numbers have an exponent
_COLUMNS = 100  # of a picture in characters where stdout is no terminal


def print_analysis(analysis: "Analysis", pictures: "Sequence[Picture]", *, everything: bool) -> None:
    """Print an analysis; `everything` shows all figures, the findings of all runs, and curves of characters."""
    from debiasctl.comparison.analyses.findings import answer_of

    if len(analysis.arms) > 1 or analysis.several_seeds:
        print_text(answer_of(analysis.parts))
        print()
        rows = [[arm.name, ", ".join(map(str, arm.seeds)), ", ".join(arm.runs)] for arm in analysis.arms]
        print_table(["arm", "seeds", "runs"], rows, prose=True)
    for result in analysis.parts:
        _print_part(result, everything=everything)
        if everything:
            for one in pictures:
                if one.text is not None and one.name.startswith(result.part.name):
                    print_text(f"{one.title} ({one.name})")
                    print(one.text(terminal_width() or _COLUMNS))
                    print()
    for text in analysis.skipped:
        print_text(f"skipped: {with_options(text)}")
    for text in analysis.notes:
        note(f"note: {text}")
    if pictures:
        print_text(f"pictures: {', '.join(one.name for one in pictures)}")
        note("note: --picture NAME draws one here; --plot FILE or FOLDER, or --html FILE, writes them")


def _print_part(result: "PartResult", *, everything: bool) -> None:
    from debiasctl.comparison.analyses.findings import findings_between, findings_of

    print_text(result.heading)
    print()
    for text in findings_between(result):
        print_text(text)
        print()
    several = len(result.entries) > 1
    for run, texts in findings_of(result, everything=everything):
        if several and texts:
            print_text(run)
        for text in texts:
            print_text(f"  {text}" if several else text)
        if texts:
            print()
    _print_figures(result, everything=everything)
    for text in dict.fromkeys(one for entry in result.entries for one in entry.record.notes):
        note(f"note: {result.part.name}: {with_options(text)}")


def _print_figures(result: "PartResult", *, everything: bool) -> None:
    from debiasctl.comparison.analyses.means import differences_of, figures_of

    arms = {name: {one.name: one for one in figures_of(entries)} for name, entries in result.arms.items()}
    apart = {one.arm: {figure.name: figure for figure in one.figures} for one in differences_of(result)}
    seeds = {one.arm: len(one.seeds) for one in differences_of(result)}
    told = {name: figure for figures in arms.values() for name, figure in figures.items()}
    if not told:
        return
    shown = list(told.values()) if everything else list(told.values())[:_MOST_ROWS]
    units, texts = any(one.unit for one in shown), len(arms) == 1 or everything
    over = sorted({str(one.over) for of in arms.values() for one in of.values() if one.over})
    columns = ["figure", *(list(arms) if len(arms) > 1 else ["value"])]
    columns += [f"{name} - {next(iter(arms))}" for name in apart] + ["unit"] * units + ["what it is"] * texts
    rows = [
        [
            one.name,
            *(cell(of.get(one.name), of=len(result.arms[name])) for name, of in arms.items()),
            *(cell(of.get(one.name), of=seeds[name], signed=True) for name, of in apart.items()),
            *([one.unit] if units else []),
            *([one.text] if texts else []),
        ]
        for one in shown
    ]
    if over == ["images", "seeds"]:
        over = ["seeds, or over images where one seed alone has the figure, or all have the same"]
    said = f"figures with 95 % intervals over {' or '.join(over)}" if over else "figures"
    print_table(columns, rows, title=said, prose=texts)
    if len(told) > len(shown):
        print_text(f"{len(told) - len(shown)} more figures: --all")
        print()


def cell(figure: "Figure | None", *, of: int = 0, signed: bool = False) -> str:
    """A figure with half the width of its interval, or with both ends where it is not in their middle.

    How many seeds have it is said where they are fewer than `of`.
    """
    if figure is None:
        return "-"
    return f"{_known(figure, signed=signed)}{fewer(len(figure.seeds), of)}"


def _known(figure: "Figure", *, signed: bool) -> str:
    if figure.low is None or figure.high is None or figure.low == figure.high:
        return figure_text(figure.value, digits=3, signed=signed)
    down, up = figure.value - figure.low, figure.high - figure.value
    half = (up + down) / 2
    value = _to_place(figure.value, half, signed=signed)
    if abs(up - down) <= 0.02 * (up + down):
        return f"{value} ± {_to_place(half, half)}"
    return f"{value} ({_to_place(figure.low, half)} to {_to_place(figure.high, half)})"


def _to_place(value: float, half: float, *, signed: bool = False) -> str:
    """A number to the second digit of half an interval's width, as no further one is known."""
    places = 1 - math.floor(math.log10(half))
    if places < 0:
        return f"{round(value, places):{'+' if signed else ''},.0f}".replace("-", "−")
    if places > _MOST_PLACES:
        return figure_text(value, digits=3, signed=signed)
    return f"{value:{'+' if signed else ''}.{places}f}".replace("-", "−")
