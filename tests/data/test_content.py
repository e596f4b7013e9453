"""What a stored spec says of its images is checked, whatever their hash."""

from pathlib import Path
from typing import Any

import pytest
from tiny import digits, make_spec

from debiasctl.api import DataLocation
from debiasctl.data.load import load_data
from debiasctl.errors import DataError, UsageError

FACTS: dict[str, Any] = {
    "image_size": 8, "channels": 1, "classes": [str(digit) for digit in range(10)], "class_counts": [150] * 10,
    "num_train": 1501, "num_heldout": 296,
}  # fmt: skip


@pytest.mark.parametrize(
    "wrong", [{"classes": ["a"]}, {"class_counts": [1]}, {"channels": -1}, {"image_size": 0}, {"num_train": 0}]
)
def test_facts_that_contradict_each_other_are_refused_with_the_spec(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="spec: content"):
        make_spec(content=FACTS | {"content_hash": "0"} | wrong)


@pytest.mark.parametrize("wrong", [{"image_size": 10**6}, {"channels": 3}, {"num_train": 10**12}])
def test_facts_that_are_not_the_datas_are_refused_although_the_hash_agrees(wrong: dict[str, Any]) -> None:
    stated = FACTS | {"content_hash": digits().content_hash}
    location = DataLocation(data_dir=None, cache_dir=Path("no-cache"))
    load_data(make_spec(content=stated), location)
    with pytest.raises(DataError, match="the section 'content' of the spec is not that of data set 'digits'"):
        load_data(make_spec(content=stated | wrong), location)
