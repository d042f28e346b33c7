"""What the updates of Poisson factorisation share, against loops."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import psi

from deconrec.kernels.als import Entries
from deconrec.kernels.poisson import gamma_divergence, gamma_means, shares


def test_shares_equal_loops_and_hand_out_every_count():
    rng = np.random.default_rng(0)
    row, column = np.nonzero(rng.random((6, 5)) < 0.6)
    mix = rng.permutation(len(row))
    row, column = row[mix], column[mix]
    own, other, x = rng.exponential(size=(6, 3)), rng.exponential(size=(5, 3)), rng.integers(0, 4, len(row))
    extra = rng.exponential(size=len(row))
    for beside in (None, extra):
        got, ratio = shares(Entries.of(row, column, 6), own, other, x, beside)
        wanted, total = np.zeros((6, 3)), 0.0
        for j, (u, i) in enumerate(zip(row, column, strict=True)):
            s = sum(own[u] * other[i]) + (0.0 if beside is None else extra[j])
            assert ratio[j] == pytest.approx(x[j] / s, rel=1e-5)
            wanted[u] += x[j] * own[u] * other[i] / s
            total += 0.0 if beside is None else x[j] * extra[j] / s
        np.testing.assert_allclose(got, wanted, rtol=1e-5)
        assert got.sum() + total == pytest.approx(x.sum(), rel=1e-5)


def test_gamma_moments_and_divergence():
    rng = np.random.default_rng(1)
    draws = rng.gamma(2.5, 1 / 4.0, 400_000)
    mean, geometric = gamma_means(np.array(2.5), np.array(4.0))
    assert mean == pytest.approx(draws.mean(), rel=5e-3)
    assert geometric == pytest.approx(np.exp(np.log(draws).mean()), rel=5e-3)
    assert gamma_divergence(np.array([0.3]), np.array([0.7]), 0.3, 0.7) == pytest.approx(0, abs=1e-12)

    def log_density(g, shape, rate):
        from scipy.special import gammaln

        return shape * np.log(rate) - gammaln(shape) + (shape - 1) * np.log(g) - rate * g

    kl = (log_density(draws, 2.5, 4.0) - log_density(draws, 0.3, 0.7)).mean()
    assert gamma_divergence(np.array([2.5]), np.array([4.0]), 0.3, 0.7) == pytest.approx(kl, rel=1e-2)


def test_a_tiny_shape_does_not_underflow_to_a_division_by_zero():
    _, geometric = gamma_means(np.array([1e-3]), np.array([1.0]))
    assert psi(1e-3) < -900
    assert geometric[0] > 0
    entries = Entries.of(np.array([0]), np.array([0]), 1)
    got, ratio = shares(entries, geometric[None], geometric[None], np.ones(1))
    assert np.isfinite(got).all()
    assert np.isfinite(ratio).all()
