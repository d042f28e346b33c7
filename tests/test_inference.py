"""What is printed as a 95 % interval covers, and what is printed as a test at 5 % rejects, as often as it says.

Each row of the table is drawn 1,000 times (4,000 where a draw is quick) from a process whose truth is known: coverage
must lie within two points of 95 %, and the size of a test within one and a half of 5 %. Both bounds were set before a
run. What is built on these rows needs none of its own: `value`, the worlds and verdicts of `reproduce` and the letters
of a table print intervals and tests of `evaluation.statistics`; those of `evaluate` and of served logs have their own
(tests/evaluation/test_offpolicy.py, tests/serving/test_loop.py), and so have those of `grounded-gp`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import deconrec as dc
from deconrec.data.dataset import Log
from deconrec.diagnostics.confounding import confounding, exposure_model
from deconrec.diagnostics.impressions.confounding import ClickModel
from deconrec.diagnostics.impressions.confounding import confounding as of_clicks
from deconrec.diagnostics.impressions.rates import rate
from deconrec.evaluation import statistics
from deconrec.evaluation.bounds import Sorted
from deconrec.experiments.judge import Outcome, Unit, lifts
from deconrec.experiments.results import Run

Drawn = tuple[
    bool | float | None, bool | None
]  # whether (or how often) the truth was covered; whether it was rejected
Row = Callable[[np.random.Generator], Drawn]
TIMES = 1000
QUICK = 4000


def over_seeds(rng: np.random.Generator) -> Drawn:
    """A metric over 10 seeds."""
    found = statistics.t_interval(rng.normal(0.7, 0.1, 10))
    return found.low <= 0.7 <= found.high, None


def over_worlds(rng: np.random.Generator) -> Drawn:
    """Two methods on 10 fresh worlds, which move both."""
    world = rng.normal(0, 1, 10)
    found = statistics.paired_t(world + rng.normal(0, 0.3, 10), world + rng.normal(0, 0.2, 10), "world")
    return found.low <= 0 <= found.high, found.p < 0.05


def over_splits(rng: np.random.Generator) -> Drawn:
    """Two methods on 10 splits of one data set, correlated as the correction assumes: by the share of the test."""
    ratio = 0.2 / 0.8
    variance = ratio / (1 + ratio)  # of what the splits share, in all
    d = rng.normal(0, math.sqrt(variance)) + rng.normal(0, math.sqrt(1 - variance), 10)
    found = statistics.corrected_resampled_t(d, np.zeros(10), ratio)
    return found.low <= 0 <= found.high, found.p < 0.05


def _skewed(rng: np.random.Generator, n_users: int, seeds: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Values like NDCG's, many near 0, with the mean 0.3 in truth; a user's level is shared by its seeds."""
    level = rng.beta(0.6, 1.4, n_users)
    values = (rng.beta(8 * level + 1e-3, 8 * (1 - level) + 1e-3) for _ in range(seeds))
    return [(np.arange(n_users), v) for v in values]


def of_users(rng: np.random.Generator) -> Drawn:
    """A metric per user of 100 users and 3 seeds: the bootstrap over users."""
    found = statistics.bootstrap_users_interval(_skewed(rng, 100, 3), 1000, seed=int(rng.integers(2**31)))
    return found.low <= 0.3 <= found.high, None


def between_users(rng: np.random.Generator) -> Drawn:
    """Two methods as good as each other on the same 100 users: the paired bootstrap over users."""
    level = rng.normal(0.5, 0.2, 100)
    a, b = ([(np.arange(100), level + rng.normal(0, s, 100)) for _ in range(3)] for s in (0.1, 0.2))
    found = statistics.paired_bootstrap_users(a, b, 1000, seed=int(rng.integers(2**31)))
    return found.low <= 0 <= found.high, found.p <= 0.05


def family(rng: np.random.Generator) -> Drawn:
    """Four methods that are alike, all six pairs after Holm's correction: a wrong word anywhere."""
    values = rng.normal(0, 1, (4, 12))
    pairs = [statistics.paired_t(values[i], values[j]).p for i in range(4) for j in range(i)]
    return None, bool(min(statistics.holm(pairs)) < 0.05)


def lift(rng: np.random.Generator) -> Drawn:
    """How many times a yardstick's NDCG a method has, over 10 seeds; the truth is 1.5."""
    outcomes = {
        (name, seed): Outcome(
            Run(
                method=name, seed=seed, metrics={"ndcg@5/shown": value}, seconds=0, unbiased_rows=0, params={}
            ),
            {},
        )
        for seed in range(10)
        for name, value in zip(
            ("a", "popularity"), 0.2 * np.exp(rng.normal((math.log(1.5), 0), 0.2)), strict=True
        )
    }
    unit = Unit("world", 0.0)
    (found,) = lifts(outcomes, ("a", "popularity"), ("popularity",), range(10), ("ndcg@5/shown",), unit)
    assert found.low is not None
    assert found.high is not None
    return found.low <= 1.5 <= found.high, None


POPULATION = np.random.default_rng(5)
USERS, ITEMS = 3000, 12
CELLS = POPULATION.random((USERS, ITEMS)) + POPULATION.normal(0, 0.2, (USERS, 1))
WEIGHTS = 1 + 4 * POPULATION.random((USERS, ITEMS))
GAMMA = 1.5
_every = np.repeat(np.arange(USERS), ITEMS)
ENDS = Sorted.of(CELLS.ravel(), WEIGHTS.ravel(), _every, USERS).bounds(GAMMA)


def bound(rng: np.random.Generator) -> Drawn:
    """The lower bound of a metric at an odds ratio of 1.5, from 150 users of many."""
    chosen = rng.choice(USERS, 150)
    user = np.repeat(np.arange(150), ITEMS)
    found = Sorted.of(CELLS[chosen].ravel(), WEIGHTS[chosen].ravel(), user, 150).bound(GAMMA, least=True)
    low, high = found.interval()
    return low <= ENDS[0] <= high, None


def click_rate(rng: np.random.Generator) -> Drawn:
    """The click-through rate of 60 users and 40 items that differ: rows of one user or item go together."""
    user, item = (x.ravel() for x in np.indices((60, 40)))
    shown = rng.random(len(user)) < 0.4
    user, item = user[shown].astype(np.int32), item[shown].astype(np.int32)
    level = -2 + rng.normal(0, 0.5, 60)[user] + rng.normal(0, 0.4, 40)[item]
    y = (rng.random(len(user)) < 1 / (1 + np.exp(-level))).astype(np.float64)
    found = rate(Log(user, item, y.astype(np.float32)), y, np.ones(len(y)))
    return found.low <= RATE <= found.high, None


_draws = np.random.default_rng(6).normal(-2, math.hypot(0.5, 0.4), 2_000_000)
RATE = float((1 / (1 + np.exp(-_draws))).mean())

FAST = (over_seeds, over_worlds, over_splits, of_users, between_users, family, lift, bound, click_rate)


def hidden_confounding(rng: np.random.Generator) -> Drawn:
    """`diagnose`'s test on a world without hidden confounding."""
    seed = int(rng.integers(2**31))
    sizes: dict[str, Any] = {"n_users": 300, "n_items": 80, "exposure_rate": 0.1, "unbiased_share": 0.1}
    data, _ = dc.simulate.pairs(confounding=0.0, seed=seed, **sizes)
    found = confounding(data, exposure_model(data, seed), seed)
    return None, bool(found.found)


def confounded_clicks(rng: np.random.Generator) -> Drawn:
    """`diagnose`'s test on an impression log without hidden confounding, whose context moves both."""
    seed = int(rng.integers(2**31))
    sizes: dict[str, Any] = {"n_impressions": 3000, "n_users": 150, "n_items": 50, "click_rate": 0.3}
    data, _ = dc.simulate.impressions(
        confounding=0.0, context_overlap=0.8, unbiased_share=0.2, seed=seed, **sizes
    )
    p = of_clicks(data, ClickModel(data), seed).p
    assert p is not None
    return None, p < 0.05


def own_effects(rng: np.random.Generator) -> Drawn:
    """`effects` of exposing an item on its own outcome, adjusted: 12 intervals of a bootstrap in each world."""
    seed = int(rng.integers(2**31))
    data, truth = dc.simulate.effects(n_users=300, n_items=12, n_confounders=1, seed=seed)
    found = dc.effects.estimate(data, truth.rating, dims=(1,), bootstrap=50, seed=seed)
    assert found.low is not None
    assert found.high is not None
    true = np.diag(truth.extra["effects"])
    return float(np.mean((np.diag(found.low) <= true) & (true <= np.diag(found.high)))), None


HEAVY = (hidden_confounding, confounded_clicks, own_effects)


def drawn(row: Row, times: int) -> Iterator[Drawn]:
    for seed in range(times):
        yield row(np.random.default_rng([seed, 1]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("row", "times"),
    [*((f, QUICK) for f in FAST), *((f, TIMES) for f in HEAVY)],
    ids=[f.__name__ for f in (*FAST, *HEAVY)],
)
def test_coverage_and_size(row: Row, times: int, record_property: Any) -> None:
    covered, rejected = zip(*drawn(row, times), strict=True)
    found = {}
    if covered[0] is not None:
        found["coverage"] = float(np.mean(covered))
    if rejected[0] is not None:
        found["size"] = float(np.mean(rejected))
    print(row.__name__, found)
    for name, value in found.items():
        record_property(name, value)
    assert abs(found.get("coverage", 0.95) - 0.95) <= 0.02
    assert abs(found.get("size", 0.05) - 0.05) <= 0.015
