"""Images known by the exact values of their pixels: copies among them, and those that two sets share."""

import hashlib

import torch
from torch import Tensor


def image_hashes(images: Tensor) -> Tensor:
    """128 bits of BLAKE2b of each image's shape and pixels, int64 [N, 2], for uint8 [N, C, H, W]."""
    shape = ",".join(map(str, images.shape[1:])).encode()
    digests = [
        hashlib.blake2b(image.tobytes(), digest_size=16, salt=shape[:16]).digest()
        for image in images.contiguous().numpy()
    ]
    return torch.frombuffer(bytearray(b"".join(digests)), dtype=torch.int64).reshape(-1, 2)


def num_copies(hashes: Tensor) -> int:
    """How many images have the pixels of an image before them."""
    return len(hashes) - len(_keys(hashes))


def num_shared(hashes: Tensor, others: Tensor) -> int:
    """How many of the images are among the others, pixel for pixel."""
    known = _keys(others)
    return sum(tuple(row) in known for row in hashes.tolist())


def _keys(hashes: Tensor) -> set[tuple[int, ...]]:
    return {tuple(row) for row in hashes.tolist()}
