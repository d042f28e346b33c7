"""Popularity metrics and strata of `compare`, against slow twins on fitted models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deconrec as dc
from deconrec.data.split import PairsSplit, UsersSplit
from deconrec.errors import ParameterError
from deconrec.evaluation import rating
from deconrec.experiments.beyond import cold
from deconrec.experiments.metrics import check_metrics, evaluate_pairs, evaluate_users
from deconrec.experiments.names import Metric
from deconrec.report.html import render

NAMES = ["arp@4/full", "aplt@4/full", "coverage@4/full", "gini@4/full"]


@pytest.fixture(scope="module")
def world() -> Any:
    data, truth = dc.simulate.pairs(n_users=60, n_items=40, exposure_rate=0.2, unbiased_share=0.3, seed=2)
    parts = PairsSplit(seed=0).apply(data)
    return data, truth, dc.MF(dim=4, epochs=5, seed=0).fit(parts.train, validation=parts.holdout)


def top(scores: np.ndarray, hidden: np.ndarray, k: int) -> list[int]:
    order = sorted((i for i in range(len(scores)) if not hidden[i]), key=lambda i: (-scores[i], i))
    return order[:k]


def twin(lists: list[list[int]], ratings: np.ndarray) -> dict[str, float]:
    n = len(ratings)
    head = sorted(range(n), key=lambda i: (-ratings[i], i))[: int(np.ceil(n / 5))]
    times = [sum(i in row for row in lists) for i in range(n)]
    apart = sum(abs(a - b) for a in times for b in times)
    return {
        "arp@4/full": float(np.mean([np.mean([ratings[i] for i in row]) for row in lists])),
        "aplt@4/full": float(np.mean([np.mean([i not in head for i in row]) for row in lists])),
        "coverage@4/full": sum(t > 0 for t in times) / n,
        "gini@4/full": apart / (2 * n * sum(times)),
    }


@pytest.mark.parametrize("known", [True, False], ids=["truth", "no truth"])
def test_pairs_against_twins(world: Any, known: bool) -> None:
    data, truth, model = world
    test = PairsSplit(seed=0).apply(data).test
    content = PairsSplit(seed=0).apply(data).test.open()
    found = evaluate_pairs(model, test, data, NAMES, truth if known else None)
    users = np.unique(content.log.user)
    scores, hidden = model.score(data.users.decode(users)), content.known[users].toarray() > 0
    ratings = np.zeros(data.n_items, int)
    for u, i in zip(data.biased.user, data.biased.item, strict=True):
        ratings[i] += content.known[u, i] > 0
    expected = twin([top(scores[n], hidden[n], 4) for n in range(len(users))], ratings)
    for name, value in expected.items():
        assert found.metrics[name] == pytest.approx(value), name
    assert set(found.per_user) == {"arp@4/full", "aplt@4/full"}


def test_users_against_twins() -> None:
    data, truth = dc.simulate.pairs(n_users=80, n_items=30, exposure_rate=0.3, seed=3)
    parts = UsersSplit(seed=0).apply(data, truth)
    model = dc.EASE(ridge=5.0).fit(parts.train)
    content = UsersSplit(seed=0).apply(data, truth).test.open()
    found = evaluate_users(model, parts.test, data, NAMES, truth, parts.train)
    history = content.history
    scores = model.score(history.users.values, history=history, unknown="fallback")
    hidden = history.biased.pattern(history.shape).toarray() > 0
    ratings = np.bincount(parts.train.biased.item, minlength=data.n_items)
    expected = twin([top(scores[n], hidden[n], 4) for n in range(history.n_users)], ratings)
    for name, value in expected.items():
        assert found.metrics[name] == pytest.approx(value), name


def test_strata_against_twins(world: Any) -> None:
    data, _, model = world
    content = PairsSplit(seed=0).apply(data).test.open()
    names = [
        "auc/cold-users",
        "mse/cold-items",
        "recall@3/shown/cold-users",
        "recall@3/full/cold-items",
        "auc",
    ]
    found = evaluate_pairs(model, PairsSplit(seed=0).apply(data).test, data, names, None)
    rows = {"user": np.zeros(data.n_users, int), "item": np.zeros(data.n_items, int)}
    for u, i in zip(data.biased.user, data.biased.item, strict=True):
        if content.known[u, i] > 0:
            rows["user"][u] += 1
            rows["item"][i] += 1
    few = {k: v <= max(5, sorted(v)[int(0.2 * (len(v) - 1))]) for k, v in rows.items()}
    log = content.log
    prediction = model.predict((data.users.decode(log.user), data.items.decode(log.item)))
    r = (log.rating >= 0.5).astype(float)
    mine = few["user"][log.user]
    assert found.metrics["auc/cold-users"] == pytest.approx(rating.auc(prediction[mine], r[mine]))
    cold_item = few["item"][log.item]
    assert found.metrics["mse/cold-items"] == pytest.approx(((prediction - r)[cold_item] ** 2).mean())
    shown, full = [], []
    for u in range(data.n_users):
        own = np.flatnonzero(log.user == u)
        if few["user"][u] and r[own].any():
            order = own[np.argsort(-prediction[own], kind="stable")]
            shown.append(r[order[:3]].sum() / r[own].sum())
        wanted = {int(log.item[n]) for n in own if r[n] and few["item"][log.item[n]]}
        if wanted:
            scores = model.score(data.users.decode(np.array([u])))[0]
            first = top(scores, content.known[u].toarray()[0] > 0, 3)
            full.append(len(wanted & set(first)) / len(wanted))
    assert found.metrics["recall@3/shown/cold-users"] == pytest.approx(np.mean(shown))
    assert found.metrics["recall@3/full/cold-items"] == pytest.approx(np.mean(full))


def test_strata_where_every_outcome_is_known(world: Any) -> None:
    data, truth, model = world
    content = PairsSplit(seed=0).apply(data).test.open()
    names = ["ndcg@5/full", "ndcg@5/full/cold-users", "ndcg@5/full/cold-items"]
    found = evaluate_pairs(model, PairsSplit(seed=0).apply(data).test, data, names, truth)
    given = data.biased.pattern(data.shape).multiply(content.known)
    coldest = set(np.flatnonzero(cold(np.asarray(given.sum(1)).ravel())).tolist())
    users, values = found.per_user["ndcg@5/full"]
    mine = [v for u, v in zip(users.tolist(), values, strict=True) if u in coldest]
    assert found.metrics["ndcg@5/full/cold-users"] == pytest.approx(np.mean(mine))
    assert set(found.per_user["ndcg@5/full/cold-users"][0].tolist()) <= coldest
    assert len(found.per_user["ndcg@5/full/cold-items"][0])


def test_who_is_cold() -> None:
    assert cold(np.array([0, 5, 6, 100, 200])).tolist() == [True, True, False, False, False]
    assert cold(np.array([20, 30, 40, 50, 60])).tolist() == [True, False, False, False, False]
    assert cold(np.array([])).tolist() == []


@pytest.mark.parametrize(
    "name", ["gini@20/full", "auc/cold-users", "ndcg@5/shown/cold-items/leaked", "recall@5/full/cold-users"]
)
def test_names_round_trip(name: str) -> None:
    assert str(Metric.parse(name)) == name


@pytest.mark.parametrize(
    "name",
    [
        "gini@20",
        "gini@20/shown",
        "arp/full",
        "gini@5/full/cold-users",
        "mse/cold-users/truth",
        "aplt@5/full/leaked",
    ],
)
def test_bad_names(name: str) -> None:
    with pytest.raises(ParameterError):
        Metric.parse(name)


def test_popularity_needs_no_unbiased_test(world: Any) -> None:
    data = world[0].with_logs(world[0].biased)
    assert check_metrics(["gini@5/full", "auc/cold-users"], data, "pairs", None) == [
        "gini@5/full",
        "auc/cold-users/biased",
    ]


def test_compare_with_all_of_them(tmp_path: Path) -> None:
    """Through runs, tests, letters, effect sizes and the page; a stratum without anybody is null and no error."""
    data, _ = dc.simulate.pairs(n_users=60, n_items=30, exposure_rate=0.3, unbiased_share=0.3, seed=1)
    names = ["auc", *NAMES, "auc/cold-users", "recall@5/shown/cold-items", "ndcg@5/shown/cold-users"]
    result = dc.compare(data, ["mf:epochs=3", "popularity", "random"], seeds=3, metrics=names)
    record = json.loads(result.to_json())
    summary = {(s["method"], s["metric"]): s["mean"] for s in record["summary"]}
    for metric in names:
        assert summary["mf:epochs=3", metric] is not None, metric
    assert summary["random", "coverage@4/full"] > summary["popularity", "coverage@4/full"]
    assert summary["popularity", "arp@4/full"] > summary["random", "arp@4/full"]
    assert summary["random", "gini@4/full"] < summary["popularity", "gini@4/full"]
    assert {t["unit"] for t in record["tests"] if t["metric"] == "aplt@4/full"} == {"user"}
    assert {t["unit"] for t in record["tests"] if t["metric"] == "gini@4/full"} == {"split"}
    assert all(t["effect_size"] is not None for t in record["tests"] if t["metric"] == "auc")
    assert set(record["letters"]["auc"]) == {"mf:epochs=3", "popularity", "random"}
    page = render(result)
    assert "Average recommendation popularity" in page
    assert "Users with few biased training ratings" in page
    assert "Effect size" in page
