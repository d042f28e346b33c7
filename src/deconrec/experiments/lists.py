"""Which items stay in a list however a hidden confounder moves the odds of exposure within Gamma.

Items' own list: by weighted mean outcome, shrunk with SHRINK rows of the overall mean; the rows of two items are
different, so that their bounds are attained together and "stays" is exact. Users' lists: by a model's expected outcome
of every pair, taken as that of pairs like it that are exposed; every pair's own confounder may then move it, which is
the widest that is possible.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deconrec.base import SHRINK, Estimator, Propensity
from deconrec.data.dataset import Log
from deconrec.errors import DataError
from deconrec.evaluation import bounds
from deconrec.experiments.population import Population
from deconrec.experiments.results import BoundedItem

FINE = np.exp(np.linspace(0, np.log(16), 57))  # of items: steps of 5 %
LEAST_ROWS = 10  # NOTE rows of an item that a mean is taken of
LISTS = 500  # NOTE users whose own lists are looked at


def first_items(
    population: Population, weight: np.ndarray, grid: Sequence[float], k: int
) -> list[BoundedItem]:
    """The first k items by weighted mean outcome, shrunk towards the overall mean, and how long each stays."""
    data, rows = population.data, population.rows
    count = np.bincount(rows.item, minlength=data.n_items)
    y, scale = population.outcome, data.outcome_scale
    # Outcomes of one kind alone would bound a mean by itself: a few rows of the overall mean stand beside every item's.
    level = (float(weight @ y / weight.sum()) - scale.low) / (scale.high - scale.low)
    typical = np.bincount(rows.item, weight, data.n_items) / np.maximum(count, 1)
    added = np.arange(data.n_items)[count > 0]
    group = np.concatenate([rows.item, added, added])
    values = np.concatenate([y, np.full(len(added), scale.high), np.full(len(added), scale.low)])
    weights = np.concatenate([weight, typical[added], typical[added]])
    share = np.repeat([1.0, SHRINK * level, SHRINK * (1 - level)], [len(y), len(added), len(added)])

    def ends(gamma: float) -> tuple[np.ndarray, np.ndarray]:
        found = bounds.group_bounds(group, values, weights, data.n_items, gamma, share)
        low, high = (np.where(count >= LEAST_ROWS, x, np.nan) for x in found)
        return low, high

    mean, _ = ends(1.0)
    there = np.flatnonzero(np.isfinite(mean))
    if not len(there):
        return []
    chosen = there[np.argsort(-mean[there], kind="stable")][:k]
    shown = [ends(g) for g in grid]
    stays = np.array([bounds.surely_first(*ends(g), chosen, k) for g in FINE])
    last = np.where(stays.all(0), len(FINE), np.argmin(stays, axis=0)) - 1
    return [
        BoundedItem(
            item=str(name),
            rank=at + 1,
            rows=int(count[i]),
            mean=float(mean[i]),
            low=[float(low[i]) for low, _ in shown],
            high=[float(high[i]) for _, high in shown],
            stays_to=float(FINE[last[at]]) if last[at] >= 0 else None,
        )
        for at, (i, name) in enumerate(zip(chosen, data.items.decode(chosen), strict=True))
    ]


def own_lists(
    model: Estimator, population: Population, propensity: Propensity, grid: Sequence[float], k: int, seed: int
) -> list[float]:
    """Share of places of users' own lists that stay whatever odds within Gamma; [] where the outcome is not binary.

    The propensity of a pair that was not logged may be unknown: 0 is then taken, with which bounds are widest.
    """
    data = population.data
    if not data.outcome_scale.binary:
        return []
    rng = np.random.default_rng(seed)
    users = np.sort(rng.choice(data.n_users, min(LISTS, data.n_users), replace=False))
    scores = np.clip(model.score(data.users.decode(users), unknown="fallback").astype(np.float64), 0, 1)
    inside = population.excluded[users].toarray() == 0
    p = _everywhere(propensity, population, users)
    out = []
    for gamma in grid:
        low, high = bounds.outcome_bounds(scores, p, gamma)
        low[~inside] = high[~inside] = np.nan
        stays, places = 0, 0
        for row in range(len(users)):
            own = np.flatnonzero(inside[row])
            chosen = own[np.argsort(-scores[row, own], kind="stable")][:k]
            stays += int(bounds.surely_first(low[row], high[row], chosen, k).sum())
            places += len(chosen)
        out.append(stays / max(places, 1))
    return out


def _everywhere(propensity: Propensity, population: Population, users: np.ndarray) -> np.ndarray:
    """(B, n_items) propensities of these users' pairs; 0 where the propensity knows logged rows only."""
    from deconrec.training.features import feature_tables
    from deconrec.training.samplers import log_pairs

    n_items = population.data.n_items
    every = Log(
        np.repeat(users, n_items), np.tile(np.arange(n_items), len(users)), np.zeros(len(users) * n_items)
    )
    try:
        p = propensity(log_pairs(population.data, every, feature_tables(population.data)))
    except DataError:
        return np.zeros((len(users), n_items))
    return np.asarray(p.numpy().astype(np.float64).reshape(len(users), n_items))
