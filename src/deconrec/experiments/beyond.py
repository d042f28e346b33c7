"""What `compare` measures beside accuracy: lists of fitted models, and strata of users and items with few ratings."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from deconrec.evaluation import beyond_accuracy
from deconrec.kernels.top_k import top_k

POPULARITY = ("arp", "aplt", "coverage", "gini")
STRATA = ("cold-users", "cold-items")
COLD = 5  # NOTE ratings: at most so many are few
COLDEST = 0.2  # NOTE and the fifth with the fewest is cold in any case

Block = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""(scores (B, n_items), bool: what is no candidate (B, n_items)) of rows, from their numbers."""


def cold(ratings: np.ndarray) -> np.ndarray:
    """(n,) bool: at most max(COLD, the 20 % quantile) ratings in the biased log that the model was given."""
    if not len(ratings):
        return np.zeros(0, bool)
    return np.asarray(ratings <= max(COLD, np.quantile(ratings, COLDEST, method="lower")))


def list_metrics(
    wanted: Iterable[tuple[str, int]], block: Block, n_users: int, ratings: np.ndarray, size: int
) -> dict[tuple[str, int], float | np.ndarray]:
    """Metrics of the users' lists, by (base, K): one number, or (n_users,) values of each user (arp, aplt).

    ratings: (n_items,) in the log that the model was given. size: users scored at once.
    """
    asked = list(wanted)
    depth = max(k for _, k in asked)
    lists = np.full((n_users, depth), -1, np.int64)
    for start in range(0, n_users, size):
        rows = np.arange(start, min(start + size, n_users))
        scores, hidden = block(rows)
        top, value = top_k(np.where(hidden, -np.inf, scores), depth)
        lists[rows, : top.shape[1]] = np.where(value > -np.inf, top, -1)
    in_tail = beyond_accuracy.tail(ratings).astype(np.float64)
    out: dict[tuple[str, int], float | np.ndarray] = {}
    for base, k in asked:
        first = lists[:, :k]
        if base in ("arp", "aplt"):
            out[base, k] = beyond_accuracy.list_means(
                first, ratings.astype(np.float64) if base == "arp" else in_tail
            )
            continue
        times = beyond_accuracy.times_recommended(first, len(ratings))
        out[base, k] = beyond_accuracy.coverage(times) if base == "coverage" else beyond_accuracy.gini(times)
    return out
