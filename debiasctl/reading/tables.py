"""Reading CSV files that people wrote or exported."""

import csv
import io
from pathlib import Path

from debiasctl.reading.regular import read_text
from debiasctl.wording import one_line


def csv_rows(path: Path, *, called: str, advice: str) -> list[tuple[int, list[str]]]:
    """The rows of a CSV file with their numbers from 1, without spaces around cells, and without empty rows.

    `called` is how messages name the file, and `advice` a sentence on what to give, such as `Give a CSV`.

    Raises:
        ValueError: if there is no such file, it cannot be read, or it is not CSV text.
    """
    try:
        rows = csv.reader(io.StringIO(read_text(path), newline=""))
        stripped = [(number, [cell.strip() for cell in row]) for number, row in enumerate(rows, start=1)]
    except FileNotFoundError as error:
        raise ValueError(f"{called}: there is no such file. {advice}") from error
    except OSError as error:
        raise ValueError(f"{called} cannot be read ({error.strerror or error})") from error
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{called} is not CSV text ({one_line(error)}). {advice}") from error
    return [(number, row) for number, row in stripped if any(row)]
