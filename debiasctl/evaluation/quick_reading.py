"""Reading a stored evaluation several times as fast as `read_record` does: a comparison may need thousands of them."""

import math
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from debiasctl.evaluation.record import EvaluationRecord
from debiasctl.reading.regular import read_bytes

_KEY = re.compile(rb'"\s*:')
_PLAIN = frozenset((int, float, str, bool, type(None), list))  # isinstance with a model is slow
_FREE = _PLAIN | {dict}


def quick_record(path: Path) -> EvaluationRecord | None:
    """The evaluation in a file, or None where `read_record` must look: it is damaged, of another version or kind.

    The parser refuses neither a key that is given twice nor, in free parts, a number beyond floats. Keys are therefore
    counted: a text with as many of them as the record gives each once.
    """
    try:
        data = read_bytes(path)
        record = EvaluationRecord.model_validate_json(data)
    except (OSError, ValueError, ValidationError):
        return None
    details = record.reference.feature_details  # the only part that may hold anything
    whole = len(_KEY.findall(data)) == _num_keys(record) + _num_inside(details) and _finite(details)
    return record if whole else None


def _num_keys(part: BaseModel) -> int:
    """How many keys a record's part was read from, without those inside of free parts."""
    found = len(part.__pydantic_fields_set__)
    for value in part.__dict__.values():
        if type(value) in _PLAIN:
            continue
        if type(value) is not dict:
            found += _num_keys(value)
        else:
            found += len(value) + sum(_num_keys(one) for one in value.values() if type(one) not in _FREE)
    return found


def _num_inside(value: Any) -> int:
    """How many keys lie below those of a free part."""
    inner = value.values() if type(value) is dict else value
    below = [one for one in inner if type(one) in (dict, list)]
    return sum((len(one) if type(one) is dict else 0) + _num_inside(one) for one in below)


def _finite(value: Any) -> bool:
    """Whether all numbers of a free part are finite; those of all others are checked by the record."""
    if isinstance(value, dict | list):
        return all(map(_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)
