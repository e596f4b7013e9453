"""Problems of a folder of images that options of the data set would mend."""

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

from debiasctl.api import DataError, UsageError

_PLAIN = re.compile(r"[^\s,'\"\[\]{}()=]+")

Settings = Mapping[str, Any]


class FixableDataError(DataError):
    """Files that options would leave out; `fixes` are options, each of which may be enough."""

    def __init__(self, message: str, *fixes: Settings) -> None:
        super().__init__(message)
        self.fixes = fixes


class FixableUsageError(UsageError):
    """A question that an option answers; `fixes` are the answers."""

    def __init__(self, message: str, *fixes: Settings) -> None:
        super().__init__(message)
        self.fixes = fixes


Fixable = FixableDataError | FixableUsageError


def reference(name: str, options: Settings) -> str:
    """A data set's reference with these options, quoted for a shell: folder:path=photos,image_size=32."""
    parts = (f"{key}={_value(value)}" for key, value in options.items())
    return shlex.quote(f"{name}:{','.join(parts)}")


def _value(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    text = str(value)
    return text if _PLAIN.fullmatch(text) and text != "null" else json.dumps(text, ensure_ascii=False)
