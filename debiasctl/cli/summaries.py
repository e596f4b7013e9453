"""The installed plugins of one kind, with what each is."""

from debiasctl.cli.output import print_json, print_table


def print_summaries(kind: str, *, as_json: bool) -> None:
    """Print the name, the distribution and the first line of the docstring of each plugin. Nothing is imported."""
    from debiasctl import registry
    from debiasctl.registry.source import summary

    rows = [
        {"name": record.name, "summary": summary(record), "distribution": record.distribution}
        for record in registry.records(kind)
    ]
    if as_json:
        print_json({kind: rows})
        return
    cells = [[row["name"], row["distribution"], row["summary"]] for row in rows]
    print_table(["name", "from", "what it is"], cells, prose=True)
