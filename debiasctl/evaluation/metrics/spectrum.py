"""Power spectra of images: radially averaged power, compared as a number and as a curve."""

import torch
from torch import Tensor

_ROUNDING = (2 / 255) ** 2 / 12  # power of the rounding to uint8, in units of [-1, 1]; lower power is invisible


def radial_power(images: Tensor) -> Tensor:
    """Each image's power at 1, 2, … size // 2 cycles per image, float64 [N, size // 2], for uint8 [N, C, H, W].

    It is |FFT|²/(H W) of the image in [-1, 1], averaged over channels and over the frequencies whose radius rounds to
    that number (azimuthal average, as in Durall et al., 2020, arXiv 2003.01826), so that white noise has its variance
    at every frequency. The mean colour and the corners beyond the Nyquist radius are left out.
    """
    return radial_power_of(images.to(torch.float64) / 127.5 - 1)


def radial_power_of(x: Tensor) -> Tensor:
    """The same of images in model space, [N, C, H, W] in about [-1, 1], which need not be of 256 levels."""
    height, width = x.shape[2:]
    size = min(height, width)
    x = x.to(torch.float64)
    power = torch.fft.rfft2(x).abs().square().mean(dim=1).flatten(1) / (height * width)  # [N, H (W // 2 + 1)]
    down = torch.fft.fftfreq(height, dtype=torch.float64) * size
    across = torch.fft.rfftfreq(width, dtype=torch.float64) * size
    radius = (down[:, None].square() + across.square()).sqrt().round().to(torch.int64).flatten()
    # rfft2 leaves out the columns at opposite frequencies, whose power is the same
    times = torch.ones(height, width // 2 + 1, dtype=torch.float64)
    times[:, 1 : (width + 1) // 2] = 2
    times = times.flatten()
    sums = torch.zeros(len(x), int(radius.max()) + 1, dtype=torch.float64).index_add_(1, radius, power * times)
    bands = slice(1, size // 2 + 1)
    return sums[:, bands] / torch.bincount(radius, weights=times)[bands]


def spectrum_distance(power: Tensor, reference: Tensor) -> float:
    """The mean over bands of the squared log-ratio of two mean spectra [B], each plus the power of rounding."""
    ratio = (power + _ROUNDING) / (reference + _ROUNDING)
    return float(ratio.log().square().mean())
