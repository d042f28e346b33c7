"""Calibration: do predicted probabilities mean what they say?

Source. Naeini, Cooper and Hauskrecht, AAAI 2015 (expected calibration error).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deconrec.errors import ParameterError, UnknownName
from deconrec.evaluation import columns

BINNINGS = ("width", "mass")


@dataclass(frozen=True, eq=False)
class Reliability:
    """The reliability diagram's numbers, bin by bin from low to high probability.

    edges: (b + 1,) borders of the bins. prediction: (b,) mean predicted probability. outcome: (b,) mean
    outcome.
    count: (b,) rows. The means of an empty bin are NaN.
    """

    edges: NDArray[np.float64]
    prediction: NDArray[np.float64]
    outcome: NDArray[np.float64]
    count: NDArray[np.int64]

    @property
    def ece(self) -> float:
        """Expected calibration error: mean over rows of |mean prediction - mean outcome| of the row's bin."""
        total = self.count.sum()
        if not total:
            return float("nan")
        gap = np.abs(self.prediction - self.outcome)
        return float(np.sum(self.count * np.where(self.count > 0, gap, 0.0)) / total)


def reliability(
    probability: ArrayLike, label: ArrayLike, bins: int = 10, binning: str = "width"
) -> Reliability:
    """Mean prediction, mean outcome and count in each bin of predicted probability.

    probability: (n,) in [0, 1]. label: (n,), 0 or 1, or a probability in between. bins: at least 1.
    binning: "width" for bins of equal width over [0, 1], closed on the left (the last on both sides), or
    "mass" for borders at quantiles of the predictions. Equal predictions always share a bin, so "mass"
    gives fewer bins where many predictions are equal.
    Raises DataError for values outside [0, 1] or unequal lengths, ParameterError for fewer than one bin,
    UnknownName for another binning.
    """
    p = columns.share("calibration", "probability", probability)
    truth = columns.share("calibration", "label", label, len(p))
    if isinstance(bins, bool) or not isinstance(bins, int | np.integer) or bins < 1:
        raise ParameterError(f"calibration: 'bins' must be a whole number of at least 1; got {bins!r}.")
    if binning == "width":
        edges = np.linspace(0.0, 1.0, bins + 1)
        member = np.minimum((p * bins).astype(np.int64), bins - 1)
    elif binning == "mass":
        edges = np.unique(np.quantile(p, np.linspace(0, 1, bins + 1))) if len(p) else np.array([0.0, 1.0])
        if len(edges) == 1:
            edges = np.repeat(edges, 2)
        member = np.clip(np.searchsorted(edges, p, side="right") - 1, 0, len(edges) - 2)
    else:
        raise UnknownName("binning", binning, BINNINGS)
    n_bins = len(edges) - 1
    count = np.bincount(member, minlength=n_bins)
    sums = [np.bincount(member, weights=x, minlength=n_bins) for x in (p, truth)]
    with np.errstate(invalid="ignore"):  # 0 / 0 of an empty bin is NaN on purpose
        return Reliability(edges, sums[0] / count, sums[1] / count, count)


def ece(probability: ArrayLike, label: ArrayLike, bins: int = 10, binning: str = "width") -> float:
    """Expected calibration error in [0, 1]; NaN on empty columns; arguments and errors of `reliability`."""
    return reliability(probability, label, bins, binning).ece


def platt(score: np.ndarray, r: np.ndarray, rounds: int = 100) -> tuple[float, float]:
    """(slope > 0, shift) of the logistic regression of r in [0, 1] on a score.

    Outcomes are drawn in by one more row of each end [Platt1999], so that scores which separate the ends keep a finite
    slope. A slope that the data would have at 0 or below is set to 1e-3: outcomes then hardly differ, and
    ranks stay. Where all outcomes are one, it is 0.1 and their mean at most 0.99: ranks then survive single precision.
    """
    from scipy.special import expit, logit

    mean = float(np.clip(r.mean() if len(r) else 0.5, 1e-4, 1 - 1e-4))
    if len(r) < 2 or np.ptp(score) < 1e-12 or np.ptp(r) < 1e-12:
        centre = float(score.mean()) if len(score) else 0.0
        return 0.1, float(logit(np.clip(mean, 0.01, 0.99))) - 0.1 * centre
    high = float(r.sum())
    low = len(r) - high
    t = r * ((high + 1) / (high + 2)) + (1 - r) / (low + 2)
    centre, spread = float(score.mean()), float(score.std())
    x = (score.astype(np.float64) - centre) / spread

    def loss(a: float, b: float) -> float:
        l = a * x + b
        return float((np.logaddexp(0.0, l) - t * l).sum() + 0.5e-3 * a * a)

    a, b = 0.0, float(logit(mean))
    now = loss(a, b)
    for _ in range(rounds):  # Newton's method, halving steps that overshoot: scores may have long tails
        p = expit(a * x + b)
        w = np.maximum(p * (1 - p), 1e-9)
        g = np.array([((p - t) * x).sum() + 1e-3 * a, (p - t).sum()])
        h = np.array([[(w * x * x).sum() + 1e-3, (w * x).sum()], [(w * x).sum(), w.sum()]])
        step = np.linalg.solve(h, g)
        while (then := loss(a - step[0], b - step[1])) > now and np.abs(step).max() > 1e-10:
            step *= 0.5
        if np.abs(step).max() < 1e-10:
            break
        a, b, now = a - step[0], b - step[1], then
    if a / spread < 1e-3:
        return 1e-3, float(logit(mean)) - 1e-3 * centre
    return float(a / spread), float(b - a * centre / spread)
