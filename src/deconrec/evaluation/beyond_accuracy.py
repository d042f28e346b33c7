"""Beside accuracy: how popular, how various and how evenly spread what is recommended is.

For lists of K items, one a user, with n_i the ratings of item i in the log that the model was given:

    arp        mean over users of the mean n_i of the list             average recommendation popularity
    aplt       mean over users of the share of the list in the tail    average percentage of long-tail items
    coverage   items that stand in at least one list / items
    gini       of how often each item is recommended, 0 = all equally, towards 1 = one item alone

The tail are all items but the fifth with the most ratings (ties at the border: the smaller index is the more popular).
None of these says whether a list is good.

Source. ARP, APLT: Abdollahpouri, Burke and Mobasher, FLAIRS 2019. Gini index over the catalogue: Castells, Hurley and
Vargas, Recommender Systems Handbook 2015.
"""

from __future__ import annotations

import numpy as np

HEAD = 0.2  # share of items that are the head


def tail(ratings: np.ndarray) -> np.ndarray:
    """(n_items,) bool: the long tail, from the number of ratings of each item."""
    out = np.ones(len(ratings), bool)
    out[np.argsort(-ratings, kind="stable")[: int(np.ceil(HEAD * len(ratings)))]] = False
    return out


def list_means(lists: np.ndarray, value: np.ndarray) -> np.ndarray:
    """(n,) mean of a value of items (n_items,) over each list (n, K), -1 where it is shorter; NaN for an empty one."""
    there = lists >= 0
    total = np.where(there, value[np.maximum(lists, 0)], 0.0).sum(1)
    count = there.sum(1)
    return np.divide(total, count, out=np.full(len(lists), np.nan), where=count > 0)


def times_recommended(lists: np.ndarray, n_items: int) -> np.ndarray:
    """(n_items,) in how many lists (n, K) each item stands."""
    return np.bincount(lists[lists >= 0], minlength=n_items)


def coverage(times: np.ndarray) -> float:
    """Share of items with at least one recommendation; NaN without items."""
    return float((times > 0).mean()) if len(times) else float("nan")


def gini(times: np.ndarray) -> float:
    """Gini index of numbers >= 0, in [0, 1 - 1/n]: sum_j (2 j - n - 1) x_(j) / (n sum x); NaN where all are 0."""
    n, total = len(times), float(times.sum())
    if not total:
        return float("nan")
    x = np.sort(times.astype(np.float64))
    return float(((2 * np.arange(1, n + 1) - n - 1) * x).sum() / (n * total))
