"""`sensitivity`: limits, agreement with `evaluate`, worlds whose odds ratio is known, and what it refuses."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import deconrec as dc
from deconrec.data.dataset import Log
from deconrec.errors import DataError, ParameterError
from deconrec.experiments.benchmark import benchmarks
from deconrec.experiments.population import population_of_log
from deconrec.experiments.sensitivity import sensitivity
from deconrec.report.sensitivity import render_sensitivity

METRICS = ["mse", "recall@5", "precision@5", "dcg@5"]


@pytest.fixture(scope="module")
def world() -> dict[str, Any]:
    """Two models of one half of a log, and the other half."""
    data, truth = dc.simulate.pairs(n_users=150, n_items=60, exposure_rate=0.2, seed=0)
    half = np.random.default_rng(0).random(len(data.biased)) < 0.5
    train = data.with_logs(data.biased.take(half))
    return {
        "models": [dc.MF(dim=4, epochs=6).fit(train), dc.MF(dim=1, epochs=1, seed=1).fit(train)],
        "log": data.with_logs(data.biased.take(~half)),
        "truth": truth,
    }


@pytest.fixture(scope="module")
def found(world: dict[str, Any]) -> Any:
    return sensitivity(world["models"], world["log"], metrics=METRICS, propensity="popularity", k=5)


def test_gamma_1_is_what_evaluate_says(world: dict[str, Any], found: Any) -> None:
    snips = dc.evaluate(world["models"][0], world["log"], metrics=METRICS, propensity="popularity")
    for row, e in zip(
        [m for m in found.metrics if m.method == "mf (1)" and not m.over], snips.estimates, strict=True
    ):
        assert row.metric == e.metric
        assert row.low[0] == pytest.approx(e.estimate)
        assert row.high[0] == pytest.approx(e.estimate)
        assert row.interval_low[0] == pytest.approx(e.low)
        assert row.interval_high[0] == pytest.approx(e.high)


def test_bounds_widen(found: Any) -> None:
    assert found.gammas[0] == 1.0
    for row in found.metrics:
        assert (np.diff(row.low) < 0).all()
        assert (np.diff(row.high) > 0).all()
        assert (np.array(row.interval_low) < row.low).all()
        assert (np.array(row.interval_high) > row.high).all()
        if not row.over:
            assert min(row.low) >= 0
            assert max(row.high) <= 1
    for item in found.items:
        assert (np.diff(item.low) < 0).all()
        assert (np.diff(item.high) > 0).all()
        assert item.low[0] == pytest.approx(item.mean)
    for shares in found.lists.values():
        assert shares[0] == 1.0
        assert (np.diff(shares) <= 0).all()


def test_the_tipping_point_lies_where_the_band_meets_0(found: Any) -> None:
    for tip in found.tipping:
        row = next(m for m in found.metrics if m.metric == tip.metric and m.over)
        assert (row.method, row.over) == (tip.leading, tip.second)
        inside = [low > 0 or high < 0 for low, high in zip(row.low, row.high, strict=True)]
        for gamma, holds in zip(found.gammas, inside, strict=True):
            assert holds == (gamma < tip.gamma)
        assert tip.gamma_interval <= tip.gamma
        assert all(b.gamma >= tip.gamma for b in found.benchmarks if b.feature in tip.as_strong_as)
    assert found.answer[0].startswith(f"{found.tipping[0].leading} leads {found.tipping[0].second} on mse")


def test_differences_of_errors_are_differences(found: Any) -> None:
    alone = {m.method: m.estimate for m in found.metrics if m.metric == "mse" and not m.over}
    row = next(m for m in found.metrics if m.metric == "mse" and m.over)
    assert row.estimate == pytest.approx(alone[row.method] - alone[row.over])


def test_a_model_against_itself_is_level(world: dict[str, Any]) -> None:
    model = world["models"][0]
    same = sensitivity([model, model], world["log"], metrics=["mse"], propensity="popularity")
    assert same.tipping[0].gamma == 1.0
    assert "level on mse" in same.answer[0]


def test_without_a_model_items_alone(world: dict[str, Any]) -> None:
    only = sensitivity([], world["log"], propensity="popularity", gammas=[1.5], k=3)
    assert only.metrics == []
    assert only.lists == {}
    assert [i.rank for i in only.items] == [1, 2, 3]
    assert only.gammas == [1.0, 1.5]
    assert "items with the highest mean outcome" in only.answer[0]
    assert "Bounds</h2>" not in render_sensitivity(only)


def test_rows_of_either_model_judge_neither(world: dict[str, Any]) -> None:
    data = world["log"]
    other = dc.MF(dim=1, epochs=1).fit(data.with_logs(data.biased.take(np.arange(0, len(data.biased), 3))))
    both = sensitivity([world["models"][0], other], data, metrics=["mse"], propensity="popularity")
    assert both.log["rows_of_training_left_out"] == len(np.arange(0, len(data.biased), 3))


def test_bounds_hold_the_truth_where_odds_lie_within_gamma() -> None:
    """Exposures drawn with odds off by a hidden factor in [1/2, 2] that follows the outcome: 20 logs of one world."""
    rng = np.random.default_rng(3)
    data, truth = dc.simulate.pairs(n_users=120, n_items=50, confounding=0.0, exposure_rate=0.2, seed=5)
    model = dc.MF(dim=2, epochs=3).fit(data)
    outside = model.seen_.toarray() == 0
    nominal = np.clip(np.asarray(truth.nominal_propensity, float), 0.02, 0.9)
    odds = nominal / (1 - nominal) * np.where(truth.rating > 0, 1.9, 1 / 1.9)
    score = model.score(data.users.values)
    exact = float(((score - truth.rating) ** 2)[outside].mean())
    held = naive = 0
    for _ in range(20):
        o = (rng.random(outside.shape) < odds / (1 + odds)) & outside
        user, item = np.nonzero(o)
        log = data.with_logs(Log(user, item, truth.rating[user, item], propensity=nominal[user, item]))
        found = sensitivity(model, log, metrics=["mse"], gammas=[2.0])
        row = found.metrics[0]
        held += row.interval_low[1] <= exact <= row.interval_high[1]
        naive += row.interval_low[0] <= exact <= row.interval_high[0]
    assert held >= 19
    assert naive <= 2


def test_a_strong_feature_is_a_strong_benchmark() -> None:
    """Exposure follows one feature with a slope of 1.5 on the logit and another not at all."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 2)).astype(np.float32)
    p = 1 / (1 + np.exp(2 - 1.5 * x[:, 0]))
    user, item = np.nonzero(rng.random((400, 40)) < p[:, None])
    base, _ = dc.simulate.pairs(n_users=400, n_items=40, seed=0)
    features = type(base.user_features)(("age", "shoe"), x, np.zeros(400, bool))
    data = base._replace(
        biased=Log(user, item, np.ones(len(user))), user_features=features, item_features=None, unbiased=None
    )
    found = {b.feature: b for b in benchmarks(population_of_log(data))}
    assert found["user feature age"].gamma == pytest.approx(np.exp(1.5 * 2.2), rel=0.5)
    assert found["user feature shoe"].gamma < 1.1
    # Items differ by chance alone: counts of some 100 rows are off by a tenth, and 1.96 / sqrt(100) / (1 - p) = 0.26.
    assert found["the item's popularity"].gamma == pytest.approx(np.exp(0.26), rel=0.1)
    assert list(found) == sorted(found, key=lambda name: -found[name].gamma)


def test_the_record_and_the_page(found: Any) -> None:
    record = json.loads(found.to_json())
    assert record["gammas"] == found.gammas
    page = render_sensitivity(found)
    assert "The lead holds for every odds ratio left of" in page
    assert found.answer[0] in page.replace("&#39;", "'")
    assert "<script" not in page
    assert page.count("<figure>") == 8


def test_what_is_refused(world: dict[str, Any]) -> None:
    models, log = world["models"], world["log"]
    with pytest.raises(ParameterError, match="'gamma', the odds ratio"):
        sensitivity(models, log, gammas=[0.9])
    for metric, why, instead in (
        ("auc", "over pairs of rows", "'mse' or 'recall@K'"),
        ("ndcg@5", "the best list of each user's positives", "'dcg@5'"),
        ("recall_capped@5", "the best list of each user's positives", "'recall@5'"),
    ):
        with pytest.raises(DataError, match=f"has no exact bounds: .*{why}.*{instead}"):
            sensitivity(models, log, metrics=[metric])
    with pytest.raises(ParameterError, match="'k' of sensitivity"):
        sensitivity(models, log, k=0)
    other = dc.MF(dim=1, epochs=1).fit(dc.simulate.pairs(n_users=50, n_items=20, seed=9)[0])
    with pytest.raises(DataError, match="must rank the same items"):
        sensitivity([models[0], other], log)
