from __future__ import annotations

import numpy as np

from deconrec.effects.regression import all_at_once, linear_share, one_at_a_time

RNG = np.random.default_rng(0)
A = (RNG.random((300, 5)) < 0.4).astype(float)
Z = RNG.standard_normal((300, 2)) + A[:, :2]
R = A @ RNG.standard_normal((5, 3)) + Z @ RNG.standard_normal((2, 3)) + RNG.standard_normal((300, 3))


def by_hand(x: np.ndarray, r: np.ndarray, column: int) -> tuple[float, float]:
    """(slope, standard error) of one column by the normal equations."""
    inverse = np.linalg.inv(x.T @ x)
    slope = inverse @ x.T @ r
    s2 = ((r - x @ slope) ** 2).sum() / (len(x) - x.shape[1])
    return float(slope[column]), float(np.sqrt(s2 * inverse[column, column]))


def test_one_at_a_time_is_the_regression_by_hand() -> None:
    found = one_at_a_time(A, R, Z)
    one = np.ones((300, 1))
    for j in range(5):
        for i in range(3):
            slope, error = by_hand(np.hstack([one, A[:, [j]], Z]), R[:, i], 1)
            assert np.isclose(found.effect[j, i], slope)
            assert np.isclose(found.error[j, i], error)


def test_the_items_own_exposure_stands_beside_another() -> None:
    own, same = A[:, [0, 1, 2]], np.eye(5, 3, dtype=bool)
    for seen in (None, RNG.random(R.shape) < 0.9):
        found = one_at_a_time(A, R, Z, seen, own, same)
        for j in range(5):
            for i in range(3):
                rows = np.ones(300, bool) if seen is None else seen[:, i]
                columns = [np.ones((300, 1)), A[:, [j]], Z, *([A[:, [i]]] if i != j else [])]
                slope, error = by_hand(np.hstack(columns)[rows], R[rows, i], 1)
                assert np.isclose(found.effect[j, i], slope)
                assert np.isclose(found.error[j, i], error)


def test_without_z_it_is_the_difference_of_means() -> None:
    found = one_at_a_time(A, R, Z[:, :0])
    expected = R[A[:, 0] == 1].mean(0) - R[A[:, 0] == 0].mean(0)
    assert np.allclose(found.effect[0], expected)
    assert np.allclose(found.overlap, 1)


def test_all_at_once_is_the_regression_by_hand() -> None:
    found = all_at_once(A, R, Z, np.array([1, 4]))
    x = np.hstack([np.ones((300, 1)), Z, A])
    for place, j in enumerate((1, 4)):
        for i in range(3):
            slope, error = by_hand(x, R[:, i], 3 + j)
            assert np.isclose(found.effect[place, i], slope)
            assert np.isclose(found.error[place, i], error)


def test_a_regression_of_its_own_for_each_item_where_outcomes_are_missing() -> None:
    seen = RNG.random(R.shape) < 0.6
    found = one_at_a_time(A, R, Z, seen)
    for i in range(3):
        rows = seen[:, i]
        x = np.hstack([np.ones((rows.sum(), 1)), A[rows][:, [2]], Z[rows]])
        assert np.isclose(found.effect[2, i], by_hand(x, R[rows, i], 1)[0])


def test_too_few_users_or_no_chance_give_no_effect() -> None:
    a = A.copy()
    a[:, 0] = 1.0
    a[:, 1] = np.arange(300) < 5
    found = one_at_a_time(a, R, np.column_stack([Z, a[:, 2]]))  # the third exposure is known given z
    assert np.isnan(found.effect[:3]).all()
    assert np.isfinite(found.effect[3:]).all()
    assert np.isnan(all_at_once(a, R, Z, np.arange(5)).effect[:2]).all()


def test_linear_share() -> None:
    assert linear_share(A @ RNG.standard_normal((5, 2)), A) > 1 - 1e-9
    assert linear_share(RNG.standard_normal((300, 2)), A) < 0.05
    assert np.isnan(linear_share(np.ones((300, 1)), A))
