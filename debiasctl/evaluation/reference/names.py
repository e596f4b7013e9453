"""Checking the name of a reference before anything heavy is imported."""

from debiasctl import registry
from debiasctl.errors import UsageError
from debiasctl.evaluation.reference import clean_fid
from debiasctl.reading.user_text import user_path
from debiasctl.wording import did_you_mean, quoted


def check_reference(text: str) -> None:
    """Check that a reference is a data set, published statistics or an existing path.

    Raises:
        UsageError: if it is none of these.
    """
    known = [record.name for record in registry.records("datasets")]
    name = text.partition(":")[0]
    if clean_fid.is_named(text):
        clean_fid.parse_statistics(text)
    elif name not in known and not user_path(text, argument="`reference`").exists():
        nearest = did_you_mean(name, known)
        raise UsageError(
            f"`reference` {quoted(text)} is neither a data set nor a path that exists.{nearest} "
            f"Known data sets: {', '.join(known)}; or give a folder, .zip, .tar or .npz of images, an .npz of "
            "statistics (mu, sigma), or clean-fid:name=cifar10,resolution=32,split=train"
        )
