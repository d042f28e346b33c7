"""EASE against loops and its limits."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from deconrec.checks.fixtures import confounded, one_item, rows_world
from deconrec.data.split import UsersSplit, ValidationPart
from deconrec.errors import DataError
from deconrec.evaluation.rating import auc
from deconrec.methods.ease import EASE, PENALTY, RIDGES, logistic, solve
from manual import distill
from manual.batches import dense, tiny


def marks(data, reads, threshold):
    x = np.zeros(data.shape)
    for u, i, rating in zip(data.biased.user, data.biased.item, data.biased.rating, strict=True):
        if reads == "exposures":
            x[u, i] = 1
        else:
            x[u, i] = rating >= threshold if threshold is not None else data.outcome_scale.inward(rating)
    return x


@pytest.mark.parametrize("ridge", [0.5, 20.0])
@pytest.mark.parametrize(
    ("reads", "ratings"),
    [("positives", (0.0, 1.0)), ("positives", (1.0, 3.0, 5.0)), ("exposures", (0.0, 1.0))],
)
def test_weights_and_outcomes_equal_the_twin(ridge, reads, ratings):
    data = tiny(ratings)
    model = EASE(ridge=ridge, reads=reads).fit(data, validation=data)
    x = marks(data, reads, None)
    b = np.array([distill.ease_column(x.tolist(), ridge, j) for j in range(data.n_items)]).T
    np.testing.assert_allclose(model.weights_, b, rtol=1e-5, atol=1e-7)
    score = x @ b
    popularity = np.log(1 + np.array([sum(data.biased.item == i) for i in range(data.n_items)]))
    shift, slope, popular = model.coefficients_
    r_hat = 1 / (1 + np.exp(-(shift + slope * score + popular * popularity)))
    np.testing.assert_allclose(model._block(np.arange(7)), r_hat, rtol=1e-5)


def test_the_calibration_is_the_minimum_of_its_objective():
    rng = np.random.default_rng(0)
    x = rng.normal(2, 3, (30, 2))
    r = (rng.random(30) < 1 / (1 + np.exp(-x[:, 0] + 2))).astype(float)
    got = logistic(x, r)
    centre, spread = x.mean(0), x.std(0)
    inner = np.array([got[0] + centre @ got[1:], *(got[1:] * spread)])
    start = np.log(r.mean() / (1 - r.mean()))

    def objective(w):
        return distill.logistic_objective(w.tolist(), x.tolist(), r.tolist(), centre, spread, start, PENALTY)

    best = objective(inner)
    for k in range(3):
        for step in (-1e-3, 1e-3):
            assert objective(inner + step * np.eye(3)[k]) > best
    # The gradient by differences is zero there.
    slopes = [(objective(inner + 1e-5 * e) - objective(inner - 1e-5 * e)) / 2e-5 for e in np.eye(3)]
    np.testing.assert_allclose(slopes, 0, atol=1e-6)


def test_equal_outcomes_have_a_calibration():
    got = logistic(np.random.default_rng(0).normal(size=(500, 2)), np.ones(500))
    assert np.isfinite(got).all()
    assert 0.99 < 1 / (1 + np.exp(-got[0])) < 0.99999


def test_lambda_to_infinity_gives_co_occurrences():
    x = marks(tiny(), "exposures", None)
    gram = x.T @ x
    b, _ = solve(gram, 1e7)
    np.testing.assert_allclose(1e7 * b, gram - np.diag(np.diag(gram)), rtol=1e-4, atol=1e-4)


def test_items_that_share_no_user_have_no_weight_between_them():
    x = np.zeros((6, 4))
    x[:3, :2], x[3:, 2:] = 1, 1
    b, _ = solve(x.T @ x, 1.0)
    assert (b[:2, 2:] == 0).all()
    assert (b[2:, :2] == 0).all()
    assert b[0, 1] > 0


def test_one_item_is_answered_by_popularity_alone():
    model = EASE().fit(one_item())
    assert (model.weights_ == 0).all()
    assert len(np.unique(model.score()[model.covered_users_])) == 1


def test_a_pair_does_not_predict_itself():
    # diag(B) = 0: whether u has seen i cannot enter the score of (u, i).
    data, _ = confounded()
    model = EASE(ridge=5.0, reads="exposures").fit(data, validation=data)
    assert (np.diag(model.weights_) == 0).all()
    with_it = model.x_.toarray()
    without = with_it.copy()
    user, item = data.biased.user[0], data.biased.item[0]
    without[user, item] = 0
    assert with_it[user, item] == 1
    assert (with_it @ model.weights_)[user, item] == pytest.approx(
        (without @ model.weights_)[user, item], abs=1e-7
    )


def test_calibration_reads_randomised_rows_where_there_are_some():
    data, _ = confounded()
    assert data.unbiased is not None
    rest = {"ridge": 10.0}
    unbiased, biased = (
        EASE(calibration=c, **rest).fit(data, validation=data) for c in ("unbiased", "biased")
    )
    np.testing.assert_array_equal(unbiased.weights_, biased.weights_)
    mean = data.outcome(data.unbiased).mean()
    on_u = unbiased._pairs(data.unbiased.user, data.unbiased.item).mean()
    assert on_u == pytest.approx(mean, abs=1e-3)
    assert abs(biased._pairs(data.unbiased.user, data.unbiased.item).mean() - mean) > 0.02
    bare = EASE(**rest).fit(data.with_logs(data.biased), validation=data)
    np.testing.assert_array_equal(bare.coefficients_, biased.coefficients_)
    assert unbiased.tags.uses_unbiased
    assert not biased.tags.uses_unbiased


def test_lambda_is_chosen_on_the_validation_part():
    data, _ = confounded(seed=5)
    held = data.with_logs(data.biased.take(np.arange(0, len(data.biased), 4)))
    train = data.with_logs(data.biased.take(np.arange(len(data.biased)) % 4 > 0), data.unbiased)
    part = ValidationPart(held)
    scores = {}
    for ridge in RIDGES:
        model = EASE(ridge=ridge).fit(train, validation=part)
        scores[ridge] = auc(model._pairs(held.biased.user, held.biased.item), held.outcome(held.biased))
    chosen = EASE().fit(train, validation=part)
    assert chosen.ridge_ == max(scores, key=scores.get)
    assert chosen.ridge_ not in (
        RIDGES[0],
        RIDGES[-1],
    )  # the first and the last of the grid would be no choice
    nothing = ValidationPart(held.with_logs(held.biased.take(np.zeros(0, np.int64))))
    assert EASE().fit(train, validation=nothing).ridge_ == 300


def test_users_with_a_history_choose_lambda_and_are_scored_by_one_product():
    data = rows_world()
    parts = UsersSplit(0).apply(data)
    model = EASE().fit(parts.train, validation=parts.holdout)
    assert model.ridge_ in RIDGES
    history = parts.holdout.history
    got = model.score(history=history)
    x = marks(history, "positives", 5.0)
    shift, slope, popular = model.coefficients_
    logit = shift + slope * (x @ model.weights_) + popular * model.log_popularity_
    known = model.covered_items_
    np.testing.assert_allclose((got[:, known] - 1) / 4, (1 / (1 + np.exp(-logit)))[:, known], rtol=1e-4)


def test_folding_a_training_user_in_gives_its_own_scores():
    data, _ = confounded()
    model = EASE(ridge=10.0).fit(data, validation=data)
    rows = data.frame(data.biased).filter(pl.col("user_id") == data.users.values[3])
    got = model.score(history=rows.with_columns(pl.lit("new").alias("user_id")))
    np.testing.assert_allclose(got[0], model.score([data.users.values[3]])[0], rtol=1e-6)


def test_similar_items_are_partial_correlations():
    data, _ = confounded()
    model = EASE(ridge=4.0, reads="exposures").fit(data, validation=data)
    x = marks(data, "exposures", None)
    p = np.linalg.inv(x.T @ x + 4.0 * np.eye(data.n_items))
    partial = -p / np.sqrt(np.outer(np.diag(p), np.diag(p)))
    table = model.similar_items(data.items.values, k=data.n_items - 1)
    a, b = data.items.encode(table["item_id"]), data.items.encode(table["similar_id"])
    np.testing.assert_allclose(table["score"].to_numpy(), partial[a, b], atol=1e-5)
    assert table["score"].abs().max() <= 1
    best = np.argmax(np.where(np.eye(data.n_items, dtype=bool), -np.inf, partial), axis=1)
    assert (data.items.encode(table.filter(pl.col("rank") == 1)["similar_id"]) == best).all()


def test_a_catalogue_beyond_the_limit_is_refused_before_memory_is_taken():
    with pytest.raises(DataError, match=r"takes at most 4 items; got 5, .* Raise `largest`"):
        EASE(largest=4).fit(tiny())


def test_no_torch_is_loaded():
    code = (
        "import sys; import deconrec as dc; data, _ = dc.simulate.pairs(n_users=30, n_items=10, seed=0); "
        "dc.EASE().fit(data).recommend(k=2); print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_observed_negatives_are_exposures_and_no_positives():
    data = tiny()
    o, r, _ = dense(data)
    for reads, wanted in (("exposures", o), ("positives", o * r)):
        model = EASE(reads=reads, ridge=1.0).fit(data, validation=data)
        np.testing.assert_array_equal(model.x_.toarray(), wanted)
