"""Which images networks that were trained on photographs take."""

from debiasctl.api import DatasetInfo, EvaluationError


def check_channels(info: DatasetInfo, network: str) -> None:
    """Refuse images that are neither grey, which are shown to it as RGB, nor RGB.

    Raises:
        EvaluationError: if they have another number of channels.
    """
    if info.channels not in (1, 3):
        raise EvaluationError(
            f"{network} sees grey or RGB images; these have {info.channels} channels. Use `features=pixels`"
        )
