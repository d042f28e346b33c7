"""Off-policy estimators written from their formulas, one row, one user and one pair of rows at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np


def gain_of(scores: Sequence[float], item: int, kind: str, k: int) -> float:
    """Expected gain of one candidate: the mean over every order of the candidates that agrees with the scores."""
    orders = [
        order
        for order in itertools.permutations(range(len(scores)))
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
    ]
    total = 0.0
    for order in orders:
        rank = order.index(item) + 1
        if rank <= k:
            total += 1.0 if kind == "hit" else 1 / math.log2(rank + 1)
    return total / len(orders)


def ips(rounds: Sequence[tuple[float, float, float]]) -> float:
    """Open Bandit Pipeline's IPW, E_n[ w r ] with w = pi_e / pi_b; rounds of (pi_e, pi_b, reward)."""
    total = 0.0
    for evaluated, logged, reward in rounds:
        total += evaluated / logged * reward
    return total / len(rounds)


def snips(rounds: Sequence[tuple[float, float, float]]) -> float:
    """Its self-normalised IPW, E_n[ w r ] / E_n[ w ]."""
    above, below = 0.0, 0.0
    for evaluated, logged, reward in rounds:
        above += evaluated / logged * reward
        below += evaluated / logged
    return above / below


def dr(
    rounds: Sequence[tuple[float, float, float]],
    guessed: Sequence[float],
    policy: Sequence[Sequence[float]],
    guesses: Sequence[Sequence[float]],
) -> float:
    """Its doubly robust estimator, E_n[ sum_a pi_e(a|x) q(x, a) + w (r - q(x, a_i)) ].

    guessed: q of the logged action. policy, guesses: pi_e and q of every action of each round.
    """
    total = 0.0
    for (evaluated, logged, reward), q, row, every in zip(rounds, guessed, policy, guesses, strict=True):
        baseline = 0.0
        for p, value in zip(row, every, strict=True):
            baseline += p * value
        total += baseline + evaluated / logged * (reward - q)
    return total / len(rounds)


def auc(score: Sequence[float], r: Sequence[float], weight: Sequence[float]) -> float:
    """Weighted share of (positive, negative) rows in the right order."""
    above, below = 0.0, 0.0
    for i, j in itertools.product(range(len(score)), repeat=2):
        if i == j:
            continue
        mass = weight[i] * r[i] * weight[j] * (1 - r[j])
        above += mass * (1.0 if score[i] > score[j] else 0.5 if score[i] == score[j] else 0.0)
        below += mass
    return above / below


def auc_of_masses(score: Sequence[float], mass: Sequence[float]) -> float:
    """The same where row i is a positive with `mass` and a negative with the rest, never against itself."""
    above, below = 0.0, 0.0
    for i, j in itertools.product(range(len(score)), repeat=2):
        if i == j:
            continue
        both = mass[i] * (1 - mass[j])
        above += both * (1.0 if score[i] > score[j] else 0.5 if score[i] == score[j] else 0.0)
        below += both
    return above / below


def expected_best(best: Sequence[float], mean: float, variance: float, draws: int = 400_000) -> float:
    """E best[min(n, K)] by drawing: n Poisson with a gamma mean."""
    rng = np.random.default_rng(0)
    level = np.full(draws, mean)
    if variance > mean:
        scale = (variance - mean) / mean
        level = rng.gamma(mean / scale, scale, draws)
    n = rng.poisson(level)
    return float(np.asarray(best)[np.minimum(n, len(best) - 1)].mean())


def hajek_bounds(y: Sequence[float], low: Sequence[float], high: Sequence[float]) -> tuple[float, float]:
    """Least and largest sum w y / sum w over the box of weights, by trying every corner of it."""
    values = []
    for corner in itertools.product((False, True), repeat=len(y)):
        w = [h if up else a for a, h, up in zip(low, high, corner, strict=True)]
        values.append(sum(a * b for a, b in zip(w, y, strict=True)) / sum(w))
    return min(values), max(values)


def quantile_bound(y: Sequence[float], w: Sequence[float], gamma: float) -> float:
    """Largest sum v y / sum v of the marginal sensitivity model, by trying every threshold on y (Zhao et al. 2019)."""
    best = -math.inf
    for threshold in [-math.inf, *y]:
        v = [1 + (x - 1) * (gamma if value > threshold else 1 / gamma) for value, x in zip(y, w, strict=True)]
        best = max(best, sum(a * b for a, b in zip(v, y, strict=True)) / sum(v))
    return best


def selection_bias_adjusted(
    y: Sequence[float], treatment: Sequence[int], p: Sequence[float], alpha: float
) -> list[float]:
    """Outcomes less a one-sided confounding function, as causalml's SensitivitySelectionBias subtracts it.

    Blackwell, Political Analysis 2014: alpha (1 - p) from the treated, -alpha p from the others; alpha is
    E[Y(1) | T = 1] - E[Y(1) | T = 0].
    """
    out = []
    for value, t, chance in zip(y, treatment, p, strict=True):
        out.append(value - (alpha * (1 - chance) * t - alpha * chance * (1 - t)))
    return out
