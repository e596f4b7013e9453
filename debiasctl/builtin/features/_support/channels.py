"""What networks trained on photographs share: the check that images suit them, and what else to use."""

from debiasctl.api import DatasetInfo, EvaluationError

OWN_FEATURES = "`features=local` (data with classes), local-ssl or pixels"  # made from a data set's own images


def check_channels(info: DatasetInfo, network: str) -> None:
    """Check that images are RGB, or grey, which is converted to RGB for the network.

    Raises:
        EvaluationError: if they have another number of channels.
    """
    if info.channels not in (1, 3):
        raise EvaluationError(
            f"{network} accepts grey or RGB images; these have {info.channels} channels. Use `features=pixels`"
        )
