"""Whether a data set can tell methods apart at all: refused or noted before anything is fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from deconrec.data.dataset import Dataset, Truth
from deconrec.errors import DataError


def check_comparable(data: Dataset, protocol: str, truth: Truth | None) -> None:
    """Refuse data on which every method gets the same numbers, whatever it does.

    Raises
    ------
    DataError: one user or one item; over pairs, logs whose outcomes are all the same.
    """
    if min(data.shape) < 2:
        raise DataError(
            f"compare needs at least 2 users and 2 items; '{data.name}' has {data.n_users:,} and {data.n_items:,}. "
            "Check which columns are the user and the item."
        )
    if protocol != "pairs" or truth is not None or data.impressions is not None:
        return
    logs = [log for log in (data.biased, data.unbiased, data.test) if log is not None and len(log)]
    outcomes = np.unique(np.concatenate([data.outcome(log) for log in logs]))
    if len(outcomes) < 2:
        raise DataError(
            f"every outcome of '{data.name}' is the same (rows: {sum(map(len, logs)):,}), so that no test over pairs "
            "can tell one method from another. Set `binarize` so that both outcomes occur; or, of clicks or purchases "
            "alone, give what was shown and not taken as 0 (or a log of impressions), or rank by exposures: --protocol "
            "users with popularity, ease, wmf."
        )


def crowded(data: Dataset, metrics: Sequence[str], counts: Mapping[str, int]) -> list[str]:
    """A note where lists of a user's own test rows are mostly shorter than K, so that they hold everything."""
    log = next((log for log in (data.test, data.unbiased, data.biased) if log is not None and len(log)), None)
    shown = [m for m in metrics if "/shown" in m and "leaked" not in m]
    if log is None or not shown:
        return []
    rows = counts["test"] / len(np.unique(log.user))
    short = [m for m in shown if int(m.partition("@")[2].partition("/")[0] or 0) >= rows]
    if not short:
        return []
    return [
        f"A user has {rows:.1f} test rows in the mean, so that a list of them is mostly whole: {' and '.join(short)} "
        "can hardly tell methods apart. Look at metrics over rows (auc, mse) instead."
    ]
