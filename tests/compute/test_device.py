import pytest

from debiasctl.compute.device import make_accelerator
from debiasctl.specs.sections import ComputeSection


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_each_training_of_a_process_has_its_own_precision(precision: str) -> None:
    for of_this_one in ("fp32", precision, "bf16", precision):
        accelerator = make_accelerator("cpu", ComputeSection(precision=of_this_one))
        assert accelerator.mixed_precision == {"bf16": "bf16", "fp32": "no"}[of_this_one]
