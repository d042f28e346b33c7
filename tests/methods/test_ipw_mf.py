"""IPW-MF against loops: the weighted minimum, its weights, and users it never saw."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deconrec.checks.bench import quiet
from deconrec.checks.fixtures import confounded, rows_world
from deconrec.data.dataset import Dataset, Log
from deconrec.kernels.response import EDGE, bent
from deconrec.methods.ipw_mf import IPWMF
from deconrec.pairs import NO_TABLES
from deconrec.propensity import Known, LogisticMF, NaiveBayes, Popularity
from deconrec.random import numpy_generator
from manual import factors

REST = {"dim": 2, "l2": 1.5, "iterations": 3}


def fit(data, propensity=None, **parameters):
    model = IPWMF(**(REST | {"propensity": propensity or Popularity(floor=1e-6)} | parameters))
    with quiet():
        return model.fit(data, validation=data)


def twin(data, w, rounds=3, l2=1.5, dim=2, seed=0):
    """ALS by loops: user vectors (p, b) drawn to x y, item vectors (q, b)."""
    log, r = data.biased, data.outcome(data.biased).astype(float)
    mu = (w @ r) / w.sum()
    x = data.user_features.values.astype(float)
    x = (x - x.mean(0)) / x.std(0)
    q = np.hstack(
        [
            numpy_generator(seed, "initial values").standard_normal((data.n_items, dim)) * 0.1,
            np.zeros((data.n_items, 1)),
        ]
    )
    y, h = np.zeros((x.shape[1], dim + 1)), l2 * np.eye(dim + 1)

    def side(mine, n, other, theirs, prior):
        out = []
        for a in range(n):
            rows = [
                ([*other[theirs[j]][:-1], 1.0], w[j], w[j] * (r[j] - mu - other[theirs[j]][-1]))
                for j in np.flatnonzero(mine == a)
            ]
            out.append(factors.ridge(rows, h, prior[a]))
        return np.array(out)

    for _ in range(rounds):
        v = side(log.user, data.n_users, q, log.item, l2 * (x @ y))
        y = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ v)
        q = side(log.item, data.n_items, v, log.user, np.zeros((data.n_items, dim + 1)))
    v = side(log.user, data.n_users, q, log.item, l2 * (x @ y))
    return mu + v[:, :-1] @ q[:, :-1].T + v[:, -1:] + q[:, -1]


def test_predictions_equal_the_twin():
    data = rows_world()
    rate = np.bincount(data.biased.item, minlength=data.n_items) / data.n_users
    w = 1 / rate[data.biased.item]
    model = fit(data)
    wanted = twin(data, w / w.mean())
    np.testing.assert_allclose(model._affinity(np.arange(40)), wanted, rtol=2e-3, atol=5e-4)
    np.testing.assert_allclose(model._block(np.arange(40)), bent(wanted), rtol=2e-3, atol=5e-4)


def test_equal_propensities_are_plain_matrix_factorisation():
    data = rows_world()
    for p in (0.2, 0.9):
        model = fit(data, Known(values=np.full(data.shape, p)))
        wanted = twin(data, np.ones(len(data.biased)))
        np.testing.assert_allclose(model._affinity(np.arange(40)), wanted, rtol=2e-3, atol=5e-4)


def test_true_propensities_mend_the_mean():
    """With lambda huge, predictions are the weighted mean: near the randomised rows', far from the log's."""
    data = confounded()[0]
    assert data.unbiased is not None
    model = fit(data, NaiveBayes(), l2=1e6)
    mean = model._block(np.arange(data.n_users)).mean()
    target = data.outcome(data.unbiased).mean()
    naive = data.outcome(data.biased).mean()
    assert abs(mean - target) < 0.35 * abs(naive - target)


def test_new_users_weights():
    data = rows_world()
    log = data.biased
    popular = fit(data)
    rate = np.bincount(log.item, minlength=data.n_items) / data.n_users
    w = 1 / rate[log.item]
    got = popular._new_weights(data, popular._x(data.user_features, 40))
    np.testing.assert_allclose(got, w / w.mean(), rtol=1e-5)
    # A propensity that knows training users only: an item's mean weight.
    p = np.random.default_rng(0).uniform(0.2, 1, data.shape)
    known = fit(data, Known(values=p))
    w = 1 / p[log.user, log.item]
    w /= w.mean()
    mean = np.array([w[log.item == i].mean() for i in log.item])
    np.testing.assert_allclose(known._new_weights(data, np.zeros((40, 3))), mean, rtol=1e-5)


@pytest.mark.parametrize("folds", [1, 2])
def test_the_default_propensity_reads_new_users_features(folds):
    data = rows_world()
    model = fit(data, LogisticMF(backbone="fm", dim=3, epochs=5, folds=folds))
    x = model._x(data.user_features, 40)
    one, other = model._new_weights(data, x), model._new_weights(data, x[::-1].copy())
    assert not np.allclose(one, other)
    net = model.propensity_.nets_[model.propensity_.names[0]]
    if folds == 1:
        with torch.no_grad():
            own, bias = net.new_users(40, torch.from_numpy(x))
            q, b_i = (t.numpy() for t in net.item_side(NO_TABLES))
        u, i = data.biased.user[3], data.biased.item[3]
        logit = own.numpy()[u] @ q[i] + bias.numpy()[u] + b_i[i]
        p = max(1 / (1 + np.exp(-logit)), model.propensity_.floor_)
        assert one[3] == pytest.approx(1 / p / model.offset_[1], rel=1e-5)


def test_a_new_user_gets_what_a_training_user_with_the_same_rows_and_weights_has():
    data = rows_world()
    model = fit(data)
    np.testing.assert_allclose(
        model._new_affinity(data), model._affinity(np.arange(40)), rtol=1e-4, atol=1e-5
    )


def test_unexposed_cells_are_not_read_as_ratings():
    """The published relative weighs unexposed cells by 256; here only observed rows count, zero ratings too."""
    data = confounded()[0]
    log = data.biased
    bare = Dataset(data.users, data.items, log, task=data.task)
    ones = bare.with_logs(Log(log.user, log.item, np.ones(len(log))))
    model = fit(ones, Known(values=np.full(data.shape, 0.5)))
    assert model._affinity(np.arange(data.n_users)).min() > 0.99


def test_bent_is_increasing_and_the_identity_inside():
    x = np.linspace(-0.5, 1.5, 2001)
    y = bent(x)
    assert (np.diff(y) > 0).all()
    assert 0 < y.min() < y.max() < 1
    inside = (x >= EDGE) & (x <= 1 - EDGE)
    np.testing.assert_array_equal(y[inside], x[inside])
    assert np.abs(np.diff(y)).max() < 1.01e-3  # no jump


def test_the_overlap_of_the_weights_is_kept():
    data = rows_world()
    model = fit(data, LogisticMF(dim=2, epochs=3))
    assert model.overlap_.n == len(data.biased)
