"""One seed for everything: a seed and a name give an independent, repeatable stream.

`numpy_generator(seed, "split")` and `numpy_generator(seed, "world")` never share draws, so that adding a
draw in one place moves nothing in another.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def seed_sequence(seed: int, stream: str) -> np.random.SeedSequence:
    """Entropy of the stream named `stream` under `seed` (any non-negative integer)."""
    return np.random.SeedSequence([int(seed), zlib.crc32(stream.encode())])


def numpy_generator(seed: int, stream: str) -> np.random.Generator:
    """A numpy generator for one named use of `seed`."""
    return np.random.default_rng(seed_sequence(seed, stream))


def torch_generator(seed: int, stream: str) -> torch.Generator:
    """A torch generator (CPU) for one named use of `seed`."""
    import torch

    state = int(seed_sequence(seed, stream).generate_state(1, np.uint64)[0] >> 1)
    return torch.Generator().manual_seed(state)
