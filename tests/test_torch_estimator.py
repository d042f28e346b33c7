"""What the engine's methods share: calibration of row methods, samplers by size, nuisances, validation scores."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest
from scipy.special import expit

from deconrec import torch_estimator
from deconrec.checks.fixtures import checkerboard, confounded, rows_world
from deconrec.data.dataset import Dataset, Features
from deconrec.data.split import ValidationPart
from deconrec.evaluation.rating import auc, logloss, mse
from deconrec.methods.concat_vae import ConcatVAE
from deconrec.methods.deep_deconf import DeepDeconf
from deconrec.methods.dr_jl import DRJL
from deconrec.methods.ips import IPS
from deconrec.methods.mf import MF
from deconrec.nn.mf import fold_in
from deconrec.pairs import NO_TABLES
from deconrec.propensity import LogisticMF
from deconrec.torch_estimator import pairs_score, platt
from deconrec.training.samplers import Blocks, UniformPairs


# ---------------------------------------------------------------------- the map from affinities to outcomes
def test_platt_finds_the_curve_again():
    x = np.random.default_rng(0).normal(-4, 2, 20_000)
    slope, shift = platt(x, expit(0.7 * x + 1.5))
    assert slope == pytest.approx(0.7, rel=1e-3)
    assert shift == pytest.approx(1.5, abs=5e-3)


def drawn_in(r):
    """Platt's targets, row by row: (n1 + 1) / (n1 + 2) for a 1, 1 / (n0 + 2) for a 0."""
    ones, zeros = sum(r), sum(1 - v for v in r)
    return np.array([v * (ones + 1) / (ones + 2) + (1 - v) / (zeros + 2) for v in r])


def test_platt_is_calibrated_in_the_mean():
    rng = np.random.default_rng(1)
    x = rng.normal(size=5000)
    r = (rng.random(5000) < expit(2 * x)).astype(float)
    slope, shift = platt(x, r)
    assert expit(slope * x + shift).mean() == pytest.approx(drawn_in(r).mean(), abs=1e-6)
    assert expit(slope * x + shift).mean() == pytest.approx(r.mean(), abs=1 / len(r))


def long_tails():
    """Most scores at 0, few far away: Newton's full step overshoots."""
    rng = np.random.default_rng(2)
    x = np.concatenate([rng.normal(0, 0.01, 3000), -np.abs(rng.normal(0, 40, 30))])
    return x, np.concatenate([np.ones(3000), np.zeros(30)])


@pytest.mark.parametrize("case", ["noisy", "separable", "long tails"])
def test_platt_is_the_least_of_its_loss(case):
    from scipy.optimize import minimize

    rng = np.random.default_rng(3)
    x = rng.normal(-3, 2, 400)
    r = {"noisy": rng.random(400) < expit(x + 3), "separable": x > -3}.get(case, np.zeros(1)) * 1.0
    if case == "long tails":
        x, r = long_tails()
    t, z = drawn_in(r), (x - x.mean()) / x.std()

    def loss(ab):
        l = ab[0] * z + ab[1]
        return sum(np.logaddexp(0, l) - t * l) + 0.5e-3 * ab[0] ** 2

    best = min(
        (
            minimize(
                loss, start, method="Nelder-Mead", options={"maxiter": 4000, "xatol": 1e-9, "fatol": 1e-12}
            )
            for start in ([0.0, 0.0], [5.0, 1.0])
        ),
        key=lambda found: found.fun,
    )
    slope, shift = platt(x, r)
    ours = np.array([slope * x.std(), shift + slope * x.mean()])
    assert loss(ours) <= best.fun + 1e-6
    np.testing.assert_allclose(ours, best.x, rtol=1e-3, atol=1e-3)


SCORES = np.linspace(-9, 0, 200)
GRID = np.linspace(-9, 0, 500, dtype=np.float32)


@pytest.mark.parametrize(
    ("x", "r"),
    [
        (SCORES, np.ones(200)),
        (SCORES, np.zeros(200)),
        (SCORES, np.linspace(1, 0, 200)),  # falling: the ranking stays the network's
        (np.full(200, -3.0), np.arange(200) % 2.0),
        (np.zeros(0), np.zeros(0)),
        (np.array([-1.0]), np.array([1.0])),
    ],
    ids=["ones", "zeros", "falling", "flat", "empty", "single"],
)
def test_platt_keeps_the_ranking_in_single_precision(x, r):
    slope, shift = platt(x, r)
    p = np.asarray(expit(slope * GRID + shift), np.float32)
    assert (np.diff(p) > 0).all()


def test_platt_keeps_the_ranking_of_scores_that_separate_the_outcomes():
    """Beyond the scores that were seen, too: nobody's list is a tie."""
    slope, shift = platt(SCORES, (np.arange(200) > 100) * 1.0)
    p = np.asarray(expit(slope * GRID + shift), np.float32)
    assert (np.diff(p) > 0).all()
    assert p[0] < 0.02
    assert p[-1] > 0.98


def test_platt_tells_hated_from_loved_where_few_were_shown_what_they_hate():
    x, r = long_tails()
    slope, shift = platt(x, r)
    assert expit(slope * -40 + shift) < 0.05
    assert expit(shift) > 0.95


@pytest.mark.parametrize("cls", [ConcatVAE, DeepDeconf])
def test_likes_alone_still_rank(cls):
    """All outcomes are 1: expected outcomes hardly differ, and must still order the items as the network does."""
    data, _ = checkerboard(likes_only=True)
    model = cls(hidden=(4,), epochs=3).fit(data)
    affinity = model._source_affinity(model.rows_, np.arange(data.n_users))
    scores = model.score()
    assert scores.dtype == np.float32
    for mine, network in zip(scores, affinity, strict=True):
        assert (np.diff(network[np.argsort(-mine, kind="stable")]) < 1e-3).all()  # near-ties may swap


def test_expected_outcomes_of_a_row_method_are_calibrated_on_training_exposures():
    data = rows_world()
    model = ConcatVAE(hidden=(8,), epochs=10).fit(data, validation=data)
    log = data.biased
    predicted = model.predict((data.users.decode(log.user), data.items.decode(log.item)))
    assert predicted.mean() == pytest.approx(log.rating.mean(), abs=0.02)


def test_pairs_of_many_users_are_scored_in_blocks():
    rng = np.random.default_rng(0)
    u, i = np.divmod(rng.permutation(2500 * 4)[:6000], 4)
    data = Dataset.from_frames(pl.DataFrame({"user_id": u, "item_id": i, "rating": rng.integers(0, 2, 6000)}))
    model = ConcatVAE(hidden=(3,), epochs=1).fit(data)
    users, items = rng.permutation(data.n_users)[:1500], rng.integers(0, 4, 1500)
    np.testing.assert_allclose(
        model._pairs(users, items), model._block(users)[np.arange(1500), items], atol=1e-6
    )


# ---------------------------------------------------------------------- validation scores
def test_what_validation_is_scored_by():
    binary, _ = confounded()
    model = MF(dim=2, epochs=1).fit(binary)
    log = binary.biased
    p, r = model._pairs(log.user, log.item), binary.outcome(log)
    assert pairs_score(model, binary, log) == pytest.approx(auc(p, r))
    liked = log.take(r == 1)
    assert pairs_score(model, binary, liked) == pytest.approx(
        -logloss(model._pairs(liked.user, liked.item), np.ones(len(liked)))
    )
    stars = rows_world()
    model = MF(dim=2, epochs=1).fit(stars)
    log = stars.biased
    p, r = model._pairs(log.user, log.item), stars.outcome(log)
    assert pairs_score(model, stars, log) == pytest.approx(-mse(p, r))


def test_a_row_method_is_validated_on_the_outcome_s_scale():
    """A squared error of affinities would reward a network for small numbers."""
    data = rows_world()
    model = ConcatVAE(hidden=(8,), epochs=3, patience=0).fit(data)
    worst_constant = -np.mean((data.outcome(data.biased) - 0.0) ** 2)
    for score in model.history_.curve("score"):
        assert score > worst_constant / 2


def test_new_users_are_judged_by_their_held_out_positives():
    from deconrec.data.split import UsersSplit

    parts = UsersSplit(seed=1, validation=0.3).apply(rows_world())
    model = ConcatVAE(hidden=(4,), epochs=1).fit(parts.train, validation=parts.holdout)
    held = parts.holdout
    assert held.history is not None
    scores = np.where(
        held.history.biased.pattern(held.history.shape).toarray() > 0, -np.inf, model._affinity(held.history)
    )
    positive = held.data.biased.take(held.data.biased.rating >= 5)
    values = []
    for u in np.unique(positive.user):
        ranks = np.argsort(np.argsort(-scores[u]))[positive.item[positive.user == u]]
        gain = sum(1 / np.log2(rank + 2) for rank in ranks if rank < 20)
        values.append(gain / sum(1 / np.log2(k + 2) for k in range(min(20, len(ranks)))))
    assert model.history_.curve("score") == pytest.approx([np.mean(values)], rel=1e-5)


# ---------------------------------------------------------------------- samplers, nuisances, features
def test_large_spaces_are_sampled_and_small_ones_visited(monkeypatch):
    data, _ = confounded()
    assert isinstance(DRJL().sampler(data), Blocks)
    assert MF(batch=7).sampler(data) == UniformPairs(7)
    monkeypatch.setattr(torch_estimator, "LARGEST_GRID", 10)
    model = DRJL(dim=2, epochs=2, batch=200)
    assert model.sampler(data) == UniformPairs(50, 200)
    assert np.isfinite(model.fit(data).score()).all()


def test_a_nuisance_is_fitted_as_a_copy_with_the_seed_of_its_method():
    data, _ = confounded()
    mine = LogisticMF(dim=2, epochs=1, seed=9)
    model = IPS(dim=2, epochs=1, seed=3, propensity=mine).fit(data)
    assert model.propensity is mine
    assert not hasattr(mine, "nets_")
    assert (mine.seed, model.propensity_.seed) == (9, 3)


def test_features_are_standardised_on_the_users_that_have_them():
    data = rows_world()
    values = np.array(data.user_features.values)
    missing = np.arange(len(values)) % 4 == 0
    values[missing] = 1e6  # a fill that must not count
    values[:, 2] = 7.0  # a constant column
    holed = dataclasses.replace(data, user_features=Features(data.user_features.names, values, missing))
    model = ConcatVAE(hidden=(3,), epochs=1).fit(holed)
    np.testing.assert_allclose(model.x_mean_, values[~missing].mean(0), rtol=1e-5)
    np.testing.assert_allclose(model.x_std_[:2], values[~missing].std(0)[:2], rtol=1e-5)
    assert model.x_std_[2] == 1.0
    x = model.tables(holed).user.numpy()[~missing]
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(x.std(0)[:2], 1, rtol=1e-4)


def test_training_stops_by_patience_and_keeps_its_best():
    data, _ = confounded()
    model = MF(dim=2, epochs=200, patience=3, lr=0.1).fit(data)
    scores = model.history_.curve("score")
    assert model.history_.stopped == "patience"
    assert len(scores) == model.history_.best_epoch + 1 + 3
    assert max(scores) == scores[model.history_.best_epoch]


def test_without_validation_rows_the_last_state_is_kept():
    data, _ = confounded()
    nothing = ValidationPart(data.with_logs(data.biased.take(np.zeros(0, np.int64))))
    model = MF(dim=2, epochs=4).fit(data, validation=nothing)
    assert model.history_.best_epoch == 3
    assert not model.history_.curve("score")


def test_fold_in_has_the_penalty_of_training():
    """The objective is a mean over n rows plus (l2 / 2) ||theta||^2: for the sum over a user's rows that is l2 n."""
    data, _ = confounded()
    model = MF(dim=2, epochs=3, l2=0.02).fit(data)
    items, r = np.arange(6), np.arange(6) % 2.0
    history = pl.DataFrame({"user_id": ["new"] * 6, "item_id": data.items.decode(items), "rating": r})
    net = model.nets_.prediction
    sides = net.item_side(NO_TABLES), net.new_users(1, None)
    wanted = fold_in(*sides, np.zeros(6, int), items, r, penalty=0.02 * model.spec_.rows)
    np.testing.assert_allclose(model.score(history=history), wanted, atol=1e-6)
