"""Logs cut from a known truth: the pairs that were exposed, or a simple random sample of all pairs."""

from __future__ import annotations

import numpy as np

from deconrec.data.dataset import Dataset, Log, Truth
from deconrec.errors import DataError
from deconrec.random import numpy_generator
from deconrec.simulate.ranges import check_count, check_number


def randomise(data: Dataset, truth: Truth, share: float = 0.01, seed: int = 0) -> Dataset:
    """The data set with a randomised log: a simple random sample of all pairs, rated as the truth says.

    An earlier randomised log is replaced. Pairs may stand in the biased log too; their rating is the same.
    For one seed a smaller share is a part of a larger one.

    Parameters
    ----------
    data, truth: what a simulator returned.
    share: the sample's share of all pairs, in (0, 1]; at least one pair is drawn.
    seed: any whole number >= 0. A simulator's own seed gives the log of its `unbiased_share`.

    Raises
    ------
    ParameterError: `share` or `seed` out of range.  DataError: the truth is not of this data set's shape.
    """
    check_number("randomise", "share", share, 0, 1, open_low=True)
    check_count("randomise", "seed", seed, 0)
    if truth.rating.shape != data.shape:
        raise DataError(
            f"randomise needs the truth of the same users and items; data has {data.shape}, truth has "
            f"{truth.rating.shape}. Pass both as one simulator returned them."
        )
    return data.with_logs(data.biased, randomised_log(truth.rating, share, seed), data.test)


def randomised_log(rating: np.ndarray, share: float, seed: int) -> Log:
    """A simple random sample of the pairs of `rating` (users, items), without replacement, in pair order."""
    n = max(1, round(share * rating.size))
    # The head of one permutation, so that a larger share only adds pairs.
    key = np.sort(numpy_generator(seed, "simulate/randomised log").permutation(rating.size)[:n])
    return _log_of(rating, key)


def exposed_log(rating: np.ndarray, exposed: np.ndarray) -> Log:
    """The rows of `rating` (users, items) where `exposed` (users, items) is true, in pair order."""
    return _log_of(rating, np.flatnonzero(exposed))


def _log_of(rating: np.ndarray, key: np.ndarray) -> Log:
    user, item = np.divmod(key, rating.shape[1])
    return Log(user, item, rating.reshape(-1)[key])
