"""The options with which debiasctl trains with the weights that were measured; they are tried before they are shown."""

import csv
import io
import shlex
from pathlib import Path

import numpy as np
import torch

from debiasctl.analysis.identify.points import Points
from debiasctl.analysis.identify.readings import Identification, Reading
from debiasctl.analysis.weight_curves import schedule_process, weight_curves
from debiasctl.api import Prediction
from debiasctl.diffusion.parameterization import SPACES, check_prediction
from debiasctl.errors import DebiasctlError, UsageError
from debiasctl.files import atomic_file

_SAME = 5e-3  # relative: what float32 does to the SNR at the least noise


def flags_of(reading: Reading, schedule: str, *, said_schedule: bool) -> str | None:
    """Options of `train` that give the reading's weights on the schedule; None if no options do.

    A factor that is not the mean is left out, as it acts like a factor of the learning rate.
    """
    fit = reading.found.fit
    if not reading.is_named or not reading.is_of_its_unit or fit.clamp is not None:
        return None
    if reading.found.schedule is not None and said_schedule:
        return None  # its SNRs are not those that are trained at
    if reading.prediction == "edm" and fit.form.split(fit.values)[1] != 0.5:
        return None  # the network's sigma_data follows from the data
    return _tried(
        reading.weighting, reading.prediction, reading.found.schedule or schedule, fit.points, ~(fit.errors > _SAME),
        is_normalized=reading.normalized is not None, says_schedule=said_schedule or reading.found.schedule is not None,
    )  # fmt: skip


def write_weights(found: Identification, path: Path) -> str | None:
    """Write the weights as a CSV for the weighting `table`, and return options that train with it; None if none do.

    Raises:
        UsageError: if there are no weights to write.
    """
    points = found.points
    if points is None:
        raise UsageError("there are no weights to write as a table: they are not finite, negative or all 0")
    process = schedule_process(found.schedule)
    by_t = found.by_timestep and len(points.places) == process.num_timesteps
    snr = process.snr[torch.from_numpy(points.places)] if found.by_timestep else torch.from_numpy(points.snr)
    rows = points.places.tolist() if by_t else snr.tolist()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["t" if by_t else "snr", "weight"])
    writer.writerows(sorted(zip(rows, points.weight.tolist(), strict=True)))
    with atomic_file(path) as stream:
        stream.write(text.getvalue().encode())
    if found.prediction not in SPACES:
        return None
    reference = f"table:path={shlex.quote(str(path)) if ',' in str(path) else path},space={found.prediction}"
    everywhere = np.ones(len(points.snr), dtype=bool)
    return _tried(
        reference, found.prediction, found.schedule, points, everywhere, is_normalized=False,
        says_schedule=found.schedule != "linear",
    )  # fmt: skip


def _tried(
    reference: str,
    prediction: Prediction,
    schedule: str,
    points: Points,
    where: np.ndarray[tuple[int], np.dtype[np.bool_]],
    *,
    is_normalized: bool,
    says_schedule: bool,
) -> str | None:
    """The options, if debiasctl accepts them and their weights are those of the points but for a factor."""
    options = ["--weighting", reference, "--prediction", prediction, "--normalize", "mean" if is_normalized else "none"]
    try:
        check_prediction(prediction, schedule_process(schedule))
        curves = weight_curves(
            [reference], schedule=schedule, prediction=prediction, normalize="mean" if is_normalized else "none"
        )
    except DebiasctlError:
        return None
    log_snr = curves.snr.clamp(min=1e-20).log().numpy()[::-1]
    log_weight = curves.weights[reference][prediction].clamp(min=1e-300).log().numpy()[::-1]
    at = np.log(points.snr)
    used = where & points.positive & (at >= log_snr[0] - 0.01) & (at <= log_snr[-1] + 0.01)
    if not used.any():
        return None
    rest = (points.log_weight - np.interp(at, log_snr, log_weight))[used]
    if np.abs(rest - np.median(rest)).max() > 2 * _SAME + np.max(points.tolerance):
        return None
    return shlex.join([*options, *(["--schedule", schedule] if says_schedule else [])])
