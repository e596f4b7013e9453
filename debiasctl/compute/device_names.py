"""Names of devices, checked without torch."""

from debiasctl.errors import UsageError
from debiasctl.reading.user_text import whole_number
from debiasctl.wording import did_you_mean, quoted


def check_device_name(device: str) -> tuple[str, int | None]:
    """The name and the number, if it has one, of `auto`, `cpu`, `cuda`, or one of several GPUs, such as `cuda:1`.

    Raises:
        UsageError: if the name is unknown.
    """
    if device == "mps":
        raise UsageError(
            "`device=mps` is not supported: weights are computed in float64, which MPS lacks. Use `device=cpu`"
        )
    name, colon, text = device.partition(":")
    number = whole_number(text) if colon else None
    if name not in ("auto", "cpu", "cuda") or (colon and (name != "cuda" or number is None)):
        allowed = ("auto", "cpu", "cuda", "cuda:0")
        raise UsageError(
            f"unknown device {quoted(device)}.{did_you_mean(device, allowed)} Allowed: auto, cpu, cuda, cuda:N"
        )
    return name, number
