"""What a ranking gives to each candidate: the expected gain of every cell of a block, ties at random.

A metric that is a sum over positives, sum_i g_ui r_ui, is known up to r once the gain g_ui of every candidate is: that
is what a log of few rows can be weighted with. The tie rule is that of `ranking`: candidates with equal scores are
taken in random order, and the gain is its expectation.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

import numpy as np

Name = TypeVar("Name", bound=Hashable)


def cumulative(gain: str, k: int, length: int) -> np.ndarray:
    """(length + 1,) sum of the gains of the first j ranks: 1 a hit, or 1 / log2(rank + 1), up to rank K."""
    rank = np.arange(1, length + 1)
    each = (rank <= k) * (1.0 if gain == "hit" else 1.0 / np.log2(rank + 1))
    return np.concatenate([[0.0], np.cumsum(each)])


def expected_gains(
    scores: np.ndarray, excluded: np.ndarray, wanted: Mapping[Name, tuple[str, int]]
) -> dict[Name, np.ndarray]:
    """Gains of every candidate of a block of users.

    Parameters
    ----------
    scores: (B, n_items), finite for candidates.
    excluded: (B, n_items) bool, True for what is no candidate: its gain is 0.
    wanted: (gain, K) by name.

    Returns (B, n_items) float64 by name.
    """
    n_rows, n_items = scores.shape
    value = np.where(excluded, -np.inf, scores)
    order = np.argsort(-value, axis=1, kind="stable")
    ranked = np.take_along_axis(value, order, axis=1)
    starts = np.ones(ranked.shape, bool)
    starts[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    place = np.broadcast_to(np.arange(n_items), ranked.shape)
    first = np.maximum.accumulate(np.where(starts, place, 0), axis=1)  # where a tie begins
    ends = np.ones(ranked.shape, bool)
    ends[:, :-1] = starts[:, 1:]
    after = np.where(ends, place + 1, n_items)
    last = np.minimum.accumulate(after[:, ::-1], axis=1)[:, ::-1]  # one behind its end
    out: dict[Name, np.ndarray] = {}
    for name, (gain, k) in wanted.items():
        total = cumulative(gain, k, n_items)
        each = np.where(ranked > -np.inf, (total[last] - total[first]) / (last - first), 0.0)
        out[name] = np.empty((n_rows, n_items))
        np.put_along_axis(out[name], order, each, axis=1)
    return out
