"""The k largest of each row, exactly, ties to the smaller index.

A row is cut into groups of columns. The k-th largest of the groups' maxima, t, is at most the k-th largest value, so
that what is above t lies in the groups whose maximum is above t: one pass finds the maxima, and only the members of k
groups are looked at again. Rows where more than k groups reach t are taken whole.
"""

from __future__ import annotations

import numpy as np

GROUP = 64  # NOTE columns of a group
ENOUGH = 8  # NOTE groups for each of the k places, below which grouping saves nothing


def top_k(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(indices, values), each (n, min(k, n_items)), best first; ties to the smaller index. scores is (n, n_items)."""
    n, n_items = scores.shape
    k = min(k, n_items)
    if k == 0:
        return np.zeros((n, 0), np.int64), np.zeros((n, 0), scores.dtype)
    n_groups = n_items // GROUP
    index = _grouped(scores, k, n_groups) if n_groups >= ENOUGH * k else _largest(scores, k)
    value = np.take_along_axis(scores, index, 1)
    order = np.argsort(-value, axis=1, kind="stable")
    return np.take_along_axis(index, order, 1), np.take_along_axis(value, order, 1)


def _largest(scores: np.ndarray, k: int) -> np.ndarray:
    """(n, k) ascending indices of the k largest."""
    n_items = scores.shape[1]
    if k == n_items:
        return np.tile(np.arange(n_items), (len(scores), 1))
    index = np.sort(np.argpartition(scores, n_items - k, axis=1)[:, n_items - k :], axis=1)
    # A tie at the border must not be cut at random: everything tied with the k-th value stays in play.
    kth = np.take_along_axis(scores, index, 1).min(1, keepdims=True)
    torn = np.flatnonzero((scores >= kth).sum(1) > k)
    if len(torn):
        part, least = scores[torn], kth[torn]
        above, tied = part > least, part == least
        room = k - above.sum(1, keepdims=True)
        index[torn] = np.nonzero(above | (tied & (np.cumsum(tied, axis=1) <= room)))[1].reshape(-1, k)
    return index


def _grouped(scores: np.ndarray, k: int, n_groups: int) -> np.ndarray:
    """The same, by groups: group g holds the columns g, g + n_groups, g + 2 n_groups ..., and the rest its own."""
    n, n_items = scores.shape
    body = n_groups * GROUP
    maxima = scores[:, :body].reshape(n, GROUP, n_groups).max(1)
    place = np.argpartition(maxima, n_groups - k, axis=1)[:, n_groups - k :]
    t = np.take_along_axis(maxima, place, 1).min(1, keepdims=True)
    members = (np.arange(GROUP)[None, :, None] * n_groups + place[:, None, :]).reshape(n, -1)
    members.sort(axis=1)
    if body < n_items:
        rest = np.broadcast_to(np.arange(body, n_items), (n, n_items - body))
        members = np.hstack([members, rest])
    index = np.take_along_axis(members, _largest(np.take_along_axis(scores, members, 1), k), 1)
    whole = np.flatnonzero((maxima >= t).sum(1) > k)
    if len(whole):
        index[whole] = _largest(scores[whole], k)
    return index
