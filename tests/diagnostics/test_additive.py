"""The logistic model of measured things against its formula."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from deconrec.diagnostics.additive import MAIN, Additive, Grid, Rows, fit

N, M = 14, 9


@pytest.fixture
def start() -> Additive:
    rng = np.random.default_rng(0)
    user = np.column_stack([np.ones(N), rng.standard_normal((N, 2))])
    item = np.column_stack([np.ones(M), rng.standard_normal((M, 2))])
    return Additive.empty((user, 2), (item, 1))  # the item's second column counts as a power


def drawn(start: Additive, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    logit = start.x_user @ rng.standard_normal((3, 3)) @ start.x_item.T * 0.7 + rng.standard_normal((N, 1))
    return (rng.random((N, M)) < expit(logit)).astype(np.float64)


def slow(start: Additive, y: np.ndarray, offset: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, ...]:
    """The mode of the penalised likelihood by a general optimiser."""
    s_a, s_b, s_1, s_2 = start.variances
    precision = np.select([start.group == 1, start.group == 2], [1 / s_1, 1 / s_2], 1 / MAIN)
    precision[0, 0] = 1e-6
    size = precision.size

    def parts(t: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return t[:size].reshape(precision.shape), t[size : size + N], t[size + N :]

    def loss(t: np.ndarray) -> float:
        g, a, b = parts(t)
        eta = offset + start.x_user @ g @ start.x_item.T + a[:, None] + b
        fits = (weight * (np.logaddexp(0, eta) - y * eta)).sum()
        return float(fits + ((precision * g**2).sum() + (a**2).sum() / s_a + (b**2).sum() / s_b) / 2)

    found = minimize(loss, np.zeros(size + N + M), method="BFGS", options={"gtol": 1e-7, "maxiter": 2000})
    return parts(found.x)


def test_the_mode_is_that_of_the_penalised_likelihood(start: Additive) -> None:
    y, rng = drawn(start), np.random.default_rng(2)
    offset, weight = rng.standard_normal((N, M)), rng.uniform(0.5, 2, (N, M))
    user, item = (x.ravel() for x in np.indices((N, M)))
    cells = Rows(user, item, y.ravel(), (N, M), offset.ravel(), weight.ravel())
    found = fit(cells, start, learn=False, rounds=400, tolerance=1e-9)
    for got, want in zip((found.product, found.a, found.b), slow(start, y, offset, weight), strict=True):
        assert np.allclose(got, want, atol=2e-5)


def test_a_grid_is_all_rows(start: Additive) -> None:
    y = drawn(start)
    user, item = (x.ravel() for x in np.indices((N, M)))
    order = np.random.default_rng(3).permutation(N * M)
    grid, rows = (
        fit(cells, start, rounds=60, tolerance=1e-6)
        for cells in (Grid(y), Rows(user[order], item[order], y.ravel()[order], (N, M)))
    )
    assert np.allclose(grid.everywhere().ravel(), rows.at(user, item), atol=2e-3)
    assert grid.variances == pytest.approx(rows.variances, rel=0.01)


def test_levels_that_are_not_there_vanish() -> None:
    """Empirical Bayes: no difference between users, a large one between items."""
    rng = np.random.default_rng(4)
    level = np.linspace(-2, 2, 40)
    y = (rng.random((300, 40)) < expit(level)).astype(np.float64)
    found = fit(Grid(y), Additive.empty((np.ones((300, 1)), 0), (np.ones((40, 1)), 0)), rounds=200)
    assert found.variances[0] < 0.02
    assert found.variances[1] == pytest.approx(level.var(), rel=0.25)
    assert np.allclose(found.b + found.product[0, 0], level, atol=0.5)


def test_a_constant_outcome_is_finite(start: Additive) -> None:
    found = fit(Grid(np.zeros((N, M))), start)
    assert np.isfinite(found.everywhere()).all()
    assert expit(found.everywhere()).max() < 0.2


def test_dispersion_is_that_of_a_share(start: Additive) -> None:
    """Outcomes that are means of 4 draws vary a quarter as much as one."""
    rng = np.random.default_rng(5)
    y = rng.binomial(4, 0.4, (200, 50)) / 4
    user, item = (x.ravel() for x in np.indices(y.shape))
    empty = Additive.empty((np.ones((200, 1)), 0), (np.ones((50, 1)), 0))
    found = fit(Rows(user, item, y.ravel(), y.shape), empty, dispersed=True)
    assert found.dispersion == pytest.approx(0.25, rel=0.05)
