"""The file that `debiasctl datasets check` lists its findings in."""

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from debiasctl.files import atomic_file

if TYPE_CHECKING:
    from debiasctl.api import ImageProblem

ENDINGS = (".csv", ".json")
_COLUMNS = ("file", "severity", "kind", "detail")


def write_problems(path: Path, problems: "Iterable[ImageProblem]") -> None:
    """Write a line for each problem as it is found; the file appears when all are. Names need not be valid text."""
    with atomic_file(path) as binary:
        stream = io.TextIOWrapper(binary, encoding="utf-8", errors="backslashreplace", newline="", write_through=True)
        if path.suffix.lower() == ".json":
            stream.write("[")
            for number, problem in enumerate(problems):
                found = {name: getattr(problem, name) for name in _COLUMNS}
                stream.write(f"{',' if number else ''}\n{json.dumps(found)}")
            stream.write("\n]\n")
        else:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(_COLUMNS)
            for problem in problems:
                writer.writerow([getattr(problem, name) for name in _COLUMNS])
        stream.detach()
