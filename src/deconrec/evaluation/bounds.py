"""How far estimates may be off if propensities miss a hidden confounder: exact bounds over the box of weights.

Marginal sensitivity model [Tan2006]: hidden confounding may move the odds of exposure of every row by a factor in
[1/Gamma, Gamma] around those of the nominal propensity, so that its true weight lies in

    [a, b] = [ 1 + (w - 1) / Gamma,  1 + (w - 1) Gamma ],     w = 1 / p.

A self-normalised mean is then bounded by a linear-fractional programme,

    max sum v y / sum v   over   v in the box,

whose optimum is a threshold rule [Zhao2019]: the rows with the largest y get b, the others a. All thresholds are tried
on sorted y: n log n, and exact. Gamma = 1 gives the estimate itself; a larger Gamma contains a smaller one. A
difference of two models over the same rows is such a mean too, of y_A - y_B: both get the same weights. Intervals of
bounds are linearised over users as in `offpolicy`; [Zhao2019] resample, which comes to the same.

What the box does not know. Within it weights need not agree with the exposures of any model of them; bounds that also
balance covariates would be narrower [Dorn2023]. These hold without.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deconrec.errors import ParameterError
from deconrec.evaluation import offpolicy

LARGEST = 1000.0  # Gamma beyond which no tipping point is looked for
STEPS = 30  # of bisection of log Gamma: far below any digit that is shown


def check_gamma(gamma: float) -> None:
    """Refuse an odds ratio below 1, or one that is no number.

    Raises
    ------
    ParameterError.
    """
    if not (np.isfinite(gamma) and gamma >= 1):
        raise ParameterError(
            f"'gamma', the odds ratio of hidden confounding, must be a finite number of at least 1; got {gamma!r}."
        )


def weight_box(weight: np.ndarray, gamma: float) -> tuple[np.ndarray, np.ndarray]:
    """(a, b), each (n,), smallest and largest true weight of nominal weights (n,) >= 1; both the weight at Gamma 1."""
    return weight + (weight - 1) * (1 / gamma - 1), weight + (weight - 1) * (gamma - 1)


@dataclass(frozen=True, eq=False)
class Bound:
    """One end of the box: its value, and what each user adds to its error where the worst weights are taken as given.

    A bound is an optimum over weights, so that its derivative is that of the mean at the optimal ones (the envelope
    theorem): at Gamma 1 the interval is that of the SNIPS estimate.
    """

    value: float
    z: np.ndarray

    def interval(self) -> tuple[float, float]:
        """Its 95 % interval over users."""
        return offpolicy.interval(self.value, self.z)


@dataclass(frozen=True, eq=False)
class Sorted:
    """Rows of a self-normalised mean, sum v f y / sum v f, smallest y first.

    Attributes
    ----------
    y, weight, share: (n,) values, nominal weights and f >= 0, what a row counts for (its gain in a list).
    user: (n,) whose row it is, in [0, n_users).
    """

    y: np.ndarray
    weight: np.ndarray
    share: np.ndarray
    user: np.ndarray
    n_users: int

    @classmethod
    def of(
        cls,
        y: np.ndarray,
        weight: np.ndarray,
        user: np.ndarray,
        n_users: int,
        share: np.ndarray | None = None,
    ) -> Sorted:
        """Sort rows given in any order; those that count for nothing are dropped."""
        f = np.ones(len(y)) if share is None else np.asarray(share, np.float64)
        order = np.argsort(y, kind="stable")
        order = order[f[order] > 0]
        return cls(np.asarray(y, np.float64)[order], weight[order], f[order], user[order], n_users)

    def bound(self, gamma: float, *, least: bool) -> Bound:
        """The least or the largest mean over the box; NaN without rows."""
        if not len(self.y):
            return Bound(float("nan"), np.zeros(self.n_users))
        a, b = weight_box(self.weight, gamma)
        first, rest = (b, a) if least else (a, b)  # of the rows with the smallest y
        up, down = first * self.share, rest * self.share
        above = np.concatenate([[0.0], np.cumsum((up - down) * self.y)]) + float(down @ self.y)
        below = np.concatenate([[0.0], np.cumsum(up - down)]) + float(down.sum())
        means = above / below
        k = int(means.argmin() if least else means.argmax())
        v = np.where(np.arange(len(self.y)) < k, up, down)
        value = float(v @ self.y / v.sum())
        return Bound(value, np.bincount(self.user, v * (self.y - value) / v.sum(), self.n_users))

    def bounds(self, gamma: float) -> tuple[float, float]:
        """(least, largest) mean over the box."""
        return self.bound(gamma, least=True).value, self.bound(gamma, least=False).value

    @property
    def mean(self) -> float:
        """The mean with nominal weights."""
        return self.bound(1.0, least=True).value


def tipping_point(difference: Sorted, *, chance: bool = False) -> float:
    """Smallest Gamma at which a difference above 0 may be 0; inf beyond `LARGEST`, 1 where it is none at Gamma 1.

    chance: where the lower end of the 95 % interval of the lower bound is 0, instead of the bound itself.
    """

    def low(log_gamma: float) -> float:
        found = difference.bound(float(np.exp(log_gamma)), least=True)
        return found.interval()[0] if chance else found.value

    if not low(0.0) > 0:
        return 1.0
    if low(np.log(LARGEST)) > 0:
        return float("inf")
    left, right = 0.0, float(np.log(LARGEST))
    for _ in range(STEPS):
        middle = (left + right) / 2
        left, right = (middle, right) if low(middle) > 0 else (left, middle)
    return float(np.exp(right))


def group_bounds(
    group: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray,
    n_groups: int,
    gamma: float,
    share: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """(n_groups,) least and largest self-normalised mean of every group's rows (an item's); NaN for one without rows.

    group: (n,) in [0, n_groups). share: (n,) what a row counts for; None = 1. Rows of different groups are different:
    their bounds are attained together.
    """
    order = np.lexsort((y, group))
    g, value = group[order], np.asarray(y, np.float64)[order]
    a, b = weight_box(weight[order], gamma)
    if share is not None:
        a, b = a * share[order], b * share[order]
    count = np.bincount(g, minlength=n_groups)
    there = np.flatnonzero(count)
    first = (np.cumsum(count) - count)[there]

    def extreme(up: np.ndarray, down: np.ndarray, fold: np.ufunc) -> np.ndarray:
        """`up` for the rows with the smallest y: over all thresholds within a group."""

        def within(x: np.ndarray) -> np.ndarray:
            whole = np.cumsum(x)
            return np.asarray(whole - np.repeat(whole[first] - x[first], count[there]))

        base, mass = np.bincount(g, down * value, n_groups), np.bincount(g, down, n_groups)
        mean = (within((up - down) * value) + base[g]) / (within(up - down) + mass[g])
        out = np.full(n_groups, np.nan)
        if len(g):
            out[there] = fold(fold.reduceat(mean, first), base[there] / mass[there])
        return out

    return extreme(b, a, np.minimum), extreme(a, b, np.maximum)


def outcome_bounds(mean: np.ndarray, p: np.ndarray, gamma: float) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of a pair's chance of outcome 1, from its chance where it is exposed; element by element.

    With P(r | o = 1) / P(r | o = 0) = odds(o | r) / odds(o) in [1/Gamma, Gamma] for both outcomes,

        P(r = 1) = p mu + (1 - p) mu_0,
        mu_0 in [ max(mu / Gamma, 1 - (1 - mu) Gamma), min(mu Gamma, 1 - (1 - mu) / Gamma) ].

    mean: mu = P(r = 1 | o = 1) in [0, 1].  p: propensity in [0, 1].
    """
    low = np.maximum(mean / gamma, 1 - (1 - mean) * gamma)
    high = np.minimum(mean * gamma, 1 - (1 - mean) / gamma)
    return p * mean + (1 - p) * low, p * mean + (1 - p) * high


def surely_first(low: np.ndarray, high: np.ndarray, chosen: np.ndarray, k: int) -> np.ndarray:
    """(len(chosen),) bool: which of the chosen stay among the first k wherever the values lie in [low, high].

    One stays exactly if fewer than k others can pass it: their upper end exceeds its lower end. NaN: no rival.
    """
    ends = np.sort(high[np.isfinite(high)])
    above = len(ends) - np.searchsorted(ends, low[chosen], side="right")
    itself = high[chosen] > low[chosen]
    return np.asarray(above - itself < k)
