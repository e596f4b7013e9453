"""What the jobs do by which engines are checked; workers import it, so it imports nothing that takes long."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from debiasctl.errors import UsageError

Report = Callable[[Mapping[str, Any]], None]


def work(arguments: Mapping[str, Any], report: Report) -> None:
    """Write down that the job ran and with what, and then do what its arguments say.

    Raises:
        UsageError: if `how` is refuse; RuntimeError: if it is fail.
    """
    folder, how = Path(arguments["folder"]), arguments.get("how", "")
    with open(folder / f"{arguments['name']}.txt", "a", encoding="utf-8") as stream:
        stream.write(f"{os.getpid()} {arguments['value']}\n")
    report({"done": 1})
    if how == "refuse":
        raise UsageError("this job is refused on purpose")
    if how == "fail":
        raise RuntimeError("this job fails on purpose")
    if how == "die" and os.getpid() != arguments["checker"]:
        os._exit(9)
    if how == "wait":
        time.sleep(0.3)
