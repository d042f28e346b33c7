"""What two logs say of outcomes, against loops and against a world whose selection is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import expit, logit

from deconrec.pairs import Pairs
from deconrec.propensity.agreement import LARGEST_TILT, SETTLE, Evidence, shift, target, tilt


def doubly_robust(odds, r, r_hat, level, rho):
    """The mean outcome and the weights' sum, row by row."""
    mass = total = 0.0
    for x, y, p in zip(odds, r, r_hat, strict=True):
        w = 1 + x * math.exp(-((1 - y) * rho[0] + y * rho[1]))
        mass += w
        total += w * (y - p)
    return level + total / mass, mass


@pytest.mark.parametrize("outcomes", [(0.0, 1.0), (0.0, 0.25, 0.5, 0.75, 1.0)], ids=len)
@pytest.mark.parametrize("mean", [0.2, 0.5, 0.7])
def test_tilted_weights_solve_both_equations(outcomes, mean) -> None:
    rng = np.random.default_rng(0)
    odds, r, r_hat = rng.gamma(2.0, 5.0, 300), rng.choice(outcomes, 300), rng.random(300)
    rho = tilt(odds, r, r_hat, 0.45, mean)
    got, mass = doubly_robust(odds, r, r_hat, 0.45, rho)
    assert got == pytest.approx(mean, abs=1e-6)
    assert mass == pytest.approx((1 + odds).sum(), rel=1e-6)
    assert rho[0] != rho[1]


def test_logs_that_agree_tilt_nothing() -> None:
    rng = np.random.default_rng(1)
    odds, r, r_hat = rng.gamma(2.0, 5.0, 200), rng.integers(0, 2, 200).astype(float), rng.random(200)
    mean, _ = doubly_robust(odds, r, r_hat, 0.4, (0.0, 0.0))
    np.testing.assert_allclose(tilt(odds, r, r_hat, 0.4, mean), 0, atol=1e-6)


def test_a_selection_by_the_outcome_is_recovered() -> None:
    """p^ is what exposure is on average over outcomes; the tilt finds how odds differ between them."""
    rng = np.random.default_rng(2)
    n, chance = 400_000, 0.3
    base = rng.normal(-3.0, 0.5, n)
    r = (rng.random(n) < chance).astype(float)
    o = rng.random(n) < expit(base + 1.5 * r)
    nominal = (1 - chance) * expit(base) + chance * expit(base + 1.5)
    odds = 1 / nominal[o] - 1
    zero, one = tilt(odds, r[o], np.full(o.sum(), 0.5), 0.5, chance)
    assert one - zero == pytest.approx(1.5, abs=0.05)
    weights = 1 + odds * np.exp(-np.where(r[o] > 0, one, zero))
    assert (weights * r[o]).sum() / weights.sum() == pytest.approx(chance, abs=0.01)


def test_the_limits_of_a_tilt() -> None:
    odds, r_hat = np.full(5, 3.0), np.full(5, 0.5)
    assert tilt(odds, np.ones(5), r_hat, 0.5, 0.2) == (0.0, 0.0)  # one outcome: nothing tells weights apart
    assert tilt(np.zeros(4), np.array([0.0, 1, 0, 1]), np.full(4, 0.5), 0.5, 0.2) == (0.0, 0.0)  # p^ = 1
    beyond = tilt(odds, np.array([0.0, 1, 1, 1, 1]), r_hat, 0.5, 0.0)
    assert beyond[1] - beyond[0] == pytest.approx(LARGEST_TILT)


def test_the_target_moves_only_as_far_as_chance_does_not_explain() -> None:
    outcomes = np.repeat([0.0, 1.0], [700, 300])
    error = math.sqrt((301 / 1002) * (701 / 1002) / 1002)
    assert target(0.3 + 1.9 * error, outcomes, 2.0) == 0.3 + 1.9 * error
    assert target(0.9, outcomes, 0.0) == pytest.approx(0.3)
    far = target(0.6, outcomes, 2.0)
    assert far == pytest.approx(0.6 - 0.3 * (1 - (2 * error / 0.3) ** 2))
    assert target(0.9, np.zeros(1), 2.0) > 0.2  # one row is never certain


def test_a_shift_gives_the_mean() -> None:
    m = np.random.default_rng(3).normal(size=500)
    assert expit(m + shift(m, 0.1)).mean() == pytest.approx(0.1, abs=1e-6)
    assert shift(np.full(3, float(logit(0.2))), 0.2) == pytest.approx(0, abs=1e-6)
    assert abs(shift(m, 1.0)) == abs(shift(m, 0.0)) == LARGEST_TILT


def test_the_slack_is_large_before_the_prediction_is_trained() -> None:
    none = torch.zeros(0)
    pairs = Pairs(none.long(), none.long(), none, none)
    seen = Evidence(pairs, pairs, np.zeros(1))
    given = [seen.slack(2.0) for _ in range(300)]
    assert given[0] == 2.0 * (1 + SETTLE)
    assert given == sorted(given, reverse=True)
    assert given[-1] == pytest.approx(2.0, rel=0.02)
    assert Evidence(pairs, pairs, np.zeros(1)).slack(2.0) == given[0]  # each fit counts its own epochs
