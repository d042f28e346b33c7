"""The scores of one user at a time, as `model.score` gives them, with nothing built anew for a request.

Where a method answers by one inner product of a user's and every item's side (`nn.mf.MF`, `nn.fm.FM`), both sides are
computed when the model is loaded, and items are ranked by the logit: the outcome, which rises with it, is computed for
those of the list alone. Any other method answers as it does for a block of one user.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from scipy.special import expit, logit

from deconrec.base import Estimator
from deconrec.data.dataset import Dataset


class Rows(Protocol):
    """Gives what a user's items are ranked by, and what that means."""

    def row(self, code: int) -> np.ndarray:
        """(n_items,) numbers that rise with the expected outcome, of a training user; the array may be written to."""

    def outcome(self, ranked_by: np.ndarray) -> np.ndarray:
        """(n,) float32 expected outcomes on the outcome's own scale, of such numbers."""


class Blocks:
    """The way that every method has: a block of one user."""

    def __init__(self, model: Estimator) -> None:
        self._model, self._uncovered = model, np.flatnonzero(~model.covered_items_)

    def row(self, code: int) -> np.ndarray:
        """The expected outcomes themselves."""
        return self.outward(np.array(self._model._block(np.array([code]))[0]))

    def outcome(self, ranked_by: np.ndarray) -> np.ndarray:
        """They are the outcomes."""
        return ranked_by

    def outward(self, scores: np.ndarray) -> np.ndarray:
        """(n_items,) float32 on the outcome's own scale; the overall mean where the model knows nothing of an item."""
        if len(self._uncovered):
            scores[self._uncovered] = np.float32(self._model.mean_)
        return np.asarray(self._model.scale_.outward(scores), np.float32)


class Products:
    """One inner product for all items: a quarter of the time."""

    def __init__(
        self, model: Estimator, items: tuple[np.ndarray, np.ndarray], users: tuple[np.ndarray, np.ndarray]
    ) -> None:
        (q, item_bias), (p, user_bias) = items, users
        # Biases are two factors more: l_ui = (p_u, 1, b_u) . (q_i, b_i, 1), in one pass over the items.
        self._item = np.ascontiguousarray(np.column_stack([q, item_bias, np.ones_like(item_bias)]).T)
        self._user = np.column_stack([p, np.ones_like(user_bias), user_bias])
        self._uncovered = np.flatnonzero(~model.covered_items_)
        self._mean, self._scale = np.float32(logit(model.mean_)), model.scale_

    def row(self, code: int) -> np.ndarray:
        """The logits."""
        out: np.ndarray = self._user[code] @ self._item
        if len(self._uncovered):
            out[self._uncovered] = self._mean
        return out

    def outcome(self, ranked_by: np.ndarray) -> np.ndarray:
        """Sigma of the logits."""
        return np.asarray(self._scale.outward(expit(ranked_by)), np.float32)


def rows_of(model: Estimator) -> Rows:
    """The quickest way that the model allows."""
    return _products(model) or Blocks(model)


def _products(model: Estimator) -> Rows | None:
    if not hasattr(model, "nets_"):
        return None
    import torch

    from deconrec.nn.fm import FM
    from deconrec.nn.mf import MF
    from deconrec.torch_estimator import PairEstimator

    if not isinstance(model, PairEstimator) or type(model)._block is not PairEstimator._block:
        return None
    net = model.nets_.prediction
    if type(net) not in (MF, FM):
        return None
    with torch.no_grad():
        items, users = (
            tuple(t.detach().cpu().numpy() for t in side(model.tables_))
            for side in (net.item_side, net.user_side)
        )
    return Products(model, items, users)


def folded_row(model: Estimator, history: Dataset) -> np.ndarray:
    """(n_items,) expected outcomes in [0, 1] of the one user of a history."""
    return np.array(model._fold_in(history)[0])


def best(scores: np.ndarray, k: int) -> np.ndarray:
    """(min(k, n),) places of the largest of scores (n,) that are not -inf, best first; ties to the smaller place.

    As `kernels.top_k` for one row, without ordering what is not returned.

    Raises
    ------
    ValueError: a score is NaN.
    """
    n = len(scores)
    if k < n:
        last = np.partition(scores, n - k)[n - k :]  # numpy takes NaN for the largest number
        # Everything tied with the k-th stays in play until the stable sort has put smaller places first.
        places = np.flatnonzero(scores >= last[0])
    else:
        last, places = scores, np.arange(n)
    if np.isnan(last).any():
        raise ValueError("a score is no number")
    order = places[np.argsort(-scores[places], kind="stable")[:k]]
    return order[scores[order] > -np.inf]
