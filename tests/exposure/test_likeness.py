"""Vectors of users and items: who is like whom, and what new users are given."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from deconrec.checks.fixtures import checkerboard, confounded, empty_user, one_item
from deconrec.data.dataset import Dataset
from deconrec.data.split import take_users
from deconrec.exposure import PoissonExposure, SVDExposure
from deconrec.exposure.likeness import EXPOSURES, FEATURES, Likeness, centre_and_spread, standardised_log
from deconrec.exposure.substitutes import substitutes
from deconrec.kernels.low_rank import LowRank

UNKNOWN_USERS, UNKNOWN_ITEMS = [4, 11, 29], [0, 7]  # those without features


def world(seed=0):
    """50 users and 20 items of which all but a few have features; activities differ widely."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(50, 3)), rng.normal(size=(20, 2))
    shown = rng.random((50, 20)) < 1 / (1 + np.exp(0.5 - x[:, :1] - 1.5 * x[:, 1:2] * y[:, 0]))
    shown[np.arange(50), np.arange(50) % 20] = True
    u, i = np.nonzero(shown)

    def table(name, values, unknown):
        known = np.setdiff1d(np.arange(len(values)), unknown)
        return pl.DataFrame({name: known} | {f"x{k}": values[known, k] for k in range(values.shape[1])})

    return Dataset.from_frames(
        pl.DataFrame({"user_id": u, "item_id": i, "rating": rng.integers(1, 6, len(u)).astype(float)}),
        users=table("user_id", x, UNKNOWN_USERS),
        items=table("item_id", y, UNKNOWN_ITEMS),
        rating_range=(1.0, 5.0),
    )


def likeness(data, *, model=True, features=True, rank=6, exposure_rank=3, seed=0):
    fitted = SVDExposure(dim=5).fit(data) if model is True else model
    rng = np.random.default_rng(seed)
    return Likeness.of(data, features=features, rank=rank, model=fitted, exposure_rank=exposure_rank, rng=rng)


def activity(counts):
    x = np.log1p(counts)
    return (x - x.mean()) / x.std()


CASES = {
    "features and exposures": (world, {}),
    "features": (world, {"model": None}),
    "exposures": (world, {"features": False}),
    "no features there": (lambda: confounded()[0], {}),
    "empty user": (empty_user, {}),
    "one item": (one_item, {}),
    "binary": (lambda: checkerboard()[0], {}),
    "nothing": (world, {"model": None, "features": False}),
}


@pytest.mark.parametrize("case", CASES)
def test_training_users_are_given_their_own_vectors(case):
    make, settings = CASES[case]
    data = make()
    got = likeness(data, **settings)
    np.testing.assert_array_equal(got.users(data), got.phi)
    assert got.phi.shape == (data.n_users, len(got.phi_group))
    assert got.psi.shape == (data.n_items, len(got.psi_group))
    assert got.phi.dtype == got.psi.dtype == np.float32
    assert np.isfinite(got.phi).all()
    assert np.isfinite(got.psi).all()
    few = np.array([0, data.n_users // 2])
    np.testing.assert_allclose(got.users(take_users(data, few)), got.phi[few], atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_columns_stand_in_the_order_of_their_variance(case):
    make, settings = CASES[case]
    got = likeness(make(), **settings)
    for x in (got.phi, got.psi):
        assert (np.diff(x.var(0, dtype=np.float64)) <= 1e-12).all()


@pytest.mark.parametrize("case", CASES)
def test_a_restored_likeness_gives_new_users_the_same_vectors(case):
    make, settings = CASES[case]
    data = make()
    got = likeness(data, **settings)
    again = Likeness.restored({k: np.array(v) for k, v in got.state().items()}, got.model)
    for name in ("phi", "psi", "phi_group", "psi_group", "item_activity"):
        np.testing.assert_array_equal(getattr(again, name), getattr(got, name))
    some = data.with_logs(data.biased.take(np.arange(0, len(data.biased), 2)))
    np.testing.assert_array_equal(again.users(some), got.users(some))
    np.testing.assert_array_equal(again.user_activity(np.arange(5)), got.user_activity(np.arange(5)))
    assert again.state().keys() == got.state().keys()


def test_without_features_and_exposures_there_are_no_vectors():
    got = likeness(world(), model=None, features=False)
    assert got.phi.shape == (50, 0)
    assert got.psi.shape == (20, 0)
    assert got.users(world()).shape == (50, 0)
    assert got.item_activity.shape == (20,)


def test_each_group_has_mean_square_length_1():
    data = world()
    got = likeness(data)
    for x, group, unknown in (
        (got.phi, got.phi_group, UNKNOWN_USERS),
        (got.psi, got.psi_group, UNKNOWN_ITEMS),
    ):
        square = x.astype(float) ** 2
        known = np.setdiff1d(np.arange(len(x)), unknown)
        assert square[known][:, group == FEATURES].sum(1).mean() == pytest.approx(1, abs=1e-5)
        # The variance of an axis is that of a sample.
        assert square[:, group == EXPOSURES].sum(1).mean() == pytest.approx(1, abs=1 / len(x))
        assert x.mean(0, dtype=float) == pytest.approx(0, abs=0.1)


def test_who_has_no_features_stands_at_the_centre_of_the_features_alone():
    got = likeness(world())
    for x, group, unknown in (
        (got.phi, got.phi_group, UNKNOWN_USERS),
        (got.psi, got.psi_group, UNKNOWN_ITEMS),
    ):
        assert (x[unknown][:, group == FEATURES] == 0).all()
        assert (np.abs(x[unknown][:, group == EXPOSURES]).sum(1) > 0).all()
        assert (np.abs(np.delete(x, unknown, axis=0)[:, group == FEATURES]).sum(1) > 0).all()


def test_new_users_without_a_table_of_features_stand_there_too():
    data = world()
    got = likeness(data)
    new = got.users(data._replace(user_features=None))
    assert (new[:, got.phi_group == FEATURES] == 0).all()
    np.testing.assert_array_equal(new[:, got.phi_group == EXPOSURES], got.phi[:, got.phi_group == EXPOSURES])


def test_feature_columns_are_kernel_features_of_those_who_have_some():
    data = world()
    got = likeness(data, model=None, rank=4)
    known = ~data.user_features.missing
    assert known.sum() == 47
    x = data.user_features.values[known]
    wanted = LowRank.of(x, 4, np.random.default_rng(0))(x)
    phi = got.phi[known]
    assert phi.shape == (47, 4)
    np.testing.assert_allclose(phi @ phi.T, wanted @ wanted.T, atol=1e-5)


def test_the_columns_of_a_missing_users_features_are_not_read():
    data = world()
    values = np.array(data.user_features.values)
    values[UNKNOWN_USERS] = 1e3
    other = data._replace(
        user_features=type(data.user_features)(("a", "b", "c"), values, data.user_features.missing)
    )
    np.testing.assert_array_equal(likeness(other).phi, likeness(data).phi)


@pytest.mark.parametrize("model", [SVDExposure(dim=5), PoissonExposure(dim=3, iterations=20, check_draws=0)])
def test_exposure_columns_are_principal_axes_of_z_and_the_activity(model):
    data = world()
    model = model.fit(data)
    got = likeness(data, model=model, features=False, exposure_rank=2)
    z = substitutes(model, data).astype(float)
    left, value, _ = np.linalg.svd(z - z.mean(0), full_matrices=False)
    axes = left[:, :2] * value[:2] / value[0] * np.sqrt(len(z) - 1)
    assert got.phi.shape == (50, 3)
    n = np.bincount(data.biased.user, minlength=50)
    wanted = np.column_stack([axes, activity(n)])
    wanted /= np.sqrt(1 + 1 + (value[1] / value[0]) ** 2)
    np.testing.assert_allclose(got.phi @ got.phi.T, wanted @ wanted.T, atol=1e-4)


def test_item_columns_are_ridge_regressions_of_exposures_on_the_axes():
    data = world()
    got = likeness(data, features=False)
    a = np.zeros(data.shape)
    a[data.biased.user, data.biased.item] = 1
    n_i = a.sum(0)
    z = substitutes(got.model, data).astype(float)
    left, value, _ = np.linalg.svd(z - z.mean(0), full_matrices=False)
    axes = left[:, :3] * value[:3] / value[0] * np.sqrt(len(z) - 1)
    v = np.zeros((20, 3))
    for i in range(20):
        v[i] = np.linalg.lstsq(axes, (a[:, i] - a[:, i].mean()) / np.sqrt(n_i[i] + 1), rcond=None)[0]
    v -= v.mean(0)
    v *= axes.std(0) / np.sqrt((v**2).mean(0))
    both = np.column_stack([v, activity(n_i)])
    both /= np.sqrt((both**2).sum(1).mean())
    np.testing.assert_allclose(got.psi @ got.psi.T, both @ both.T, atol=1e-3)
    np.testing.assert_allclose(got.item_activity, activity(n_i), atol=1e-5)


def test_ranks_are_upper_bounds():
    got = likeness(world(), rank=2, exposure_rank=1)
    for group in (got.phi_group, got.psi_group):
        assert (group == FEATURES).sum() == 2
        assert (group == EXPOSURES).sum() == 2  # an axis and the activity
    wide = likeness(world(), rank=1000, exposure_rank=1000)
    assert (wide.phi_group == EXPOSURES).sum() == 6
    assert (wide.phi_group == FEATURES).sum() <= 47


def test_activities_are_logarithms_on_the_training_users_scale():
    counts = np.array([0, 1, 7, 40, 3])
    np.testing.assert_allclose(standardised_log(counts, centre_and_spread(counts)), activity(counts))
    np.testing.assert_array_equal(
        standardised_log(np.full(4, 3), centre_and_spread(np.full(4, 3))), np.zeros(4)
    )
    assert centre_and_spread(np.zeros(0)).tolist() == [0, 1]
    data = world()
    n = np.bincount(data.biased.user, minlength=50)
    np.testing.assert_allclose(likeness(data).user_activity(n), activity(n))
