"""The scores of one user at a time, equal to those of `model.score`, with nothing built anew for a request.

Where a method answers by one inner product of a user's and every item's side (`nn.mf.MF`, `nn.fm.FM`), both sides are
computed when the model is loaded; any other method answers as it does for a block of one user.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from deconrec.base import Estimator
from deconrec.data.dataset import Dataset

Row = Callable[[int], np.ndarray]


def rows_of(model: Estimator) -> Row:
    """Gives (n_items,) expected outcomes in [0, 1] of a training user by its code; the array may be written to."""
    return _products(model) or (lambda code: np.array(model._block(np.array([code]))[0]))


def _products(model: Estimator) -> Row | None:
    """The quick way, where the method allows it."""
    if not hasattr(model, "nets_"):
        return None
    import torch

    from deconrec.nn.fm import FM
    from deconrec.nn.mf import MF
    from deconrec.torch_estimator import PairEstimator

    if not isinstance(model, PairEstimator) or type(model)._block is not PairEstimator._block:
        return None
    net = model.nets_.prediction
    if type(net) not in (MF, FM) or model.device != "cpu":
        return None
    with torch.no_grad():
        (q, b), (p, c) = (
            tuple(t.detach().contiguous() for t in side(model.tables_))
            for side in (net.item_side, net.user_side)
        )

    def row(code: int) -> np.ndarray:
        with torch.inference_mode():
            logit = torch.addmv(b, q, p[code])
            logit += c[code]
            return logit.sigmoid_().numpy()

    return row


def outward(model: Estimator, scores: np.ndarray, uncovered: np.ndarray) -> np.ndarray:
    """(n_items,) float32 on the outcome's own scale; the overall mean for items that the model knows nothing about."""
    if len(uncovered):
        scores[uncovered] = np.float32(model.mean_)
    return np.asarray(model.scale_.outward(scores), np.float32)


def folded_row(model: Estimator, history: Dataset) -> np.ndarray:
    """(n_items,) expected outcomes in [0, 1] of the one user of a history."""
    return np.array(model._fold_in(history)[0])


def best(scores: np.ndarray, k: int) -> np.ndarray:
    """(min(k, n),) places of the largest of scores (n,) that are not -inf, best first; ties to the smaller place.

    As `base.top_k` for one row, without ordering what is not returned.
    """
    n = len(scores)
    if k < n:
        # Everything tied with the k-th stays in play until the stable sort has put smaller places first.
        places = np.flatnonzero(scores >= np.partition(scores, n - k)[n - k])
    else:
        places = np.arange(n)
    order = places[np.argsort(-scores[places], kind="stable")[:k]]
    return order[scores[order] > -np.inf]
