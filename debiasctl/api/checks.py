"""What a data set's check finds in its images."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ImageProblem:
    """Something found in an image: `file` is its name below the set's root, or its split and number.

    `kind` is a word or two by which findings are counted. An error makes training refuse the set unless the image is
    left out; a warning is worth a look.
    """

    file: str
    kind: str
    severity: Literal["error", "warning"]
    detail: str
