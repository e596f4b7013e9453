"""What evaluations and comparisons come back as: the objects that the commands print as JSON, and tables of them."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from debiasctl.errors import DebiasctlError

if TYPE_CHECKING:
    from pandas import DataFrame

JSON_VERSION = 1  # raised when a key of any command's JSON is renamed, removed or given another meaning


class Records(dict[str, Any]):
    """The object that a command prints with `--json`, with the same keys."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        super().__init__({"json_version": JSON_VERSION, **content})

    @abstractmethod
    def rows(self) -> list[dict[str, Any]]:
        """Return a flat dictionary for each figure."""

    def to_frame(self) -> "DataFrame":
        """Return the rows as a pandas DataFrame.

        Raises:
            DebiasctlError: if pandas is not installed.
        """
        return frame(self.rows())


class Evaluations(Records):
    """What `debiasctl evaluate --json` prints: the list `evaluations`, a record for each set of images."""

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each metric of each record: how it was measured, the value, its interval and its floor."""
        return [
            {
                "run": record["run"],
                "checkpoint": record["checkpoint"],
                "images_seen": record["images_seen"],
                "nfe": record["nfe"],
                "samples": record["samples"],
                **record["measured"],
                "metric": name,
                "value": figure["value"],
                "low": (figure["interval"] or {}).get("low"),
                "high": (figure["interval"] or {}).get("high"),
                "corrected": figure["corrected"],
                "floor": figure["floor"],
                "floor_num": figure["floor_num"],
                "better": figure["better"],
            }
            for record in self["evaluations"]
            for name, figure in record["metrics"].items()
        ]


class Comparison(Records):
    """What `debiasctl compare --json` prints: `answer`, `arms`, `cells`, `verdicts` and more."""

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each arm and metric: mean and standard deviation over seeds, and the verdict."""
        verdicts = {(one["cell"], one["arm"]): one for one in self["verdicts"]}
        parts = ("word", "difference", "low", "high", "ratio", "p", "p_corrected", "evidence")
        return [
            {
                "metric": cell["metric"],
                "steps": cell["steps"],
                "arm": arm["arm"],
                "seeds": len(arm["figures"]),
                "mean": arm["mean"],
                "sd": arm["sd"],
                "floor": cell["floor"],
                "better": cell["better"],
                "primary": cell["primary"],
                "reference": self["reference"],
                "withheld": arm["withheld"],
                **{part: verdicts.get((cell["key"], arm["arm"]), {}).get(part) for part in parts},
            }
            for cell in self["cells"]
            for arm in cell["arms"]
        ]


class Analyses(Records):
    """What `debiasctl analyze --json` prints: `arms`, `parts` with their findings, figures and records, and more."""

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each part, arm and figure: its mean over seeds, with the interval and what it is over."""
        return [
            {
                "part": part["name"],
                "arm": arm["arm"],
                "seeds": len(arm["seeds"]),
                "figure": figure["name"],
                **{key: figure[key] for key in ("value", "low", "high", "over", "unit", "text")},
            }
            for part in self["parts"]
            for arm in part["arms"]
            for figure in arm["figures"]
        ]


class Metrics(list[dict[str, Any]]):
    """The records of a run's training, in order, as the lines of its metrics.jsonl."""

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each record; for held-out errors, a row for each bin of log SNR."""
        found: list[dict[str, Any]] = []
        for record in self:
            if record["kind"] == "heldout":
                shared = {key: value for key, value in record.items() if key != "bins"}
                for part in record["bins"]:
                    low, high = part["log_snr"]
                    errors = {key: value for key, value in part.items() if key != "log_snr"}
                    found.append({**shared, "log_snr_low": low, "log_snr_high": high, **errors})
                continue
            row = {key: value for key, value in record.items() if not isinstance(value, list | dict)}
            reported = {
                f"{one['name']}/{name}": value
                for one in record.get("extensions", ())
                for name, value in one["figures"].items()
            }
            found.append({**row, **record.get("metrics", {}), **reported})
        return found

    def to_frame(self) -> "DataFrame":
        """Return the rows as a pandas DataFrame.

        Raises:
            DebiasctlError: if pandas is not installed.
        """
        return frame(self.rows())


def frame(rows: Iterable[Mapping[str, Any]]) -> "DataFrame":
    """A pandas DataFrame of rows.

    Raises:
        DebiasctlError: if pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise DebiasctlError(
            "to_frame() needs pandas, which is not installed: pip install pandas. Or take rows(), dictionaries"
        ) from error
    return pandas.DataFrame(list(rows))
