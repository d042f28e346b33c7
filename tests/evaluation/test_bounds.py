"""Bounds against brute force over the corners of the box, their limits, and simulators whose odds ratio is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deconrec.errors import ParameterError
from deconrec.evaluation import bounds, offpolicy
from deconrec.evaluation.bounds import Sorted
from deconrec.evaluation.offpolicy import Sample
from manual import offpolicy as manual

ROW = st.tuples(st.floats(-3, 3).map(lambda v: round(v, 3)), st.floats(1, 50))


@settings(deadline=None, max_examples=60)
@given(st.lists(ROW, min_size=1, max_size=8), st.floats(1, 6))
def test_bounds_are_those_of_every_corner(rows: list[tuple[float, float]], gamma: float) -> None:
    y, w = (np.array(c) for c in zip(*rows, strict=True))
    a, b = bounds.weight_box(w, gamma)
    found = Sorted.of(y, w, np.zeros(len(y), int), 1).bounds(gamma)
    assert found == pytest.approx(manual.hajek_bounds(y, a, b), abs=1e-9)


def test_bounds_agree_with_the_published_threshold_rule() -> None:
    rng = np.random.default_rng(0)
    y, w = rng.normal(size=60), 1 + 20 * rng.random(60)
    rows = Sorted.of(y, w, np.zeros(60, int), 1)
    for gamma in (1.0, 1.3, 2.0, 5.0):
        low, high = rows.bounds(gamma)
        assert high == pytest.approx(manual.quantile_bound(y, w, gamma))
        assert low == pytest.approx(-manual.quantile_bound(-y, w, gamma))


def test_the_box_is_that_of_the_methods() -> None:
    import torch

    from deconrec.propensity.sensitivity import weight_bounds

    p = np.array([0.02, 0.3, 0.9, 1.0])
    theirs = weight_bounds(torch.from_numpy(p), 2.5)
    for mine, their in zip(bounds.weight_box(1 / p, 2.5), theirs, strict=True):
        assert mine == pytest.approx(their.numpy())


def test_gamma_1_is_the_estimate_and_more_contains_less() -> None:
    rng = np.random.default_rng(1)
    rows = Sorted.of(rng.random(500), 1 + 30 * rng.random(500), rng.integers(0, 40, 500), 40)
    low, high = rows.bounds(1.0)
    assert low == pytest.approx(rows.mean, rel=1e-12)
    assert high == pytest.approx(rows.mean, rel=1e-12)
    before = (rows.mean, rows.mean)
    for gamma in (1.05, 1.5, 2, 4, 16, 256):
        now = rows.bounds(gamma)
        assert now[0] < before[0]
        assert now[1] > before[1]
        before = now
    assert np.isnan(Sorted.of(np.array([]), np.array([]), np.array([], int), 1).bounds(2.0)).all()


def test_what_rows_count_for() -> None:
    """A row that counts twice is two rows with the same weight; one that counts for nothing is none."""
    rng = np.random.default_rng(2)
    y, w, share = rng.random(8), 1 + 5 * rng.random(8), np.array([2, 0, 1, 1, 3, 1, 0, 1.0])
    rows = np.repeat(np.arange(8), share.astype(int))
    found = Sorted.of(y, w, np.zeros(8, int), 1, share).bounds(1.7)
    twice = Sorted.of(y[rows], w[rows], np.zeros(len(rows), int), 1).bounds(1.7)
    assert found == pytest.approx(twice)
    grouped = bounds.group_bounds(np.zeros(8, int), y, w, 1, 1.7, share)
    assert (grouped[0][0], grouped[1][0]) == pytest.approx(twice)


def test_intervals_at_gamma_1_are_those_of_snips() -> None:
    rng = np.random.default_rng(8)
    user, w, y = rng.integers(0, 50, 400), 1 + 9 * rng.random(400), rng.random(400)
    snips = offpolicy.population_mean(Sample(user, w, np.full(50, 30)), y, "snips", low=-np.inf)
    bound = Sorted.of(y, w, user, 50).bound(1.0, least=True)
    assert bound.value == pytest.approx(snips.value)
    assert bound.interval() == pytest.approx((snips.low, snips.high))


@pytest.mark.parametrize("gamma", [1.0, 1.5, 4.0])
def test_intervals_of_bounds_are_near_the_percentile_bootstrap(gamma: float) -> None:
    """The published interval: users are drawn again, and the extremes taken anew."""
    rng = np.random.default_rng(9)
    n_users = 80
    user, w = rng.integers(0, n_users, 1500), 1 + 9 * rng.random(1500)
    y = rng.random(1500) + rng.normal(0, 0.2, n_users)[user]
    low, _ = Sorted.of(y, w, user, n_users).bound(gamma, least=True).interval()
    _, high = Sorted.of(y, w, user, n_users).bound(gamma, least=False).interval()
    ends = []
    for _ in range(300):
        times = np.bincount(rng.integers(0, n_users, n_users), minlength=n_users).astype(float)
        ends.append(Sorted.of(y, w, user, n_users, times[user]).bounds(gamma))
    drawn = np.array(ends)
    width = np.quantile(drawn[:, 0], 0.975) - np.quantile(drawn[:, 0], 0.025)
    assert low == pytest.approx(np.quantile(drawn[:, 0], 0.025), abs=0.15 * width)
    assert high == pytest.approx(np.quantile(drawn[:, 1], 0.975), abs=0.15 * width)


def test_tipping_point_is_where_the_bound_is_0() -> None:
    rng = np.random.default_rng(3)
    difference = Sorted.of(rng.normal(0.3, 1, 400), 1 + 10 * rng.random(400), np.arange(400), 400)
    gamma = bounds.tipping_point(difference)
    assert gamma > 1
    assert difference.bounds(gamma)[0] == pytest.approx(0, abs=1e-6)
    assert difference.bounds(gamma * 0.999)[0] > 0
    assert bounds.tipping_point(Sorted.of(-difference.y, difference.weight, difference.user, 400)) == 1.0
    assert 1 < bounds.tipping_point(difference, chance=True) < gamma
    always = Sorted.of(np.array([1.0, 2.0]), np.array([3.0, 3.0]), np.arange(2), 2)
    assert bounds.tipping_point(always) == float("inf")


def test_groups_are_bounded_one_by_one() -> None:
    rng = np.random.default_rng(4)
    group, y, w = rng.integers(0, 6, 80), rng.integers(0, 5, 80) / 4, 1 + 9 * rng.random(80)
    low, high = bounds.group_bounds(group, y, w, 7, 1.8)
    for g in range(6):
        mine = group == g
        expected = Sorted.of(y[mine], w[mine], np.zeros(mine.sum(), int), 1).bounds(1.8)
        assert (low[g], high[g]) == pytest.approx(expected)
    assert np.isnan([low[6], high[6]]).all()


def test_bounds_of_a_pair_against_every_confounder() -> None:
    """All joint distributions of (o, r) with the given P(r | o = 1), P(o) and odds ratios of o given r within Gamma."""
    mean, p, gamma = 0.3, 0.2, 1.7
    low, high = bounds.outcome_bounds(np.array(mean), np.array(p), gamma)
    reached = []
    for mu_0 in np.linspace(0, 1, 20_001):
        with np.errstate(divide="ignore"):
            ratios = np.array([mean / mu_0, (1 - mean) / (1 - mu_0)])  # odds(o | r) / odds(o)
        if ((ratios <= gamma * (1 + 1e-9)) & (ratios >= (1 - 1e-9) / gamma)).all():
            reached.append(p * mean + (1 - p) * mu_0)
    assert min(reached) == pytest.approx(float(low), abs=1e-4)
    assert max(reached) == pytest.approx(float(high), abs=1e-4)
    same = bounds.outcome_bounds(np.array(mean), np.array(p), 1.0)
    assert same == pytest.approx((mean, mean))


@pytest.mark.parametrize("gamma", [1.0, 1.4, 3.0])
def test_bounds_of_a_pair_agree_with_a_confounding_function(gamma: float) -> None:
    """causalml's selection bias: with alpha = mu - mu_0 at the end of the box, the mean of its adjusted outcomes."""
    r, p = [1.0, 0.0, 0.0, 1.0, 0.0], 0.3
    mean = float(np.mean(r))
    for mu_0, at in (
        (max(mean / gamma, 1 - (1 - mean) * gamma), 0),
        (min(mean * gamma, 1 - (1 - mean) / gamma), 1),
    ):
        adjusted = manual.selection_bias_adjusted(r, [1] * 5, [p] * 5, mean - mu_0)
        bound = bounds.outcome_bounds(np.array(mean), np.array(p), gamma)[at]
        assert float(np.mean(adjusted)) == pytest.approx(float(bound))


def test_who_surely_stays_first() -> None:
    """Against every corner of the box of values."""
    import itertools

    rng = np.random.default_rng(5)
    for _ in range(50):
        middle, half = rng.random(6), 0.2 * rng.random(6)
        low, high, k = middle - half, middle + half, 3
        chosen = np.argsort(-middle)[:k]
        stays = np.ones(k, bool)
        for corner in itertools.product((0, 1), repeat=6):
            value = np.where(corner, high, low)
            for at, i in enumerate(chosen):
                stays[at] &= (np.delete(value, i) > value[i]).sum() < k
        assert (bounds.surely_first(low, high, chosen, k) == stays).all()


def test_bounds_contain_the_truth_within_gamma() -> None:
    """A hidden confounder moves the odds by exactly Gamma = 2: over 200 draws, bounds at 2 hold the mean."""
    rng = np.random.default_rng(6)
    n, gamma = 40_000, 2.0
    nominal = rng.uniform(0.1, 0.4, n)
    r = (rng.random(n) < 0.4).astype(float)
    # Odds times `up` where r = 1 and times `down` where r = 0, both within [1/Gamma, Gamma] and of mean p.
    odds = nominal / (1 - nominal)
    true = np.where(r == 1, odds * 1.6, odds / gamma)
    p = true / (1 + true)
    inside, naive = 0, 0
    for _ in range(200):
        o = rng.random(n) < p
        rows = Sorted.of(r[o], 1 / nominal[o], np.zeros(o.sum(), int), 1)
        low, high = rows.bounds(gamma)
        inside += low <= r.mean() <= high
        naive += abs(rows.mean - r.mean()) < 0.02
    assert inside == 200
    assert naive == 0


@pytest.mark.parametrize("gamma", [0.5, float("nan"), float("inf")])
def test_what_is_no_odds_ratio(gamma: float) -> None:
    with pytest.raises(ParameterError, match="must be a finite number of at least 1"):
        bounds.check_gamma(gamma)
