"""`evaluate`: whose rows judge, against what, and what it refuses."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import deconrec as dc
from deconrec.data.dataset import Log
from deconrec.errors import DataError, ParameterError, UnknownName
from deconrec.evaluation import rating
from deconrec.experiments.evaluate import Wanted, evaluate
from deconrec.experiments.population import population_of
from deconrec.experiments.weights import calibration
from deconrec.pairs import Pairs


@pytest.fixture(scope="module")
def world() -> dict[str, Any]:
    """A world without hidden confounding; one half of its log trains, the other judges with known propensities."""
    data, truth = dc.simulate.pairs(
        n_users=150, n_items=60, confounding=0.0, exposure_rate=0.2, unbiased_share=0.05, seed=0
    )
    half = np.random.default_rng(0).random(len(data.biased)) < 0.5
    model = dc.MF(dim=4, epochs=4).fit(data.with_logs(data.biased.take(half)))
    p = truth.propensity
    return {
        "data": data,
        "truth": truth,
        "model": model,
        "log": data.with_logs(data.biased.take(~half), data.unbiased),
        "p": 0.5 * p / (1 - 0.5 * p),
    }


def value(found: Any, metric: str) -> float:
    return next(e.estimate for e in found.estimates if e.metric == metric)


@pytest.mark.parametrize("estimator", ["ips", "snips", "dr"])
def test_estimates_are_near_the_truth(world: dict[str, Any], estimator: str) -> None:
    """Within four of their own standard errors, on one world."""
    found = evaluate(
        world["model"], world["log"], estimator=estimator, propensity=dc.Known(values=world["p"])
    )
    model, r = world["model"], world["truth"].rating
    outside = model.seen_.toarray() == 0
    score = model.score(world["data"].users.values)
    truth = {
        "mse": float(((score - r) ** 2)[outside].mean()),
        "auc": rating.auc(score[outside], r[outside]),
    }
    for metric, exact in truth.items():
        row = next(e for e in found.estimates if e.metric == metric)
        assert row.low is not None
        assert abs(row.estimate - exact) < (row.high - row.low), metric
    assert found.log["rows_used"] == len(world["log"].biased)
    assert found.log["pairs"] == int(outside.sum())


@pytest.mark.parametrize("name", ["logistic-mf", "popularity", "naive-bayes"])
def test_estimated_propensities_sum_to_the_population(world: dict[str, Any], name: str) -> None:
    found = evaluate(world["model"], world["log"], propensity=name)
    assert found.mass["value"] == pytest.approx(1, abs=0.15)
    assert found.log["propensity"] == name
    assert all(e.estimate is not None for e in found.estimates)


def test_a_list_of_entries_with_the_fixed_keys(world: dict[str, Any]) -> None:
    rows = json.loads(evaluate(world["model"], world["log"], propensity="popularity").to_json())
    for row in rows:
        assert {"metric", "estimate", "low", "high", "estimator", "ess"} <= set(row)
        assert row["low"] <= row["estimate"] <= row["high"]
        assert row["log"]["rows_used"] == len(world["log"].biased)


def test_rows_of_training_do_not_judge(world: dict[str, Any]) -> None:
    model, data = world["model"], world["data"]
    whole = evaluate(model, data, propensity="popularity")
    assert whole.log["rows_of_training_left_out"] == len(data.biased) - len(world["log"].biased)
    assert value(whole, "mse") == value(evaluate(model, world["log"], propensity="popularity"), "mse")
    assert any("were left out because the model was given their pair" in note for note in whole.notes)
    trained = dc.MF(dim=2, epochs=1).fit(data.with_logs(data.biased))
    with pytest.raises(DataError, match="this is the log that the model was trained on"):
        evaluate(trained, data)


def test_the_log_of_strangers(world: dict[str, Any]) -> None:
    log = world["log"]
    frame = log.frame(log.biased)
    strangers = dc.Dataset.from_frames(
        frame.with_columns(pl.col("user_id") + 10_000), binarize=0.5, rating_range=(0, 1)
    )
    with pytest.raises(DataError, match="knows none of their users and items"):
        evaluate(world["model"], strangers)
    both = dc.Dataset.from_frames(
        pl.concat([frame, frame.head(5).with_columns(pl.col("user_id") + 10_000)]),
        binarize=0.5,
        rating_range=(0, 1),
    )
    found = evaluate(world["model"], both, propensity="popularity")
    assert found.log["rows_unknown_left_out"] == 5


def test_another_outcome_is_refused(world: dict[str, Any]) -> None:
    frame = world["log"].frame(world["log"].biased).with_columns(pl.col("rating") * 4 + 1)
    other = dc.Dataset.from_frames(frame, rating_range=(1, 5))
    with pytest.raises(
        DataError, match=r"the model's outcome is rating >= 0\.5, that of 'data' the rating itself"
    ):
        evaluate(world["model"], other)


def test_logged_propensities_are_used(world: dict[str, Any]) -> None:
    """Lists drawn by `recommend(explore=)`, rated, and read back with their column: known propensities by default."""
    model, data, truth = world["model"], world["data"], world["truth"]
    shown = model.recommend(k=8, explore="epsilon-greedy", epsilon=0.5, seed=3)
    user, item = data.users.encode(shown["user_id"]), data.items.encode(shown["item_id"])
    rated = shown.with_columns(pl.Series("rating", truth.rating[user, item].astype(float)))
    log = dc.Dataset.from_frames(rated, binarize=0.5, rating_range=(0, 1), name="explored")
    found = evaluate(model, log, estimator="snips", metrics=["mse", "precision@8"])
    assert found.log["propensity"] == "known"
    p = population_of([model], log).rows.propensity
    assert p is not None
    assert sorted(p) == pytest.approx(sorted(shown["propensity"]))
    outside = model.seen_.toarray() == 0
    score = model.score(data.users.values)
    exact = float(((score - truth.rating) ** 2)[outside].mean())
    row = found.estimates[0]
    assert row.low < exact < row.high


def test_weights_are_of_the_log_and_of_nothing_else(world: dict[str, Any]) -> None:
    model, log = world["model"], world["log"]
    n = len(log.biased)
    p = np.random.default_rng(0).uniform(0.1, 0.9, n)
    logged = log.with_logs(Log(log.biased.user, log.biased.item, log.biased.rating, propensity=p))
    found = evaluate(model, logged, estimator="ips", metrics=["mse"])
    score = model.predict((log.users.decode(log.biased.user), log.items.decode(log.biased.item)))
    expected = (((score - log.biased.rating) ** 2) / p.astype(np.float32)).sum() / found.log["pairs"]
    assert found.estimates[0].estimate == pytest.approx(expected, rel=1e-5)


def test_hopeless_overlap_is_told(world: dict[str, Any]) -> None:
    log = world["log"].biased
    few = world["log"].with_logs(log.take(np.arange(8)))
    found = evaluate(world["model"], few, propensity=dc.Known(values=world["p"]))
    assert {e.grade for e in found.estimates} == {"hopeless"}
    assert all("do not use it" in e.says or "no row" in e.says for e in found.estimates)


def test_weights_that_do_not_sum_to_the_population_are_told(world: dict[str, Any]) -> None:
    found = evaluate(
        world["model"], world["log"], estimator="ips", propensity=dc.Known(values=world["p"] * 0.5)
    )
    assert found.mass["value"] == pytest.approx(2, abs=0.3)
    assert any("The weights sum to" in note and "too small" in note for note in found.notes)


def test_ratings_that_stay_ratings(world: dict[str, Any]) -> None:
    """Without a rating that is a positive, only the squared error; with one, all, on the rating's own scale."""
    rng = np.random.default_rng(0)
    frame = world["data"].frame(world["data"].biased)
    frame = frame.with_columns(pl.Series("rating", rng.integers(1, 6, len(frame)).astype(float)))
    first, second = frame.gather_every(2), frame.gather_every(2, 1)
    options: dict[str, Any] = {"rating_range": (1.0, 5.0)}
    model = dc.MF(dim=2, epochs=2).fit(dc.Dataset.from_frames(first, **options))
    found = evaluate(model, dc.Dataset.from_frames(second, **options), propensity="popularity")
    assert [e.metric for e in found.estimates] == ["mse"]
    assert 1 < value(found, "mse") < 5
    found = evaluate(
        model, dc.Dataset.from_frames(second, **options, relevant=4), propensity="popularity", estimator="dr"
    )
    assert value(found, "mse") == pytest.approx(2, abs=0.5)
    assert 0 < value(found, "precision@20/full") < 1
    with pytest.raises(DataError, match="needs to know which ratings are positives"):
        evaluate(model, dc.Dataset.from_frames(second, **options), metrics=["auc"])


def test_names_of_metrics() -> None:
    assert str(Wanted.parse("ndcg@5")) == "ndcg@5/full/pooled"
    assert str(Wanted.parse("precision@5/full")) == "precision@5/full"
    assert str(Wanted.parse("mse")) == "mse"
    for name in ("ndcg", "mse@5", "ndcg@0"):
        with pytest.raises(ParameterError):
            Wanted.parse(name)
    with pytest.raises(ParameterError, match="there is 'ndcg@5/full/pooled'"):
        Wanted.parse("ndcg@5/shown")
    with pytest.raises(UnknownName, match="metric that can be estimated"):
        Wanted.parse("mrr@5")


def test_what_is_refused(world: dict[str, Any]) -> None:
    model, log = world["model"], world["log"]
    with pytest.raises(UnknownName, match="there is no propensity 'logistic'; did you mean 'logistic-mf'"):
        evaluate(model, log, propensity="logistic")
    with pytest.raises(ParameterError, match="'estimator' must be one of"):
        evaluate(model, log, estimator="dm")  # type: ignore[arg-type]  # no such estimator: that is the test
    with pytest.raises(ParameterError, match="has no '='"):
        evaluate(model, log, propensity="popularity:power")
    with pytest.raises(ParameterError, match="'folds' of evaluate must be at least 2"):
        evaluate(model, log, estimator="dr", folds=1)


def test_calibration_against_a_fit_over_all_pairs() -> None:
    """Platt's map from a log and a sample is that of logistic regression over every pair."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=200_000)
    o = rng.random(len(x)) < 1 / (1 + np.exp(2 - 0.7 * x))
    level, slope = calibration(x[o], x, float(len(x)))
    assert level == pytest.approx(-2, abs=0.05)
    assert slope == pytest.approx(0.7, abs=0.05)


def test_excluded_pairs_are_no_part_of_the_space() -> None:
    """Propensities over what is left: a pair that could not be shown is no evidence of a small propensity."""
    data, _ = dc.simulate.pairs(n_users=60, n_items=20, exposure_rate=0.3, seed=1)
    half = np.random.default_rng(0).random(len(data.biased)) < 0.5
    seen = data.biased.take(half).pattern(data.shape)
    log = data.with_logs(data.biased.take(~half), data.unbiased)
    every, rest = dc.Popularity().fit(log), dc.Popularity().fit(log, seen)
    left = data.n_users - np.asarray(seen.sum(0)).ravel()
    assert rest.p_ == pytest.approx(every.p_ * data.n_users / left)
    assert dc.NaiveBayes().fit(log, seen).density_ == pytest.approx(
        len(log.biased) / (data.n_users * data.n_items - seen.nnz)
    )
    plain = dc.LogisticMF(dim=2, epochs=60, floor=1e-3).fit(log)
    masked = dc.LogisticMF(dim=2, epochs=60, floor=1e-3).fit(log, seen)

    def mean(model: Any) -> float:
        return float(np.mean(everywhere(model, data.shape)[seen.toarray() == 0]))

    target = len(log.biased) / (data.n_users * data.n_items - seen.nnz)
    assert abs(mean(masked) - target) < abs(mean(plain) - target)


def everywhere(model: Any, shape: tuple[int, int]) -> np.ndarray:
    user, item = (torch.from_numpy(c.ravel()) for c in np.indices(shape))
    zero = torch.zeros(len(user))
    return model(Pairs(user, item, zero, zero)).numpy().reshape(shape)
