"""`debiasctl runs tag` and `runs note`: what a user says of runs."""

from typing import Annotated

import typer

from debiasctl.cli import options
from debiasctl.cli.left_alone import report_left_alone
from debiasctl.cli.options import option
from debiasctl.cli.output import note, print_json, print_table
from debiasctl.errors import DebiasctlError, UsageError


def tag(
    runs: Annotated[list[str], options.run_argument("RUN...", "Runs: names, or patterns.")],
    add: Annotated[list[str] | None, option("--add", metavar="TAG", help="Add a tag; may be given again.")] = None,
    remove: Annotated[
        list[str] | None, option("--remove", metavar="TAG", help="Remove a tag; may be given again.")
    ] = None,
    where: Annotated[list[str] | None, options.WHERE] = None,
    as_json: Annotated[bool, options.AS_JSON] = False,
) -> None:
    """Add tags to runs, or remove them; shows the tags then. 'runs list --where tag=TAG' finds them.

    \b
    Examples:
      debiasctl runs tag 'cifar-*' --add paper --add figure-2 --remove draft
      debiasctl runs tag digits-debiased-0
    """
    from debiasctl.runs.labels import change_labels, check_tag
    from debiasctl.runs.selection import matching_runs

    both = set(add or ()) & set(remove or ())
    if both:
        raise UsageError(f"--add and --remove are both given {', '.join(sorted(both))}. Give it to one of them")
    for one in add or ():
        check_tag(one)  # before any run is changed
    found = matching_runs(runs, options.parse_filter(where))
    labels, problems = {}, []
    for run in found:
        try:
            labels[run] = change_labels(run, add=add or (), remove=remove or ())
        except DebiasctlError as error:  # the others are labelled all the same
            problems.append((run.name, error))
    if as_json:
        print_json({"runs": [{"name": run.name, "path": str(run.path), **vars(one)} for run, one in labels.items()]})
    elif labels:
        print_table(["NAME", "TAGS"], [(run.name, ", ".join(one.tags)) for run, one in labels.items()], ruled=False)
    report_left_alone(problems)


def note_(
    run: Annotated[str, options.RUN],
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="The note; it replaces an earlier one.")] = None,
    remove: Annotated[bool, option("--remove", argument="remove_note", help="Remove the note.")] = False,
    as_json: Annotated[bool, options.AS_JSON] = False,
) -> None:
    """Write a note to a run, or show it.

    \b
    Examples:
      debiasctl runs note digits-debiased-0 "lr was too high; see digits-debiased-1"
      debiasctl runs note digits-debiased-0
    """
    from debiasctl.cli.output import print_text
    from debiasctl.cli.standing import named_run
    from debiasctl.runs.labels import change_labels, read_labels

    if remove and text is not None:
        raise UsageError("--remove removes the note, and a text replaces it. Give one of them")
    found = named_run(run)
    changed = text is not None or remove
    labels = change_labels(found, note=text or "") if changed else read_labels(found)
    if as_json:
        print_json({"name": found.name, "path": str(found.path), **vars(labels)})
    elif changed:
        note(f"run '{found.name}': the note was {'removed' if remove else 'stored'}")
    elif labels.note:
        print_text(labels.note)
    else:
        note(f"run '{found.name}' has no note. Write one: debiasctl runs note {found.typed} \"TEXT\"")
