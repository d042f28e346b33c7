"""Responses against truncated normals, averages over draws, and a general optimiser."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import norm, truncnorm

from deconrec.kernels import response
from deconrec.kernels.response import EDGE, TIGHT, Gaussian, Ordinal, bent, restored

OUTCOME = np.array([0.0, 0.1, 0.5, 0.9, 1.0])
CUTS = np.array([-1.1, 0.0, 0.4, 1.6])


def ordinal(level, cuts=CUTS):
    """Five levels, their second cut at 0."""
    return Ordinal.of(level, OUTCOME, np.ones(5), 1).with_parameters(cuts)


def ends(level, cuts=CUTS):
    around = np.concatenate([[-np.inf], cuts, [np.inf]])
    return around[level], around[level + 1]


# ---------------------------------------------------------------------- levels
def test_targets_lie_in_the_interval_of_their_level():
    rng = np.random.default_rng(0)
    level, f = rng.integers(0, 5, 5000), rng.normal(0, 1.5, 5000).astype(np.float32)
    y, precision = ordinal(level).target(f, np.ones(5000, int), rng)
    lower, upper = ends(level)
    assert ((y >= lower - 1e-5) & (y <= upper + 1e-5)).all()
    assert (precision == 1).all()
    assert y.dtype == precision.dtype == np.float32


@pytest.mark.parametrize("copies", [1, 4])
@pytest.mark.parametrize("f", [-1.5, 0.3, 2.0])
def test_targets_are_means_of_truncated_normals(f, copies):
    n, rng = 20_000, np.random.default_rng(1)
    for level in range(5):
        lower, upper = ends(level)
        wanted = truncnorm(lower - f, upper - f, loc=f)
        rows = ordinal(np.full(n, level))
        y, precision = rows.target(np.full(n, f), np.full(n, copies), rng)
        assert (precision == copies).all()
        assert y.mean() == pytest.approx(wanted.mean(), abs=5 * wanted.std() / np.sqrt(copies * n))
        assert y.std() == pytest.approx(wanted.std() / np.sqrt(copies), rel=0.05)
        np.testing.assert_allclose(rows.likely_target(np.full(n, f))[:3], wanted.mean(), rtol=1e-4, atol=1e-5)


def test_copies_of_one_row_are_no_matter_of_its_neighbours():
    n, rng = 40_000, np.random.default_rng(2)
    copies = np.tile([1, 3], n // 2)
    y, precision = ordinal(np.full(n, 3)).target(np.zeros(n), copies, rng)
    np.testing.assert_array_equal(precision, copies)
    wanted = truncnorm(*ends(3)).std()
    assert y[::2].std() == pytest.approx(wanted, rel=0.05)
    assert y[1::2].std() == pytest.approx(wanted / np.sqrt(3), rel=0.05)


def test_likely_targets_of_scores_far_from_their_level_are_the_ends_of_the_interval():
    level, f = np.array([0, 4, 2, 2]), np.array([30.0, -30.0, 30.0, -30.0], np.float32)
    rows = ordinal(level)
    y, _ = rows.target(f, np.ones(4, int), np.random.default_rng(0))
    assert np.isfinite(y).all()
    np.testing.assert_allclose(rows.likely_target(f), [-1.1, 1.6, 0.4, 0.0], atol=1e-5)


def test_targets_are_the_same_in_any_chunks(monkeypatch):
    rng = np.random.default_rng(0)
    level, f = rng.integers(0, 5, 50), rng.normal(size=50)
    whole = ordinal(level).target(f, np.ones(50, int), np.random.default_rng(3))[0]
    monkeypatch.setattr(response, "CHUNK", 7)
    np.testing.assert_array_equal(
        ordinal(level).target(f, np.ones(50, int), np.random.default_rng(3))[0], whole
    )


def test_first_cuts_have_the_shares_of_the_levels():
    share = np.array([10.0, 40.0, 20.0, 25.0, 5.0])
    rows = Ordinal.of(np.zeros(0, int), OUTCOME, share, 2)
    assert rows.cuts[2] == 0
    below = norm.cdf(np.append(rows.cuts, np.inf) - rows.centre)
    np.testing.assert_allclose(np.diff(below, prepend=0), share / share.sum(), atol=1e-6)


def log_posterior(free, rows, f, copies):
    """Of the cuts but for the one that is 0, given f: the levels' probabilities and the pull to the first cuts."""
    cuts = np.insert(free, rows.anchor, 0.0)
    lower, upper = ends(rows.level, cuts)
    p = norm.cdf(upper - f) - norm.cdf(lower - f)
    return copies @ np.log(np.maximum(p, 1e-300)) - TIGHT / 2 * ((cuts - rows.start) ** 2).sum()


def world_of_levels(n, seed):
    rng = np.random.default_rng(seed)
    f, copies = rng.normal(0.5, 1, n), rng.integers(1, 4, n)
    level = np.searchsorted(CUTS, f + rng.standard_normal(n))
    return Ordinal.of(level, OUTCOME, np.ones(5), 1), f, copies


@pytest.mark.parametrize("n", [12, 400])
def test_cuts_arrive_at_the_most_probable_ones(n):
    first, f, copies = world_of_levels(n, seed=n)
    rows, rng = first, np.random.default_rng(0)
    for _ in range(40):
        rows = rows.adjusted(f, copies, rng)
        assert rows.cuts[1] == 0
        assert (np.diff(rows.cuts) >= 0).all()
    free = np.delete(first.cuts, 1)
    best = minimize(lambda x: -log_posterior(x, first, f, copies), free, method="BFGS")
    np.testing.assert_allclose(np.delete(rows.cuts, 1), best.x, atol=2e-4)
    np.testing.assert_array_equal(rows.start, first.start)


def test_a_level_that_no_row_has_keeps_cuts_that_are_finite_and_in_order():
    rng = np.random.default_rng(0)
    rows = ordinal(rng.choice([0, 1, 4], 300))
    for _ in range(60):
        rows = rows.adjusted(rng.normal(size=300), np.ones(300, int), rng)
    assert np.isfinite(rows.cuts).all()
    assert (np.diff(rows.cuts) >= 0).all()


def test_cuts_by_a_part_of_the_rows_stay_near_those_of_all(monkeypatch):
    first, f, copies = world_of_levels(4000, seed=1)
    whole, part, rng, seen = first, first, np.random.default_rng(0), []
    for _ in range(20):
        whole = whole.adjusted(f, copies, rng)
    monkeypatch.setattr(response, "CUT_ROWS", 1000)
    for step in range(120):
        part = part.adjusted(f, copies, rng)
        seen += [part.cuts] * (step >= 20)
    np.testing.assert_array_equal(part.level, first.level)
    np.testing.assert_allclose(np.mean(seen, axis=0), whole.cuts, atol=0.05)
    assert np.ptp(seen, axis=0)[0] > 0


def test_expected_outcomes_equal_a_sum_over_levels():
    f = np.linspace(-3, 3, 13)
    wanted = []
    for each in f:
        total = 0.0
        for level in range(5):
            lower, upper = ends(level)
            total += OUTCOME[level] * (norm.cdf(upper - each) - norm.cdf(lower - each))
        wanted.append(total)
    rows = ordinal(np.zeros(0, int))
    got = rows.expected(f)
    np.testing.assert_allclose(got, wanted, rtol=1e-10)
    assert (np.diff(got) > 0).all()
    assert rows.expected(f[:, None], np.ones(4)).shape == (13, 4)


@pytest.mark.parametrize("variance", [0.3, 2.0])
def test_expected_outcomes_of_uncertain_scores_are_averages_over_them(variance):
    rows = ordinal(np.zeros(0, int))
    f = np.array([-1.0, 0.2, 2.5])
    draws = f + np.sqrt(variance) * np.random.default_rng(0).standard_normal((200_000, 3))
    np.testing.assert_allclose(rows.expected(f, variance), rows.expected(draws).mean(0), atol=5e-3)


def test_a_binary_outcome_is_a_probit():
    rows = Ordinal.of(np.array([0, 1]), np.array([0.0, 1.0]), np.array([3.0, 1.0]), 0)
    f = np.linspace(-4, 4, 9)
    np.testing.assert_allclose(rows.expected(f), norm.cdf(f), rtol=1e-12)
    np.testing.assert_allclose(rows.expected(f, 3.0), norm.cdf(f / 2), rtol=1e-12)
    assert rows.expected(np.array([rows.centre])) == pytest.approx(0.25)
    assert rows.adjusted(f[:2], np.ones(2), np.random.default_rng(0)) is rows
    np.testing.assert_allclose(rows.likely_target(np.zeros(2)), [-0.797885, 0.797885], rtol=1e-5)


def test_levels_of_one_outcome_gain_nothing():
    rows = Ordinal.of(np.zeros(0, int), np.array([0.0, 0.0, 1.0]), np.ones(3), 1)
    f = np.linspace(-2, 2, 5)
    np.testing.assert_allclose(rows.expected(f), norm.cdf(f - rows.cuts[1]))


# ---------------------------------------------------------------------- continuous ratings
def test_a_gaussian_outcome_is_its_own_target_and_copies_are_precision():
    outcome, copies = np.array([0.2, 0.9, 0.4], np.float32), np.array([1, 1, 5])
    rows = Gaussian(outcome, 0.04)
    y, precision = rows.target(np.zeros(3), copies, np.random.default_rng(0))
    np.testing.assert_array_equal(y, outcome)
    np.testing.assert_array_equal(rows.likely_target(np.zeros(3)), outcome)
    np.testing.assert_allclose(precision, [25, 25, 125])
    assert rows.unit == pytest.approx(0.2)
    assert rows.centre == pytest.approx(0.5)


def test_the_first_variance_is_that_of_the_outcomes_and_never_0():
    outcome = np.random.default_rng(0).random(50)
    assert Gaussian.of(outcome).variance == pytest.approx(outcome.var(), rel=1e-5)
    assert Gaussian.of(np.full(5, 0.3)).variance == 1e-3
    assert Gaussian.of(np.zeros(0)).centre == 0.5


def test_variances_are_drawn_from_their_posterior():
    rng = np.random.default_rng(0)
    outcome, f, copies = rng.random(9).astype(np.float32), rng.random(9), rng.integers(1, 3, 9)
    rows = Gaussian(outcome, 0.1)
    draws = np.array([rows.adjusted(f, copies, rng).variance for _ in range(20_000)])
    rest = float(copies @ (outcome - f) ** 2)
    shape = 1 + 9 / 2  # two rows of 0.05 have shape 1
    mean = (rest / 2 + 0.05) / (shape - 1)
    assert draws.mean() == pytest.approx(mean, rel=0.02)
    assert draws.std() == pytest.approx(mean / np.sqrt(shape - 2), rel=0.06)


def test_bent_scores_are_untouched_in_the_middle_and_stay_inside():
    score = np.linspace(-1, 2, 3001)
    got = bent(score)
    middle = (score >= EDGE) & (score <= 1 - EDGE)
    np.testing.assert_array_equal(got[middle], score[middle])
    assert (np.diff(got) > 0).all()
    assert got.min() > 0
    assert got.max() < 1
    np.testing.assert_allclose(got + got[::-1], 1, atol=1e-12)
    # One slope on both sides of an edge.
    assert np.abs(np.diff(got, 2)).max() < 1e-4
    far = bent(np.array([-1e6, 1e6], np.float32))
    assert far.tolist() == [0.0, 1.0]
    np.testing.assert_array_equal(Gaussian(np.zeros(0), 0.1).expected(score, 5.0), got)


# ---------------------------------------------------------------------- saving
@pytest.mark.parametrize("rows", [ordinal(np.zeros(3, int)), Gaussian.of(np.array([0.1, 0.7]))])
def test_a_restored_response_answers_as_before(rows):
    again = restored(rows.state())
    assert type(again) is type(rows)
    f, variance = np.linspace(-1, 2, 7), np.linspace(0, 1, 7)
    np.testing.assert_array_equal(again.expected(f, variance), rows.expected(f, variance))
    np.testing.assert_array_equal(again.parameters, rows.parameters)
    assert again.unit == rows.unit
    np.testing.assert_array_equal(again.with_parameters(2 * again.parameters).parameters, 2 * rows.parameters)
    assert {k: v.tolist() for k, v in again.state().items()} == {
        k: v.tolist() for k, v in rows.state().items()
    }


# ---------------------------------------------------------------------- single outcomes
def test_quantiles_of_levels_are_those_of_outcomes_that_are_drawn():
    rng = np.random.default_rng(1)
    f = rng.normal(0.4, 0.7, (6, 5))
    cuts = [CUTS + 0.1 * rng.normal(size=4) * (np.arange(4) != 1) for _ in f]
    at = (0.05, 0.3, 0.5, 0.95)
    found = ordinal(np.zeros(0, int)).quantiles(f, cuts, at)
    drawn = np.concatenate(
        [
            OUTCOME[(row[None] + rng.normal(size=(60_000, 5)) >= c[:, None, None]).sum(0)]
            for row, c in zip(f, cuts, strict=True)
        ]
    )
    for p, row in zip(at, found, strict=True):
        for k in range(5):  # p lies between the shares below, and up to, the quantile
            assert (drawn[:, k] < row[k]).mean() <= p + 0.003
            assert (drawn[:, k] <= row[k]).mean() >= p - 0.003


def test_a_level_that_is_certain_is_the_whole_interval():
    low, high = ordinal(np.zeros(0, int)).quantiles(np.array([[-30.0, 0.2, 30.0]]), [CUTS], (0.05, 0.9))
    assert low.tolist() == [0.0, 0.0, 1.0]
    assert high.tolist() == [0.0, 0.9, 1.0]


def test_quantiles_of_a_continuous_outcome_hold_noise_and_doubt():
    f, variance = np.array([[0.4, 0.5], [0.6, 0.5]]), [np.array([0.01]), np.array([0.03])]
    low, high = Gaussian(np.zeros(0, np.float32), 1.0).quantiles(f, variance, (0.05, 0.95))
    spread = norm.ppf(0.95) * np.sqrt([0.01 + 0.02, 0.02])
    np.testing.assert_allclose(low, 0.5 - spread)
    np.testing.assert_allclose(high, 0.5 + spread)
    edge = Gaussian(np.zeros(0, np.float32), 1.0).quantiles(f, [np.array([9.0])], (0.01, 0.99))
    assert (edge == np.array([[0.0], [1.0]])).all()
