"""Features as networks read them: standardised on the data that is trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deconrec.data.dataset import Dataset, Features

if TYPE_CHECKING:
    from torch import Tensor

    from deconrec.pairs import Tables


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
