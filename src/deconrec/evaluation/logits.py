"""Probabilities of impressions from logits, so that none of them is lost at either end.

With a the logit of pCTR and b that of pCVR, pCTCVR is the product sigma(a) sigma(b), whose logit is
-log(e^-a + e^-b + e^-(a + b)).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, log_expit, logsumexp

Values = NDArray[np.float64]


def joint_logit(a: ArrayLike, b: ArrayLike) -> Values:
    """(n,) logit of sigma(a) sigma(b), finite for finite a and b."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return np.asarray(-logsumexp(np.stack([-a, -b, -(a + b)]), axis=0))


def joint(a: ArrayLike, b: ArrayLike) -> Values:
    """(n,) sigma(a) sigma(b), as the exponential of a sum of log-sigmoids."""
    return np.asarray(np.exp(log_expit(np.asarray(a, np.float64)) + log_expit(np.asarray(b, np.float64))))


def probability(a: ArrayLike) -> Values:
    """(n,) sigma(a)."""
    return np.asarray(expit(np.asarray(a, np.float64)))


def logloss_of_logits(logit: ArrayLike, label: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Weighted mean cross-entropy in nats of (n,) logits with (n,) labels in [0, 1]; NaN on empty columns."""
    z, y = np.asarray(logit, np.float64), np.asarray(label, np.float64)
    if not len(z):
        return float("nan")
    each = -(y * log_expit(z) + (1 - y) * log_expit(-z))
    return float(np.average(each, weights=None if weight is None else np.asarray(weight, np.float64)))
