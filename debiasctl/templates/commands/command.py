"""A command: `debiasctl my-command RUN`."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def show_losses(
    run: Annotated[str, typer.Argument(help="A run: its name, the beginning of it, or a path.")],
    window: Annotated[int, typer.Option(min=1, help="How many records each mean is over.")] = 10,
) -> None:
    """Print a run's training loss and its moving average, a tab-separated line for each record of training.

    The average is the mean of the last WINDOW losses, (l_k + ... + l_{k-WINDOW+1})/WINDOW.
    """
    import debiasctl  # late, so that the help of debiasctl's other commands does not wait for it

    records = [record for record in debiasctl.run(run).metrics() if record.get("loss") is not None]
    means = moving_average((record["loss"] for record in records), window)
    print("step", "loss", f"mean of {window}", sep="\t")
    for record, mean in zip(records, means, strict=True):
        print(record["step"], f"{record['loss']:.6g}", f"{mean:.6g}", sep="\t")


def moving_average(values: Iterable[float], window: int) -> Iterator[float]:
    """Yield the mean of each value and the `window` - 1 before it, or of as many as there are at first."""
    latest: deque[float] = deque(maxlen=window)
    for value in values:
        latest.append(value)
        yield sum(latest) / len(latest)
