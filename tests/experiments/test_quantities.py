"""What is measured of a world, each quantity against a slow twin that follows its definition, and its limits."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from fractions import Fraction

import numpy as np
import polars as pl
import pytest

import deconrec as dc
from deconrec.data.dataset import Dataset, Log, Truth
from deconrec.data.ids import Vocabulary
from deconrec.experiments.quantities import (
    CURVES,
    POINTS,
    QUANTITIES,
    curves,
    divergence,
    popularity,
    quantities,
    random_counts,
)


def world(n_users: int = 40, n_items: int = 30, seed: int = 0, **options) -> tuple[Dataset, Truth]:
    sizes = {"n_factors": 8, "n_features": 2, "exposure_rate": 0.1} | options
    return dc.simulate.deep_deconf(n_users=n_users, n_items=n_items, seed=seed, **sizes)


def shown_to(data: Dataset, exposed: np.ndarray, rating: np.ndarray) -> Dataset:
    """The data set with other exposures (users, items)."""
    user, item = np.nonzero(exposed)
    return data.with_logs(Log(user, item, rating[user, item]))


# ------------------------------------------------------------------ twins: slow, by the definitions
def kl(p: Counter, q: Counter) -> float:
    return sum(
        n / p.total() * math.log(Fraction(n, p.total()) / Fraction(q[r], q.total())) for r, n in p.items()
    )


def twin(data: Dataset, truth: Truth) -> dict[str, float]:
    log = list(
        zip(data.biased.user.tolist(), data.biased.item.tolist(), data.biased.rating.tolist(), strict=True)
    )
    users, items = range(data.n_users), range(data.n_items)
    of_user = [[r for u, _, r in log if u == user] for user in users]
    counts = [len(ratings) for ratings in of_user]
    mean = sum(counts) / len(users)
    seen, everything = Counter(r for _, _, r in log), Counter(truth.rating.ravel().tolist())
    shown = sorted(sum(1 for _, i, _ in log if i == item) for item in items)
    average = sum(shown) / len(items)
    moment = {k: sum((s - average) ** k for s in shown) / len(items) for k in (2, 3)}
    top = math.ceil(len(items) / 10)
    return {
        "users": len(users),
        "items": len(items),
        "density": 100 * len(log) / (len(users) * len(items)),
        "exposures/mean": mean,
        "exposures/std": math.sqrt(sum((n - mean) ** 2 for n in counts) / len(users)),
        **{f"observed/{r}": seen[r] / seen.total() for r in range(1, 6)},
        **{f"population/{r}": everything[r] / everything.total() for r in range(1, 6)},
        "shift": sum(abs(seen[r] / seen.total() - everything[r] / everything.total()) for r in range(1, 6))
        / 2,
        "kl": np.mean(
            [kl(Counter(of_user[u]), Counter(truth.rating[u].tolist())) for u in users if of_user[u]]
        ),
        "popularity/gini": sum(abs(a - b) for a in shown for b in shown) / (2 * len(items) ** 2 * average),
        "popularity/never": shown.count(0) / len(items),
        "popularity/top10": sum(shown[-top:]) / sum(shown),
        "popularity/skewness": moment[3] / moment[2] ** 1.5,
    }


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("n_items", [30, 41])
def test_every_quantity_is_what_its_definition_says(n_items: int, seed: int) -> None:
    data, truth = world(n_items=n_items, seed=seed, gamma_theta=0.7)
    found = quantities(data, truth, seed)
    slow = twin(data, truth)
    assert list(found) == list(QUANTITIES)
    assert {n for n in QUANTITIES if n not in slow} == {n for n in QUANTITIES if n.endswith("/random")}
    assert {n: found[n] for n in slow} == pytest.approx(slow, abs=1e-12)


def test_random_exposure_is_a_draw_without_replacement_from_all_items() -> None:
    """Against permutations of each user's own row of ratings."""
    data, truth = world(n_users=12, n_items=20, exposure_rate=0.3, gamma_theta=0.9)
    exposures = np.bincount(data.biased.user, minlength=data.n_users)
    rows = [Counter(row.tolist()) for row in truth.rating]
    population = np.array([[row[r] for r in range(1, 6)] for row in rows])
    fast = [random_counts(population, exposures, seed) for seed in range(600)]
    assert all((c.sum(axis=1) == exposures).all() and (c <= population).all() for c in fast)
    rng = np.random.default_rng(0)
    slow = []
    for _ in range(600):
        drawn = [rng.permutation(row)[:n] for row, n in zip(truth.rating, exposures, strict=True)]
        slow.append([kl(Counter(d.tolist()), rows[u]) for u, d in enumerate(drawn) if len(d)])
    shown = exposures > 0
    values = np.array([divergence(c[shown], population[shown]) for c in fast])
    error = np.sqrt((values.var(axis=0) + np.var(slow, axis=0)) / 600)
    assert np.abs(values.mean(axis=0) - np.mean(slow, axis=0)).max() < 4 * error.max()
    assert values.mean() == pytest.approx(
        np.mean([quantities(data, truth, seed)["kl/random"] for seed in range(600)]), abs=1e-12
    )


def test_random_popularity_gives_each_exposure_an_item() -> None:
    data, truth = world(n_users=20, n_items=25)
    n, rng = len(data.biased), np.random.default_rng(0)
    slow = [np.bincount([rng.integers(25) for _ in range(n)], minlength=25) for _ in range(400)]
    for name in ("popularity/top10", "popularity/skewness"):
        fast = [quantities(data, truth, seed)[f"{name}/random"] for seed in range(400)]
        expected = [popularity(counts)[name] for counts in slow]
        assert abs(np.mean(fast) - np.mean(expected)) < 4 * np.sqrt((np.var(fast) + np.var(expected)) / 400)


def test_who_sees_everything_sees_the_population() -> None:
    data, truth = world()
    found = quantities(shown_to(data, np.ones(data.shape, bool), truth.rating), truth, 0)
    assert found["kl"] == found["kl/random"] == found["shift"] == found["popularity/gini"] == 0
    assert found["density"] == 100
    assert math.isnan(found["popularity/skewness"])  # no item differs from another


def test_what_cannot_be_said_is_nan() -> None:
    data, truth = world()
    real = quantities(data, None, 0)
    unknown = {n for n, v in real.items() if math.isnan(v)}
    assert unknown == {*(f"population/{r}" for r in range(1, 6)), "shift", "kl", "kl/random"}
    clicks = replace(data, task=replace(data.task, rating_range=None))
    rated = {n for n in QUANTITIES if n.startswith(("observed", "population", "shift", "kl"))}
    assert {n for n, v in quantities(clicks, truth, 0).items() if math.isnan(v)} == rated
    nothing = quantities(shown_to(data, np.zeros(data.shape, bool), truth.rating), truth, 0)
    assert nothing["exposures/mean"] == 0
    assert nothing["population/1"] > 0
    assert nothing["popularity/never"] == 1
    assert math.isnan(nothing["kl"])
    assert math.isnan(nothing["popularity/gini"])


def test_limits_of_popularity() -> None:
    one = np.zeros(1000, int)
    one[7] = 50
    found = popularity(one)
    assert found["popularity/gini"] == pytest.approx(0.999)
    assert (found["popularity/never"], found["popularity/top10"]) == (0.999, 1.0)
    assert found["popularity/skewness"] > 30
    assert popularity(np.array([1, 3]))["popularity/skewness"] == pytest.approx(0, abs=1e-12)


def test_the_curve_is_the_popularity_of_items_in_order() -> None:
    data = Dataset(
        users=Vocabulary(pl.Series(range(10)), "user"),
        items=Vocabulary(pl.Series(range(POINTS)), "item"),
        biased=Log(*np.array([(u, i, 1) for u in range(10) for i in range(POINTS) if i % 10 <= u]).T),
    )
    (name,) = CURVES
    curve = curves(data)[name]
    shown = sorted((sum(u >= i % 10 for u in range(10)) / 10 for i in range(POINTS)), reverse=True)
    assert curve == pytest.approx(shown)
