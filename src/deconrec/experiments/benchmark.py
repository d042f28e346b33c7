"""How strong measured features are, on the scale of hidden ones: the odds ratio of leaving one out.

The odds of exposure are modelled by logistic regression on the features of users and items: main effects, and products
of a user's and an item's features where they are few. For every feature the model is fitted again without it; Gamma is
the 95 % quantile, over logged rows, of

    exp | logit p(with) - logit p(without) |,

by how much the odds of all but the most affected rows would have been wrong, had the feature not been measured. An
item's popularity and a user's activity in the log are compared in the same way, in a model with both of them beside the
features; they are no part of the features' own model, because they are counts of what it explains, and would stand in
for any feature that is left out.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from deconrec.data.dataset import Features, Log
from deconrec.experiments.population import Population
from deconrec.experiments.results import Benchmark
from deconrec.experiments.weights import sample_of

QUANTILE = 0.95
PRODUCTS = 64  # most products of a user's and an item's features
SPACE = 60_000  # NOTE pairs that stand for the population
ROWS = 30_000  # NOTE logged rows that are looked at
RIDGE = 1.0
ITEM, USER = "the item's popularity", "the user's activity"


def benchmarks(population: Population, seed: int = 0) -> list[Benchmark]:
    """Every measured feature, the strongest first."""
    data, rows = population.data, population.rows
    space = sample_of(population, SPACE, seed)
    looked = rows
    if len(rows) > ROWS:
        looked = rows.take(np.random.default_rng(seed).choice(len(rows), ROWS, replace=False))
    users, items = _columns(data.user_features), _columns(data.item_features)
    activity = np.log1p(np.bincount(rows.user, minlength=data.n_users))
    popularity = np.log1p(np.bincount(rows.item, minlength=data.n_items))
    products = len(users) and len(items) and _width(users) * _width(items) <= PRODUCTS

    counts = {name: (x - x.mean()) / max(x.std(), 1e-9) for name, x in ((ITEM, popularity), (USER, activity))}

    def design(log: Log, without: str, counted: bool) -> np.ndarray:
        u = [x[log.user] for name, x in users.items() if f"user feature {name}" != without]
        i = [x[log.item] for name, x in items.items() if f"item feature {name}" != without]
        parts = [np.ones((len(log), 1)), *u, *i]
        if products and u and i:
            left, right = np.concatenate(u, 1), np.concatenate(i, 1)
            parts.append((left[:, :, None] * right[:, None, :]).reshape(len(log), -1))
        for name, code in ((ITEM, log.item), (USER, log.user)):
            if counted and name != without:
                parts.append(counts[name][code][:, None])
        return np.concatenate(parts, 1)

    def logit(without: str, counted: bool) -> np.ndarray:
        observed, everywhere = (design(log, without, counted) for log in (rows, space))
        beta = _fit(observed, everywhere, float(population.size.sum()))
        return np.asarray(design(looked, without, counted) @ beta)

    found = []
    for names, counted in (
        ([*(f"user feature {n}" for n in users), *(f"item feature {n}" for n in items)], False),
        ([ITEM, USER], True),
    ):
        whole = logit("", counted) if names else np.empty(0)
        for name in names:
            ratio = np.exp(np.abs(whole - logit(name, counted)))
            found.append(
                Benchmark(
                    feature=name, median=float(np.median(ratio)), gamma=float(np.quantile(ratio, QUANTILE))
                )
            )
    return sorted(found, key=lambda b: -b.gamma)


def _columns(features: Features | None) -> dict[str, np.ndarray]:
    """Standardised columns by feature; the columns of a category ("plan=free") are one feature."""
    out: dict[str, list[np.ndarray]] = {}
    if features is None:
        return {}
    for name, x in zip(features.names, features.values.T.astype(np.float64), strict=True):
        if x.std() > 1e-9:
            out.setdefault(name.partition("=")[0], []).append((x - x.mean()) / x.std())
    return {name: np.stack(columns, 1) for name, columns in out.items()}


def _width(columns: dict[str, np.ndarray]) -> int:
    return sum(x.shape[1] for x in columns.values())


def _fit(observed: np.ndarray, space: np.ndarray, pairs: float) -> np.ndarray:
    """Coefficients of sum_O eta - sum_S log(1 + exp eta) less a ridge on all but the constant, by Newton's method."""
    share = pairs / len(space)
    ridge = np.full(observed.shape[1], RIDGE)
    ridge[0] = 1e-9
    beta = np.zeros(observed.shape[1])
    beta[0] = np.log(len(observed) / max(pairs - len(observed), 1.0))
    target = observed.sum(0)
    for _ in range(40):
        p = expit(space @ beta)
        slope = target - share * (space.T @ p) - ridge * beta
        step = np.linalg.solve(share * (space.T * (p * (1 - p))) @ space + np.diag(ridge), slope)
        beta = beta + np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-6:
            break
    return beta
