"""What networks trained on photographs share: the check that images suit them."""

from debiasctl.api import DatasetInfo, EvaluationError


def check_channels(info: DatasetInfo, network: str) -> None:
    """Check that images are RGB, or grey, which is converted to RGB for the network.

    Raises:
        EvaluationError: if they have another number of channels.
    """
    if info.channels not in (1, 3):
        raise EvaluationError(
            f"{network} accepts grey or RGB images; these have {info.channels} channels. Use `features=pixels`"
        )
