"""Bands of spatial frequency, each an octave, in which errors are measured."""

import math

import torch
from torch import Tensor


class Bands:
    """The octaves of an image of a size [H, W]: the mean colour (0), then 1, 2–3, 4–7 … cycles per image.

    Frequencies are rounded to whole cycles by their radius; the last band holds all that are higher.
    """

    def __init__(self, channels: int, height: int, width: int) -> None:
        self._shape = (channels, height, width)
        size = min(height, width)
        down = torch.fft.fftfreq(height, dtype=torch.float64) * size
        across = torch.fft.rfftfreq(width, dtype=torch.float64) * size
        radius = (down[:, None].square() + across.square()).sqrt().round().clamp(min=0)
        octaves = max(1, size.bit_length() - 1)  # those that begin at half of the image's side or below
        octave = torch.where(radius > 0, radius.clamp(min=1).log2().floor() + 1, radius)
        number = octave.clamp(max=octaves).to(torch.int64)
        # real and imaginary parts of each channel's frequencies
        self.of_column = number.flatten()[None, :, None].expand(channels, -1, 2).flatten()
        self.names = ["0", *(self._name(one, octaves) for one in range(1, octaves + 1))]
        # rfft2 leaves out the columns at opposite frequencies
        times = torch.ones(height, width // 2 + 1, dtype=torch.float64)
        times[:, 1 : (width + 1) // 2] = 2
        self._scale = times.sqrt()

    def __len__(self) -> int:
        return len(self.names)

    def columns(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] as float64 [N, F], the real and imaginary parts of their frequencies.

        Inner products of rows are those of the images divided by the number of their values, so that a row's squared
        length is the mean of its image's squares.
        """
        channels, height, width = self._shape
        spectrum = torch.fft.rfft2(images.cpu().double(), norm="ortho") * self._scale
        columns: Tensor = torch.view_as_real(spectrum).flatten(1)
        return columns / math.sqrt(channels * height * width)

    @staticmethod
    def _name(octave: int, last: int) -> str:
        begin, end = 2 ** (octave - 1), 2**octave - 1
        if octave == last:
            return f"{begin}+"
        return f"{begin}" if begin == end else f"{begin}-{end}"
