"""The metric by which runs on a data set are compared unless another is declared."""

from collections.abc import Sequence

DEFAULTS = {
    "cifar10": "fd_local",
    "digits": "fd_local",
    "mnist": "fd_local",
    "fashion-mnist": "fd_local",
    "photo-patches": "fd_local-ssl",
}  # a data set -> its primary metric, where it was measured
_PREFERRED = ("fid", "fd_local", "fd_local-ssl", "fd_dinov2", "fd_clip", "fd_pixels")  # of all others


def default_metric(metrics: Sequence[str], datasets: Sequence[str]) -> str:
    """The data set's own of these metrics, else the preferred one of them, else the first distance, else the first."""
    named = [DEFAULTS[dataset] for dataset in datasets if dataset in DEFAULTS]
    distances = [metric for metric in metrics if metric.startswith("fd_")]
    return next(metric for metric in (*named, *_PREFERRED, *distances, *metrics) if metric in metrics)
