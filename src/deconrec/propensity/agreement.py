"""How often outcomes occur, by two logs: the numbers that make a weighted biased log agree with a randomised one.

A hidden confounder that raises exposure and outcome alike makes exposure depend on the outcome itself, whatever is
known of user and item. On the scale of odds, with rho_r one number an outcome,

    logit p~ = logit p^ + rho_r,        rho_r = a r - c                                    (`tilt`)

This is the exponential tilt of selection models for outcomes missing not at random [Scharfstein1999]; what cannot be
learned from the biased log alone, a, is learned from the randomised one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from deconrec.pairs import Pairs

SPACE = 20_000, 200_000  # NOTE least and most pairs that stand for D
SETTLE = 3.0  # NOTE at the start 1 + SETTLE times the slack, falling as 1 / epoch
LARGEST_TILT = 20.0  # NOTE of a logit: beyond it an outcome is never, or always, exposed


@dataclass(frozen=True, eq=False)
class Evidence:
    """What two logs say of outcomes.

    Attributes
    ----------
    observed: all rows of the biased log.
    space: uniform pairs of D, the same throughout; 20 for a row of R, so that its error is a fraction of R's.
    outcomes: (m,) of the randomised log, in [0, 1].
    counts: (m,) sample weights of the randomised log, or None: all 1.
    turn: epochs, as they are asked for.
    """

    observed: Pairs
    space: Pairs
    outcomes: np.ndarray
    counts: np.ndarray | None = None
    turn: Iterator[int] = field(default_factory=count)

    def slack(self, slack: float) -> float:
        """The slack of the next epoch: an untrained prediction leaves its estimates to imperfect propensities alone."""
        return slack * (1 + SETTLE / (1 + next(self.turn)))


def target(estimate: float, outcomes: np.ndarray, slack: float, counts: np.ndarray | None = None) -> float:
    """The mean outcome to agree on: the randomised mean, drawn towards the estimate as far as chance explains the gap.

    estimate + gap max(0, 1 - (slack SE / gap)^2), the non-negative garrote [Breiman1995]: the estimate itself where the
    gap is at most `slack` standard errors, almost the randomised mean where it is many. SE is that of a share among two
    rows more, one of each outcome: a sample of few rows is never certain.

    Parameters
    ----------
    outcomes: (m,) of the randomised log, in [0, 1].
    slack: >= 0; 0 = the randomised mean.
    counts: (m,) sample weights, or None; the standard error is then that of Kish's effective number of rows.
    """
    mean, rows = float(outcomes.mean()), float(len(outcomes))
    total = float(outcomes.sum())
    if counts is not None:
        mean, rows = float(np.average(outcomes, weights=counts)), float(counts.sum() ** 2 / (counts**2).sum())
        total = mean * rows
    gap, n = mean - estimate, rows + 2
    share = (total + 1) / n
    chance = slack * math.sqrt(share * (1 - share) / n)
    return estimate if abs(gap) <= chance else estimate + gap * (1 - (chance / gap) ** 2)


def tilt(
    odds: np.ndarray,
    r: np.ndarray,
    r_hat: np.ndarray,
    level: float,
    mean: float,
    counts: np.ndarray | None = None,
) -> tuple[float, float]:
    """(rho_0, rho_1) for which the doubly robust mean outcome of the log is `mean` and the weights' sum is unchanged.

        sum_O 1 / p~ = sum_O 1 / p^                                   1 / p~ = 1 + odds exp(-rho_r)
        E_D[ r_hat ] + sum_O (r - r_hat) / p~ / sum_O 1 / p~ = mean

    Parameters
    ----------
    odds: (n,) 1 / p^ - 1 of the observed pairs, >= 0.
    r, r_hat: (n,) outcomes and predicted outcomes of the observed pairs, in [0, 1].
    level: E_D[ r_hat ].
    counts: (n,) sample weights of the observed pairs, or None: all 1.

    Where no tilt reaches `mean` (one outcome alone was observed), the largest one in its direction.
    """
    outcome, group = np.unique(r, return_inverse=True)
    k = np.ones(len(r)) if counts is None else counts
    count, spread = np.bincount(group, k), np.bincount(group, k * odds)
    rest, tilted = np.bincount(group, k * (r - r_hat)), np.bincount(group, k * odds * (r - r_hat))
    mass = float(count.sum() + spread.sum())
    if len(outcome) < 2 or not spread.sum() > 0:
        return 0.0, 0.0

    def normaliser(a: float) -> float:
        return math.log(spread.sum() / (spread * np.exp(-a * outcome)).sum())

    def gap(a: float) -> float:
        by_outcome = rest + np.exp(normaliser(a) - a * outcome) * tilted
        return level + float(by_outcome.sum()) / mass - mean

    low, high = gap(-LARGEST_TILT), gap(LARGEST_TILT)
    if low * high < 0:
        a = float(brentq(gap, -LARGEST_TILT, LARGEST_TILT, xtol=1e-8))
    else:
        a = -LARGEST_TILT if abs(low) < abs(high) else LARGEST_TILT
    c = normaliser(a)
    return -c, a - c


def shift(logit: np.ndarray, mean: float) -> float:
    """Eta for which the mean of sigma(logit + eta) is `mean`, in (0, 1); at most LARGEST_TILT in size."""

    def gap(eta: float) -> float:
        return float(expit(logit + eta).mean()) - mean

    if gap(-LARGEST_TILT) >= 0:
        return -LARGEST_TILT
    if gap(LARGEST_TILT) <= 0:
        return LARGEST_TILT
    return float(brentq(gap, -LARGEST_TILT, LARGEST_TILT, xtol=1e-6))
