"""Singular vectors of exposures against the dense decomposition."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from deconrec.base import Spec
from deconrec.checks.fixtures import confounded, empty_user, one_item, rows_world
from deconrec.data.dataset import Dataset
from deconrec.data.split import take_users
from deconrec.exposure import SVDExposure
from deconrec.pairs import NO_TABLES
from deconrec.training.samplers import Source, user_rows


def exposures(data):
    a = np.zeros(data.shape)
    a[data.biased.user, data.biased.item] = 1
    return a


def rows_of(data):
    return user_rows(Source.of(data, NO_TABLES), np.arange(data.n_users))[0]


def scaled(data):
    """A~ of the docstring."""
    a = exposures(data)
    return a / np.sqrt(a.sum(1, keepdims=True) + 1) / np.sqrt(a.sum(0) + 1)


def log_of(pattern):
    """A data set with a row for every 1 of a matrix, in which every user and every item has a row."""
    u, i = np.nonzero(pattern)
    return Dataset.from_frames(pl.DataFrame({"user_id": u, "item_id": i, "rating": (u + i) % 5 + 1.0}))


@pytest.mark.parametrize("dim", [1, 6])
@pytest.mark.parametrize("data", [rows_world(), empty_user()], ids=["rows", "empty user"])
def test_confounders_are_those_of_the_dense_decomposition(data, dim):
    model = SVDExposure(dim=dim).fit(data)
    left, value, right = np.linalg.svd(scaled(data))
    kept = slice(1, 1 + dim)  # the first pair is the counts
    v = right[kept].T
    np.testing.assert_allclose(model.vectors_ @ model.vectors_.T, v @ v.T, atol=1e-3)
    sign = np.sign((model.vectors_ * v).sum(0))
    z = model.confounder(rows_of(data)).numpy()
    np.testing.assert_allclose(z * sign, scaled(data) @ v, atol=1e-3)
    np.testing.assert_allclose(z * sign, left[:, kept] * value[kept], atol=1e-3)


def test_the_first_pair_is_nearly_the_counts_which_z_leaves_out():
    data, _ = confounded()
    a = exposures(data)
    left, _, _ = np.linalg.svd(scaled(data))
    assert abs(np.corrcoef(left[:, 0], np.sqrt(a.sum(1)))[0, 1]) > 0.9
    z = SVDExposure(dim=4).fit(data).confounder(rows_of(data)).numpy()
    assert np.abs(left[:, 0] @ z).max() < 1e-3


def test_decoded_confounders_are_exposures_per_root_count():
    data = rows_world()
    model = SVDExposure(dim=24).fit(data)
    a = exposures(data)
    left, value, right = np.linalg.svd(scaled(data), full_matrices=False)
    wanted = (left[:, 1:24] * value[1:24]) @ right[1:24] * np.sqrt(a.sum(0) + 1)
    decoded = model.decode(model.confounder(rows_of(data))).numpy()
    np.testing.assert_allclose(decoded, wanted, atol=1e-2)


def test_reconstructions_are_probabilities_and_higher_where_there_is_a_row():
    data = rows_world()
    a = exposures(data)
    found = []
    for dim in (1, 8, 24):
        p = SVDExposure(dim=dim).fit(data).reconstruct(rows_of(data)).numpy()
        assert p.shape == data.shape
        assert p.min() >= 0
        assert p.max() <= 1
        found.append(p[a == 1].mean() - p[a == 0].mean())
    assert 0 < found[0] < found[1] < found[2]


def test_users_with_the_same_row_have_the_same_confounder_whoever_stands_beside_them():
    data = rows_world()
    model = SVDExposure(dim=5).fit(data)
    z = model.confounder(rows_of(data)).numpy()
    few = take_users(data, np.array([3, 17]))
    np.testing.assert_allclose(model.confounder(rows_of(few)).numpy(), z[[3, 17]], atol=1e-6)
    nobody = data.with_logs(data.biased.take(np.zeros(0, int)))
    assert (model.confounder(rows_of(nobody)).numpy() == 0).all()


@pytest.mark.parametrize(
    ("data", "vectors"),
    [
        (one_item(), 0),
        (log_of(np.ones((1, 6))), 0),
        (log_of(np.ones((1, 1))), 0),
        (log_of(np.eye(2)), 0),
        (log_of(np.tri(3)), 1),
        (log_of(np.tri(4, 9) + np.tri(4, 9)[:, ::-1] > 0), 2),
    ],
    ids=["one item", "one user", "one row", "two", "three", "four users"],
)
def test_small_data_have_fewer_vectors_and_the_rest_is_0(data, vectors):
    model = SVDExposure(dim=5).fit(data)
    z = model.confounder(rows_of(data)).numpy()
    assert z.shape == (data.n_users, 5)
    assert model.vectors_.shape == (data.n_items, 5)
    np.testing.assert_allclose(np.linalg.norm(model.vectors_, axis=0), np.arange(5) < vectors, atol=1e-5)
    assert (z[:, vectors:] == 0).all()
    p = model.reconstruct(rows_of(data)).numpy()
    assert np.isfinite(p).all()
    assert ((p >= 0) & (p <= 1)).all()


def test_where_everybody_has_everything_there_is_nothing_but_counts():
    data = log_of(np.ones((9, 7)))
    model = SVDExposure(dim=3).fit(data)
    z = model.confounder(rows_of(data)).numpy()
    np.testing.assert_allclose(z, 0, atol=1e-5)


def test_two_kinds_of_users_are_told_apart_by_the_first_vector():
    rng = np.random.default_rng(0)
    kind = np.arange(60) % 2
    shown = rng.random((60, 30)) < np.where(kind[:, None] == np.arange(30) % 2, 0.6, 0.1)
    shown[np.arange(30), np.arange(30)] = True
    z = SVDExposure(dim=3).fit(log_of(shown)).confounder(rows_of(log_of(shown))).numpy()
    assert abs(np.corrcoef(z[:, 0], kind)[0, 1]) > 0.95


def test_ratings_are_not_read_and_one_seed_is_one_model():
    data = rows_world()
    other = data.with_logs(type(data.biased)(data.biased.user, data.biased.item, 6 - data.biased.rating))
    model = SVDExposure(dim=4).fit(data)
    for again in (SVDExposure(dim=4).fit(data), SVDExposure(dim=4).fit(other)):
        np.testing.assert_array_equal(again.vectors_, model.vectors_)
    # Another seed starts the solver elsewhere, and it arrives at the same vectors with the same signs.
    np.testing.assert_allclose(SVDExposure(dim=4, seed=1).fit(data).vectors_, model.vectors_, atol=1e-3)


def test_a_restored_model_answers_as_before():
    data = rows_world()
    model = SVDExposure(dim=4).fit(data)
    again = SVDExposure(dim=4)
    again._restore({name: np.array(value) for name, value in model._state().items()}, Spec.of(data))
    rows = rows_of(data)
    np.testing.assert_array_equal(again.confounder(rows).numpy(), model.confounder(rows).numpy())
    np.testing.assert_array_equal(again.reconstruct(rows).numpy(), model.reconstruct(rows).numpy())
