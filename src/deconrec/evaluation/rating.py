"""Metrics over rating pairs: AUC (ties averaged, weights, soft labels), mean squared error, log loss.

AUC is global: one statistic over all pairs, not a mean of users' AUCs.
Source. Hanley and McNeil, Radiology 1982 (AUC as the Mann-Whitney statistic).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deconrec.errors import DataError, ParameterError
from deconrec.evaluation import columns

NAN = float("nan")


def auc(score: ArrayLike, label: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Share of (positive, negative) pairs that the score orders rightly, a tie counting half; n log n.

    score: (n,) finite, higher is better. label: (n,) of 0 and 1. weight: (n,) at least 0; a pair of rows
    weighs the product of their weights. Returns NaN when one class is absent (or weighs nothing), on empty
    columns too.
    Raises DataError for non-finite scores, other labels, negative weights, or columns of unequal length.
    """
    scores = columns.finite("AUC", "score", score)
    positive = columns.binary("AUC", "label", label, len(scores))
    if weight is None:
        weights = np.ones(len(scores))
    else:
        weights = columns.finite("AUC", "weight", weight, len(scores)).astype(np.float64, copy=False)
        if n_bad := np.count_nonzero(weights < 0):
            raise DataError(f"AUC expects weights of at least 0; {n_bad} of {len(weights)} are negative.")
    up, down = np.where(positive, weights, 0.0), np.where(positive, 0.0, weights)
    return _ratio(_concordance(scores, up, down), float(up.sum()) * float(down.sum()))


def soft_auc(score: ArrayLike, probability: ArrayLike) -> float:
    """AUC against labels known as probabilities: expected concordant pairs / expected pairs; n log n.

    score: (n,) finite. probability: (n,) in [0, 1], the chance that a row is a positive. Row i is a
    positive with weight p_i and a negative with weight 1 - p_i; ties of the score count half; a row is
    never paired with itself.
    With independent labels this is E[concordant pairs] / E[pairs], and with p in {0, 1} it is `auc`.
    Returns NaN when no pair is expected (all p = 0, or all p = 1, or fewer than two rows).
    Raises DataError for non-finite scores, probabilities outside [0, 1], or columns of unequal length.
    """
    scores = columns.finite("soft AUC", "score", score)
    p = columns.share("soft AUC", "probability", probability, len(scores))
    if len(p) < 2:
        return NAN
    itself = float(p @ (1 - p))
    pairs = float(p.sum()) * float((1 - p).sum()) - itself
    return _ratio(_concordance(scores, p, 1 - p) - itself / 2, pairs)


def within_users(value: ArrayLike, user: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n,) values less the mean of their user's rows. value, user: (n,)."""
    values = np.asarray(value, np.float64)
    _, row, size = np.unique(user, return_inverse=True, return_counts=True)
    return np.asarray(values - (np.bincount(row, values) / size)[row])


def correlation_within_users(score: ArrayLike, rating: ArrayLike, user: NDArray[np.int64]) -> float:
    """Correlation of scores and ratings over all rows, both less their user's mean, in [-1, 1].

    score, rating, user: (n,). On exposures alone it asks who likes what among what they were shown, and not who is
    shown what: a score that follows exposure gets nothing for it. 0 where scores or ratings do not vary within any
    user; NaN for scores that are not finite.
    """
    if not np.isfinite(score).all():
        return NAN
    s, r = within_users(score, user), within_users(rating, user)
    size = float(s @ s) * float(r @ r)
    return float(s @ r) / np.sqrt(size) if size > 1e-30 else 0.0


def mse(prediction: ArrayLike, outcome: ArrayLike) -> float:
    """Mean squared error of (n,) predictions of (n,) outcomes; NaN on empty columns.

    Raises DataError for non-finite values or columns of unequal length.
    """
    predicted = columns.finite("MSE", "prediction", prediction).astype(np.float64, copy=False)
    truth = columns.finite("MSE", "outcome", outcome, len(predicted))
    return float(np.mean((predicted - truth) ** 2)) if len(predicted) else NAN


def logloss(probability: ArrayLike, label: ArrayLike, eps: float = 1e-7) -> float:
    """Mean cross-entropy in nats of (n,) predicted probabilities; NaN on empty columns.

    probability: in [0, 1], clipped to [eps, 1 - eps] so that one certain mistake costs -log(eps) and not
    infinity.
    label: 0 or 1, or a probability in between.
    Raises DataError for values outside [0, 1] or columns of unequal length, ParameterError for an eps
    outside (0, 0.5).
    """
    if not 0 < eps < 0.5:
        raise ParameterError(f"log loss: 'eps' must lie between 0 and 0.5; got {eps!r}.")
    predicted = columns.share("log loss", "probability", probability)
    truth = columns.share("log loss", "label", label, len(predicted))
    if not len(predicted):
        return NAN
    p = np.clip(predicted, eps, 1 - eps)
    return float(-np.mean(truth * np.log(p) + (1 - truth) * np.log1p(-p)))


def _concordance(score: NDArray[Any], up: NDArray[np.float64], down: NDArray[np.float64]) -> float:
    """Sum over i, j of up_i down_j (1 if score_i > score_j, 1/2 if equal), i = j included; 0 if empty."""
    if not len(score):
        return 0.0
    order = np.argsort(score)
    s = score[order]
    start = np.flatnonzero(np.concatenate([[True], s[1:] != s[:-1]]))
    group_up, group_down = np.add.reduceat(up[order], start), np.add.reduceat(down[order], start)
    below = np.cumsum(group_down) - group_down
    return float(group_up @ (below + group_down / 2))


def _ratio(concordant: float, pairs: float) -> float:
    # Rounding may leave the quotient of two large sums a hair outside [0, 1].
    return min(max(concordant / pairs, 0.0), 1.0) if pairs > 0 else NAN
