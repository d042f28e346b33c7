"""The k largest of each row: always those of a stable sort, whether found by groups or in whole rows."""

from __future__ import annotations

import numpy as np
import pytest

from deconrec.kernels import top_k as module
from deconrec.kernels.top_k import top_k


def sorted_stably(scores, k):
    index = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return index, np.take_along_axis(scores, index, 1)


@pytest.mark.parametrize("k", [1, 2, 5, 20, 300])
@pytest.mark.parametrize("levels", [2, 40, None])
@pytest.mark.parametrize("n_items", [1, 63, 64, 511, 512, 2000, 4133])
def test_it_is_a_stable_sort(n_items, levels, k):
    rng = np.random.default_rng(n_items)
    shape = 7, n_items
    scores = rng.normal(size=shape) if levels is None else rng.integers(0, levels, shape).astype(float)
    scores[rng.random(shape) < 0.3] = -np.inf  # hidden
    for given in (scores, scores.astype(np.float32), np.full(shape, -np.inf)):
        for found, wanted in zip(top_k(given, k), sorted_stably(given, k), strict=True):
            np.testing.assert_array_equal(found, wanted)
            assert found.dtype == wanted.dtype


def test_groups_are_used_where_they_pay(monkeypatch):
    """A tie between groups at the border sends that row, and no other, to the slow way."""
    taken = []
    slow = module._largest

    def counted(scores, k):
        taken.append(scores.shape)
        return slow(scores, k)

    monkeypatch.setattr(module, "_largest", counted)
    scores = np.random.default_rng(0).normal(size=(5, 64 * 40))
    scores[3, [7, 8, 9]] = 100.0  # three groups reach the second largest maximum
    index, _ = top_k(scores, 2)
    assert index[3].tolist() == [7, 8]
    assert taken == [(5, 2 * 64), (1, 64 * 40)]
