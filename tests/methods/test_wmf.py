"""WMF against loops over all cells, against implicit's ALS, and its limits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from deconrec.checks.fixtures import confounded, one_item, rows_world
from deconrec.data.dataset import Dataset
from deconrec.data.split import UsersSplit
from deconrec.errors import DataError
from deconrec.methods.wmf import WMF
from deconrec.random import numpy_generator
from deconrec.training.features import WEIGHTS
from deconrec.training.features import weight_within_exposure as within_exposure
from manual import factors

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "wmf_implicit.json").read_text())


def cells(data, alpha, reads="ratings"):
    """(c, t) of all cells, from the definition."""
    c, t = np.ones(data.shape), np.zeros(data.shape)
    for u, i, rating, r in zip(
        data.biased.user, data.biased.item, data.biased.rating, data.outcome(data.biased), strict=True
    ):
        n = {
            "exposures": 1,
            "positives": float(rating >= 5),
            "ratings": r if data.outcome_scale.binary else rating,
        }
        c[u, i], t[u, i] = 1 + alpha * n[reads], float(n[reads] > 0)
    return c, t


def standard(data):
    x = data.user_features.values.astype(float)
    return (x - x.mean(0)) / x.std(0)


def start(model, n_items):
    return numpy_generator(model.seed, "initial values").standard_normal((n_items, model.dim)) * 0.1


@pytest.mark.parametrize("reads", ["ratings", "positives", "exposures"])
def test_the_factors_equal_the_twin(reads):
    data = rows_world()
    model = WMF(dim=3, alpha=0.7, l2=2.0, iterations=3, reads=reads).fit(data, validation=data)
    c, t = cells(data, 0.7, reads)
    v, q, y = factors.wmf(c, t, standard(data), start(model, data.n_items), 2.0, 3)
    np.testing.assert_allclose(model.item_factors_, q, rtol=2e-3, atol=2e-4)
    np.testing.assert_allclose(model.user_factors_, v, rtol=2e-3, atol=2e-4)
    np.testing.assert_allclose(model.feature_factors_, y, rtol=2e-3, atol=2e-4)


def test_every_round_lowers_the_risk_and_the_end_is_a_minimum_in_each_block():
    data = rows_world()
    c, t = cells(data, 0.5)
    x, risks = standard(data), []

    def risk(v, q, y):
        return factors.wmf_risk(c, t, v - x @ y, q, y, x, 3.0)

    for rounds in (1, 2, 5, 300):
        model = WMF(dim=2, alpha=0.5, l2=3.0, iterations=rounds).fit(data, validation=data)
        parts = [a.astype(float) for a in (model.user_factors_, model.item_factors_, model.feature_factors_)]
        risks.append(risk(*parts))
    assert risks[0] > risks[1] > risks[2] > risks[3]
    rng = np.random.default_rng(0)
    for k in range(3):
        direction = rng.normal(size=parts[k].shape)
        for size in (-0.01, 0.01):
            moved = [p + size * direction if j == k else p for j, p in enumerate(parts)]
            assert risk(*moved) > risks[-1]


def test_without_features_it_is_what_implicit_computes():
    n = np.array(GOLDEN["counts"], float)
    u, i = np.nonzero(n)
    data = Dataset.from_frames(
        pl.DataFrame({"user_id": u, "item_id": i, "rating": n[u, i]}),
        users=pl.DataFrame({"id": range(n.shape[0])}),
        items=pl.DataFrame({"id": range(n.shape[1])}),
    )
    model = WMF(dim=4, alpha=GOLDEN["alpha"], l2=GOLDEN["l2"], iterations=GOLDEN["rounds"])
    np.testing.assert_allclose(start(model, n.shape[1]), GOLDEN["start"], rtol=1e-6)
    model.fit(data, validation=data)
    np.testing.assert_allclose(model.item_factors_, GOLDEN["item_factors"], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(model._affinity(np.arange(n.shape[0])), GOLDEN["scores"], rtol=1e-3, atol=1e-5)


def test_conjugate_gradients_end_where_exact_updates_do():
    data = rows_world()
    rest = {"dim": 3, "alpha": 1.0, "l2": 3.0, "iterations": 150}
    exact, cg = (WMF(solver=s, **rest).fit(data, validation=data) for s in ("exact", "cg"))
    everyone = np.arange(data.n_users)
    np.testing.assert_allclose(cg._affinity(everyone), exact._affinity(everyone), atol=5e-3)


def test_alpha_zero_is_the_penalised_svd_of_the_exposures():
    data, _ = confounded()
    bare = Dataset(data.users, data.items, data.biased, task=data.task)
    model = WMF(dim=3, alpha=0.0, l2=0.5, reads="exposures", iterations=400).fit(bare, validation=bare)
    a = np.zeros(data.shape)
    a[data.biased.user, data.biased.item] = 1
    u, s, vt = np.linalg.svd(a)
    shrunk = (u[:, :3] * np.maximum(s[:3] - 0.5, 0)) @ vt[:3]
    np.testing.assert_allclose(model._affinity(np.arange(data.n_users)), shrunk, atol=5e-3)


def test_a_new_user_gets_what_a_training_user_with_the_same_rows_has():
    data = rows_world()
    for weight in (1.0, 3.0):
        model = WMF(dim=4, iterations=3, feature_weight=weight).fit(data, validation=data)
        np.testing.assert_allclose(
            model._new_affinity(data), model._affinity(np.arange(40)), rtol=1e-5, atol=1e-6
        )


def test_features_alone_rank_for_a_user_without_history():
    data = rows_world()
    model = WMF(dim=4, l2=3.0).fit(data, validation=data)
    nobody = data.with_logs(data.biased.take(np.zeros(0, np.int64)))
    got = model._new_affinity(nobody)
    h = model.item_factors_.T @ model.item_factors_ + 3.0 * np.eye(4)
    prior = standard(data) @ model.feature_factors_
    # Unobserved cells say 0: the features' part is drawn towards it.
    np.testing.assert_allclose(
        got, 3.0 * prior @ np.linalg.inv(h) @ model.item_factors_.T, rtol=1e-3, atol=1e-5
    )


def test_the_weight_scales_the_features_part_of_the_scores_alone():
    data = rows_world()
    one, none, four = (WMF(dim=3, feature_weight=w).fit(data, validation=data) for w in (1.0, 0.0, 4.0))
    np.testing.assert_array_equal(one.item_factors_, four.item_factors_)
    part = one._affinity(np.arange(40)) - none._affinity(np.arange(40))
    wanted = standard(data) @ one.feature_factors_ @ one.item_factors_.T
    np.testing.assert_allclose(part, wanted, atol=1e-5)
    np.testing.assert_allclose(
        four._affinity(np.arange(40)) - none._affinity(np.arange(40)), 4 * part, atol=1e-5
    )


def test_the_criterion_is_the_correlation_within_users():
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(60), 5)
    own, felt = rng.normal(size=300), rng.normal(size=300)
    rating = own + 6 * felt + rng.normal(size=300) + 50 * user  # a user's level must not count
    chosen = within_exposure(own, felt, rating, user)

    def correlation(weight):
        score, parts = own + weight * felt, []
        for u in range(60):
            mine = user == u
            parts.append(
                np.column_stack([score[mine] - score[mine].mean(), rating[mine] - rating[mine].mean()])
            )
        s, r = np.concatenate(parts).T
        return np.corrcoef(s, r)[0, 1]

    best = max(correlation(w) for w in WEIGHTS)
    error = (1 - best**2) / np.sqrt(300 - 60)
    near = [w for w in WEIGHTS if correlation(w) >= best - error]
    assert 6 in near
    assert 1 not in near
    assert chosen == min(near)  # all above 1: the nearest
    assert within_exposure(own, felt, -6 * felt + own, user) == 0
    noise = rng.normal(size=300)
    assert within_exposure(own, felt, noise + 0.05 * felt, user) == 1  # nothing to tell weights apart by
    assert within_exposure(own, felt, np.full(300, 3.0), user) == 1
    assert within_exposure(own, np.zeros(300), rating, user) == 1
    assert within_exposure(own, felt, rating, np.arange(300)) == 1  # one row a user: nothing to compare


def test_the_weight_is_chosen_on_validation_users_held_out_exposures():
    parts = UsersSplit(1).apply(rows_world(3))
    model = WMF(dim=3, l2=2.0, feature_weight=None).fit(parts.train, validation=parts.holdout)
    assert model.feature_weight_ in WEIGHTS
    history, log = parts.holdout.history, parts.holdout.data.biased
    v, x = model._vectors(history)
    felt = ((x @ model.feature_factors_)[log.user] * model.item_factors_[log.item]).sum(1)
    own = (v[log.user] * model.item_factors_[log.item]).sum(1) - felt
    assert model.feature_weight_ == within_exposure(own, felt, log.rating, log.user)
    other = parts.holdout.data.with_logs(type(log)(log.user, log.item, 6 - log.rating))
    turned = type(parts.holdout)(other, history)
    again = WMF(dim=3, l2=2.0, feature_weight=None).fit(parts.train, validation=turned)
    np.testing.assert_array_equal(again.item_factors_, model.item_factors_)
    assert again.feature_weight_ == within_exposure(own, felt, 6 - log.rating, log.user)


def test_ranks_are_those_of_the_scores():
    data = rows_world()
    model = WMF(dim=4).fit(data)
    score = model._affinity(np.arange(40))
    np.testing.assert_array_equal(np.argsort(score, 1), np.argsort(model._outcome(score), 1))


def test_negative_ratings_are_no_counts():
    data = rows_world()
    log = data.biased
    bad = data.with_logs(type(log)(log.user, log.item, log.rating - 3))
    with pytest.raises(DataError, match="WMF reads ratings as counts, which must be >= 0; the lowest is -2"):
        WMF().fit(bad)
    WMF(dim=2, reads="exposures", iterations=1).fit(bad)


def test_one_item():
    assert np.isfinite(WMF(dim=3).fit(one_item()).score()).all()


def test_no_torch_is_loaded():
    code = (
        "import sys; import deconrec as dc; data, _ = dc.simulate.pairs(n_users=30, n_items=10, seed=0); "
        "dc.WMF(dim=2).fit(data).recommend(k=2); print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
