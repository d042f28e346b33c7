"""How many threads a piece of work uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for torch and for every BLAS: runs are compared, their bits must not depend on the machine's load, and
    numpy's threads on a shared machine wait for each other (thirty times slower, measured, with two busy cores).
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)
