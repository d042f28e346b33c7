"""One thread inside, and what was there before afterwards."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from deconrec.threads import one_thread


def counts() -> list[int]:
    return [pool["num_threads"] for pool in threadpool_info()]


def test_one_thread_for_torch_and_every_blas() -> None:
    np.ones((2, 2)) @ np.ones((2, 2))  # numpy's BLAS is loaded
    with threadpool_limits(2):
        torch.set_num_threads(2)
        before = counts()
        assert before
        with one_thread():
            assert torch.get_num_threads() == 1
            assert set(counts()) == {1}
        assert torch.get_num_threads() == 2
        assert counts() == before
        with pytest.raises(KeyError), one_thread():
            raise KeyError
        assert counts() == before
    torch.set_num_threads(1)
