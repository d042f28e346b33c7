"""Poisson factorisation of exposures against loops; the confounders of new users."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from deconrec.checks.fixtures import checkerboard, confounded, rows_world
from deconrec.data.dataset import Dataset
from deconrec.exposure import PoissonExposure
from deconrec.methods.deep_deconf import DeepDeconf
from deconrec.pairs import NO_TABLES
from deconrec.random import numpy_generator
from deconrec.training.samplers import Source, user_rows
from manual import factors


def exposures(data):
    a = np.zeros(data.shape)
    a[data.biased.user, data.biased.item] = 1
    return a


def rows_of(data):
    return user_rows(Source.of(data, NO_TABLES), np.arange(data.n_users))[0]


def test_two_rounds_equal_the_twin():
    data = rows_world()
    model = PoissonExposure(dim=3, shape=0.4, rate=0.6, iterations=3, tolerance=0, check_draws=0).fit(data)
    rng = numpy_generator(0, "exposure")
    near = [rng.gamma(100.0, 0.01, (2, n, 3)) for n in data.shape]
    theta, beta = ((1.4 * each[0], 0.6 * each[1]) for each in near)
    for _ in range(3):
        theta, beta = factors.poisson_round(exposures(data), theta, beta, 0.4, 0.6)
    np.testing.assert_allclose(model.item_shape_, beta[0], rtol=1e-4)
    np.testing.assert_allclose(model.item_rate_, beta[1], rtol=1e-4)


def test_the_bound_rises_with_every_round_and_lies_below_the_evidence():
    data, _ = confounded()
    model = PoissonExposure(dim=4, iterations=60, tolerance=0, check_draws=0).fit(data)
    assert len(model.bound_) == 60
    assert (np.diff(model.bound_) > -1e-3).all()
    assert model.bound_[-1] > model.bound_[0] + 10
    short = PoissonExposure(dim=4, iterations=60, tolerance=1e-3, check_draws=0).fit(data)
    assert 2 < len(short.bound_) < 60
    # One factor, one user, one item, one exposure: the evidence is an integral over two numbers.
    one = Dataset.from_frames(pl.DataFrame({"user_id": [0], "item_id": [0], "rating": [1.0]}))
    bound = PoissonExposure(dim=1, shape=2.0, rate=2.0, iterations=200, check_draws=0).fit(one).bound_[-1]
    draws = np.random.default_rng(0).gamma(2.0, 0.5, (2, 400_000)).prod(0)
    evidence = np.log((draws * np.exp(-draws)).mean())
    assert evidence - 0.2 < bound < evidence


def test_one_factor_is_activity_times_popularity():
    data, _ = confounded()
    a = exposures(data)
    weak = {"shape": 1e-3, "rate": 1e-3, "iterations": 200, "tolerance": 0.0, "check_draws": 0}
    got = PoissonExposure(dim=1, **weak).fit(data)
    a_hat = got.decode(got.confounder(rows_of(data))).numpy()
    np.testing.assert_allclose(a_hat, np.outer(a.sum(1), a.sum(0)) / a.sum(), rtol=1e-2, atol=1e-3)


def test_new_users_confounders_are_the_fixed_point_of_the_update_and_need_no_company():
    data = rows_world()
    model = PoissonExposure(dim=3, iterations=300, tolerance=0, check_draws=0).fit(data)
    z = model.confounder(rows_of(data)).numpy()
    alone = np.vstack(
        [model.confounder(user_rows(Source.of(data, NO_TABLES), np.array([u]))[0]).numpy() for u in range(40)]
    )
    np.testing.assert_allclose(z, alone, rtol=1e-5)
    shape, rate = model.factors(rows_of(data))
    beta = (model.item_shape_, model.item_rate_)
    theta, _ = factors.poisson_round(
        exposures(data), (shape, np.tile(rate, (40, 1))), beta, model.shape, model.rate
    )
    np.testing.assert_allclose(theta[0], shape, rtol=2e-2, atol=2e-2)
    np.testing.assert_allclose(z, np.array(theta[0]) / rate, rtol=2e-2, atol=1e-2)
    assert (
        model.confounder(rows_of(data.with_logs(data.biased.take(np.zeros(0, int))))).numpy().max() < z.max()
    )


def test_held_items_are_missing_not_zero():
    data = rows_world()
    model = PoissonExposure(dim=3, iterations=50, check_draws=0).fit(data)
    held = np.arange(0, 25, 2)
    kept = data.with_logs(data.biased.take(~np.isin(data.biased.item, held)))
    shape, rate = model.factors(rows_of(kept), held)
    mean = model.item_shape_ / model.item_rate_
    np.testing.assert_allclose(rate, model.rate + mean[np.setdiff1d(np.arange(25), held)].sum(0))
    as_zero = model.factors(rows_of(kept))
    assert (rate < as_zero[1]).all()
    assert (shape / rate).sum() > (as_zero[0] / as_zero[1]).sum()


def test_probabilities_are_those_of_a_count_above_zero():
    data, _ = checkerboard(likes_only=True)
    model = PoissonExposure(dim=2, iterations=100).fit(data)
    a_hat = model.decode(model.confounder(rows_of(data))).numpy()
    p = model.reconstruct(rows_of(data)).numpy()
    np.testing.assert_allclose(p, 1 - np.exp(-a_hat), rtol=1e-5, atol=1e-6)
    u, i = np.indices(data.shape)
    liked = u % 2 == i % 2
    assert p[liked].mean() > 0.4
    assert p[~liked].max() < 0.1
    logits = model.posterior_logits(rows_of(data), np.array([0, 3]), 400, np.random.default_rng(0))
    assert logits.shape == (400, 40, 2)
    assert (1 / (1 + np.exp(-logits))).mean(0)[0, 0] == pytest.approx(p[0, 0], abs=0.1)


def test_ratings_are_not_read_and_seeds_are():
    data = rows_world()
    other = data.with_logs(type(data.biased)(data.biased.user, data.biased.item, 6 - data.biased.rating))
    settings = {"dim": 2, "iterations": 5, "check_draws": 0}
    a, b = (PoissonExposure(**settings).fit(d).item_shape_ for d in (data, other))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, PoissonExposure(seed=1, **settings).fit(data).item_shape_)


def test_deep_deconf_takes_its_confounders():
    data = rows_world()
    model = DeepDeconf(epochs=1, hidden=(4,), exposure=PoissonExposure(dim=3, iterations=5)).fit(data)
    assert model.substitute_confounder().shape == (40, 3)
    assert "exposure=PoissonExposure(dim=3, iterations=5)" in repr(model)
