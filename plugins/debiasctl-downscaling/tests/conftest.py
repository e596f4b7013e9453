"""One thread: the tests' tensors are small."""

import torch

torch.set_num_threads(1)
