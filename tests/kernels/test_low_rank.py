"""Low-rank kernel features against the kernel itself."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from deconrec.kernels import low_rank
from deconrec.kernels.low_rank import LowRank, kernel


def features(n=14, f=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(rng.normal(0, 5, f), rng.uniform(0.1, 9, f), (n, f))


def fitted(x, rank=1000, seed=0):
    return LowRank.of(x, rank, np.random.default_rng(seed))


def wanted_kernel(x, y=None):
    """The kernel of x (and y) on x's standardised columns, by distances."""
    mean, scale = x.mean(0), x.std(0)
    other = x if y is None else y
    return np.exp(-cdist((x - mean) / scale, (other - mean) / scale, "sqeuclidean") / (4 * x.shape[1]))


def centred(k):
    """A kernel of centred features whose mean square length is 1."""
    k = k - k.mean(0) - k.mean(1)[:, None] + k.mean()
    return k * len(k) / np.trace(k)


def test_the_kernel_is_one_of_distances():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 4)), rng.normal(size=(7, 4))
    np.testing.assert_allclose(kernel(x, y), np.exp(-(cdist(x, y) ** 2) / 16), rtol=1e-10)


def test_products_at_full_rank_are_the_centred_kernel():
    x = features()
    phi = fitted(x)(x)
    assert phi.dtype == np.float32
    np.testing.assert_allclose(phi @ phi.T, centred(wanted_kernel(x)), atol=1e-5)


@pytest.mark.parametrize("rank", [1, 4])
def test_products_at_a_lower_rank_are_those_of_leading_eigenvectors(rank):
    x = features()
    value, vector = np.linalg.eigh(wanted_kernel(x))
    nearest = (vector[:, -rank:] * value[-rank:]) @ vector[:, -rank:].T
    phi = fitted(x, rank)(x)
    assert phi.shape == (14, rank)
    np.testing.assert_allclose(phi @ phi.T, centred(nearest), atol=1e-5)


def test_fewer_landmarks_than_rows_give_the_kernel_as_they_see_it(monkeypatch):
    monkeypatch.setattr(low_rank, "LANDMARKS", 9)
    x = features(n=30)
    got = fitted(x)
    assert len(got.landmarks) == 9
    chosen = np.argmin(cdist(got.landmarks, (x - x.mean(0)) / x.std(0)), axis=1)
    assert len(set(chosen)) == 9
    k = wanted_kernel(x)
    seen = k[:, chosen] @ np.linalg.solve(k[np.ix_(chosen, chosen)], k[chosen])
    np.testing.assert_allclose(got(x) @ got(x).T, centred(seen), atol=1e-4)
    other = LowRank.of(x, 1000, np.random.default_rng(1))
    assert not np.array_equal(other.landmarks, got.landmarks)


@pytest.mark.parametrize("rank", [2, 100])
def test_features_have_mean_0_and_mean_square_length_1(rank):
    x = features(n=60, f=5)
    phi = fitted(x, rank)(x).astype(float)
    np.testing.assert_allclose(phi.mean(0), 0, atol=1e-6)
    assert (phi**2).sum(1).mean() == pytest.approx(1, abs=1e-5)
    assert phi.shape[1] <= min(rank, 60)


def test_constant_columns_units_and_origins_do_not_matter():
    x = features()
    wide = np.column_stack([np.full(14, 3.0), x[:, :2] * [100, -0.01] + 7, np.zeros(14), x[:, 2]])
    got = fitted(wide)
    assert got.columns.tolist() == [1, 2, 4]
    a, b = fitted(x)(x), got(wide)
    np.testing.assert_allclose(a @ a.T, b @ b.T, atol=1e-5)
    changed = wide.copy()
    changed[:, [0, 3]] = 99
    np.testing.assert_array_equal(got(changed), b)


def test_columns_of_two_values_share_one_scale_in_which_a_rare_category_is_not_far():
    x = features(n=40)
    kind = np.eye(3)[np.repeat([0, 1, 2], [1, 19, 20])]
    got = fitted(np.column_stack([x, kind]))
    np.testing.assert_allclose(got.scale[:3], x.std(0))
    np.testing.assert_allclose(got.scale[3:], np.sqrt((kind.std(0) ** 2).mean()))
    pure = fitted(kind)
    apart = cdist(pure(np.eye(3)), pure(np.eye(3)))
    np.testing.assert_allclose(apart[np.triu_indices(3, 1)], apart[0, 1], rtol=1e-4)


@pytest.mark.parametrize(
    "x", [np.ones((6, 3)), np.zeros((0, 3)), np.array([[1.0, 2.0, 3.0]]), np.zeros((6, 0))]
)
def test_without_a_column_that_varies_there_are_no_features(x):
    got = fitted(x)
    assert got(x).shape == (len(x), 0)
    assert got(np.random.default_rng(0).normal(size=(4, x.shape[1]))).shape == (4, 0)


def test_equal_rows_are_one_point():
    x = np.repeat(features(n=5), 4, axis=0)
    phi = fitted(x)(x)
    assert phi.shape == (20, 5)
    np.testing.assert_allclose(phi @ phi.T, centred(wanted_kernel(x)), atol=1e-5)


def test_new_rows_are_mapped_as_training_rows_are():
    x = features()
    got = fitted(x, 6)
    # Matrix products of other shapes round otherwise.
    np.testing.assert_allclose(got(x[[3, 8]]), got(x)[[3, 8]], atol=1e-6)
    full, new = fitted(x), features(n=5, seed=1) * 0.3 + x[:5]
    k, across = wanted_kernel(x), wanted_kernel(x, new)
    scale = 14 / np.trace(k - k.mean(0) - k.mean(1)[:, None] + k.mean())
    wanted = (across - across.mean(0) - k.mean(1)[:, None] + k.mean()) * scale
    np.testing.assert_allclose(full(x) @ full(new).T, wanted, atol=1e-4)


def test_a_restored_map_is_the_same_map():
    x = features()
    got = fitted(x, 6)
    again = LowRank.restored({name: np.array(value) for name, value in got.state().items()})
    np.testing.assert_array_equal(again(x), got(x))
    assert again.state().keys() == got.state().keys()


def test_a_two_valued_column_counts_the_same_in_any_unit():
    rng = np.random.default_rng(5)
    x = rng.integers(0, 2, (40, 3)).astype(float)
    plain = LowRank.of(x, 8, np.random.default_rng(0))(x)
    scaled = LowRank.of(x * [1.0, 1000.0, -0.01], 8, np.random.default_rng(0))(x * [1.0, 1000.0, -0.01])
    np.testing.assert_allclose(scaled @ scaled.T, plain @ plain.T, atol=1e-4)
