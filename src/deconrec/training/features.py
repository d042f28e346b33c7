"""Features as methods read them: standardised on the data that is trained on; and what weight they have in scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deconrec.data.dataset import Dataset, Features
from deconrec.evaluation.rating import within_users

if TYPE_CHECKING:
    from torch import Tensor

    from deconrec.pairs import Tables


WEIGHTS = (
    0.0,
    0.5,
    1.0,
    1.5,
    2.0,
    3.0,
    4.0,
    6.0,
    8.0,
    12.0,
    16.0,
    24.0,
    32.0,
)  # of the features' part of a score


def spread(features: Features | None) -> tuple[np.ndarray, np.ndarray]:
    """(mean (F,), standard deviation (F,), 1 where a column is constant) over the ids that have features."""
    if features is None:
        return np.zeros(0, np.float32), np.ones(0, np.float32)
    x = features.values[~features.missing]
    x = x if len(x) else features.values
    std = x.std(0)
    return x.mean(0), np.where(std > 1e-6, std, 1.0).astype(np.float32)


def standardised(features: Features | None, mean: np.ndarray, std: np.ndarray) -> Tensor | None:
    """(n, F) features with mean 0 and deviation 1 on the training data; None without features."""
    import torch

    if features is None or not len(mean):
        return None
    return torch.from_numpy(((features.values - mean) / std).astype(np.float32))


def feature_tables(data: Dataset) -> Tables:
    """The features of a data set, standardised on itself."""
    from deconrec.pairs import Tables

    user, item = data.user_features, data.item_features
    return Tables(standardised(user, *spread(user)), standardised(item, *spread(item)))


def weight_within_exposure(own: np.ndarray, felt: np.ndarray, rating: np.ndarray, user: np.ndarray) -> float:
    """The weight of `WEIGHTS` for which own + weight * felt follows ratings within users.

    own, felt, rating, user: (n,). Of the weights whose correlation with ratings, both less their user's mean, lies
    within one standard error of the largest, the one nearest to 1 (by ratio): the curve is flat, and 1 is what was
    fitted. 1 where nothing varies within a user.
    """
    r, s, f = (within_users(values, user) for values in (rating, own, felt))
    if (r @ r) * (f @ f) * (s @ s) < 1e-30:
        return 1.0
    both = [s + w * f for w in WEIGHTS]
    cosine = np.array([float(r @ b) / np.sqrt(max(float(b @ b) * float(r @ r), 1e-30)) for b in both])
    error = (1.0 - cosine.max() ** 2) / np.sqrt(max(len(r) - len(np.unique(user)), 1))
    near = [w for w, c in zip(WEIGHTS, cosine, strict=True) if c >= cosine.max() - error]
    return min(near, key=lambda w: abs(np.log(max(w, 0.25))))
