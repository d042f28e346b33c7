from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss, mean_squared_error, roc_auc_score

from deconrec.errors import DataError, ParameterError
from deconrec.evaluation import rating


def soft_auc_by_loops(score, p):
    """Every ordered pair of different rows, one by one."""
    right = pairs = 0.0
    for i in range(len(score)):
        for j in range(len(score)):
            if i != j:
                weight = p[i] * (1 - p[j])
                pairs += weight
                right += weight * (1.0 if score[i] > score[j] else 0.5 if score[i] == score[j] else 0.0)
    return right / pairs


def labelled(rng, n, levels):
    label = rng.random(n) < 0.3
    label[:2] = True, False
    return rng.integers(levels, size=n) / 4, label


@pytest.mark.parametrize("levels", [2, 5, 10**6])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_auc_agrees_with_scikit_learn(levels, dtype):
    rng = np.random.default_rng(levels)
    for n in (2, 50, 3000):
        score, label = labelled(rng, n, levels)
        score, weight = score.astype(dtype), rng.random(n) + 0.1
        assert rating.auc(score, label) == pytest.approx(roc_auc_score(label, score), abs=1e-12)
        expected = roc_auc_score(label, score, sample_weight=weight)
        assert rating.auc(score, label, weight) == pytest.approx(expected, abs=1e-12)


def test_auc_by_hand():
    # Pairs (positive, negative): 3 > 1 right, 3 = 3 half, 2 > 1 right, 2 < 3 wrong.
    assert rating.auc([3, 2, 1, 3], [1, 1, 0, 0]) == pytest.approx(2.5 / 4)
    assert rating.auc([3, 2, 1, 3], [1, 1, 0, 0], [1, 0, 1, 1]) == pytest.approx(1.5 / 2)


def test_integer_weights_are_repetitions():
    rng = np.random.default_rng(0)
    score, label = labelled(rng, 40, 6)
    weight = rng.integers(0, 4, 40)
    repeated = rating.auc(np.repeat(score, weight), np.repeat(label, weight))
    assert rating.auc(score, label, weight) == pytest.approx(repeated, abs=1e-12)


def test_auc_of_one_class_is_nan():
    assert np.isnan(rating.auc([1.0, 2.0], [1, 1]))
    assert np.isnan(rating.auc([1.0, 2.0], [0, 0]))
    assert np.isnan(rating.auc([], []))
    assert np.isnan(rating.auc([1.0, 2.0], [0, 1], [1.0, 0.0]))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=40))
def test_auc_properties(rows):
    score, label = np.array([s for s, _ in rows], float), np.array([y for _, y in rows])
    if label.all() or not label.any():
        return
    value = rating.auc(score, label)
    assert 0 <= value <= 1
    assert rating.auc(np.exp(score), label) == pytest.approx(value, abs=1e-12)
    assert rating.auc(score[::-1], label[::-1]) == pytest.approx(value, abs=1e-12)
    assert rating.auc(-score, label) == pytest.approx(1 - value, abs=1e-12)
    assert rating.auc(label, label) == 1.0
    assert rating.auc(np.zeros(len(score)), label) == 0.5


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_soft_auc_equals_the_loops(levels):
    rng = np.random.default_rng(levels)
    for n in (2, 7, 40):
        score, p = rng.integers(levels, size=n), rng.random(n)
        assert rating.soft_auc(score, p) == pytest.approx(soft_auc_by_loops(score, p), abs=1e-12)


def test_soft_auc_of_certain_labels_is_auc():
    score, label = labelled(np.random.default_rng(1), 60, 9)
    assert rating.soft_auc(score, label) == pytest.approx(rating.auc(score, label), abs=1e-12)


def test_soft_auc_is_expected_concordant_over_expected_pairs():
    rng = np.random.default_rng(2)
    p = rng.random(8)
    score = p + rng.normal(0, 0.3, 8)
    right = pairs = 0.0
    for _ in range(4000):
        label = rng.random(8) < p
        up, down = score[label], score[~label]
        right += float((up[:, None] > down).sum())
        pairs += len(up) * len(down)
    assert rating.soft_auc(score, p) == pytest.approx(right / pairs, abs=0.01)


def test_soft_auc_without_pairs_is_nan():
    for score, p in (([], []), ([1.0], [0.5]), ([1.0, 2.0], [1.0, 1.0]), ([1.0, 2.0], [0.0, 0.0])):
        assert np.isnan(rating.soft_auc(score, p))


def test_mse_and_log_loss_agree_with_scikit_learn():
    rng = np.random.default_rng(3)
    p, label = rng.uniform(0.01, 0.99, 500), rng.random(500) < 0.4
    assert rating.mse(p, label) == pytest.approx(brier_score_loss(label, p))
    stars = rng.integers(1, 6, 500)
    assert rating.mse(p, stars) == pytest.approx(mean_squared_error(stars, p))
    assert rating.logloss(p, label) == pytest.approx(log_loss(label, p))


def test_log_loss_clips_certain_predictions_in_single_precision_too():
    certain = np.array([1.0], np.float32)
    assert rating.logloss(certain, [0]) == pytest.approx(-np.log(1e-7), rel=1e-6)
    assert rating.logloss(certain, [1]) == pytest.approx(1e-7, rel=1e-3)
    assert rating.logloss(certain, [0], eps=0.01) == pytest.approx(-np.log(0.01))


def test_log_loss_takes_probabilities_as_labels():
    p, truth = np.array([0.2, 0.7]), np.array([0.3, 0.6])
    expected = np.mean([-(t * np.log(q) + (1 - t) * np.log(1 - q)) for q, t in zip(p, truth, strict=True)])
    assert rating.logloss(p, truth) == pytest.approx(expected)


def test_empty_columns_give_nan():
    assert np.isnan(rating.mse([], []))
    assert np.isnan(rating.logloss([], []))


def test_errors():
    with pytest.raises(DataError, match="expects 0 or 1 in `label`"):
        rating.auc([1.0, 2.0], [-1, 1])
    with pytest.raises(DataError, match="1 of 2 are NaN"):
        rating.auc([np.nan, 2.0], [0, 1])
    with pytest.raises(DataError, match="1 of 2 are negative"):
        rating.auc([1.0, 2.0], [0, 1], [1.0, -1.0])
    with pytest.raises(DataError, match="`label` has 1 rows"):
        rating.auc([1.0, 2.0], [1])
    with pytest.raises(DataError, match="numbers from 0 to 1 in `probability`"):
        rating.logloss([1.2], [1])
    with pytest.raises(DataError, match="`outcome` has 1 rows"):
        rating.mse([1.0, 2.0], [1.0])
    with pytest.raises(ParameterError, match="'eps' must lie between 0 and"):
        rating.logloss([0.5], [1], eps=0.0)


def correlation_by_loops(score, r, user):
    """Rows less their user's mean, one user at a time; then the correlation of what is left."""
    a, b = [], []
    for u in set(user.tolist()):
        mine = [k for k in range(len(user)) if user[k] == u]
        for k in mine:
            a.append(score[k] - sum(score[j] for j in mine) / len(mine))
            b.append(r[k] - sum(r[j] for j in mine) / len(mine))
    size = (sum(x * x for x in a) * sum(y * y for y in b)) ** 0.5
    return sum(x * y for x, y in zip(a, b, strict=True)) / size


def test_correlation_within_users():
    rng = np.random.default_rng(3)
    user, score, r = rng.integers(9, size=60), rng.normal(size=60), rng.integers(1, 6, 60).astype(float)
    found = rating.correlation_within_users(score, r, user)
    assert found == pytest.approx(correlation_by_loops(score, r, user), abs=1e-12)
    assert rating.correlation_within_users(3 * score + 10 * user, r, user) == pytest.approx(found)
    assert rating.correlation_within_users(r + user, r, user) == pytest.approx(1)
    assert rating.correlation_within_users(user, r, user) == 0  # nothing within a user
    assert np.isnan(rating.correlation_within_users(np.where(score > 1, np.inf, score), r, user))
