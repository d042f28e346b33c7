"""Sample weights in the agreement of outcomes: a weight counts a row that many times."""

from __future__ import annotations

import numpy as np
import pytest

from deconrec.propensity.agreement import target, tilt

RNG = np.random.default_rng(0)
ODDS, R, R_HAT = RNG.exponential(3, 30), (RNG.random(30) < 0.4) * 1.0, RNG.random(30)
COUNTS = RNG.integers(1, 4, 30)


def test_a_weight_is_a_repeated_row_of_the_biased_log():
    odds, r, r_hat = (np.repeat(x, COUNTS) for x in (ODDS, R, R_HAT))
    assert tilt(ODDS, R, R_HAT, 0.5, 0.3, COUNTS.astype(float)) == pytest.approx(
        tilt(odds, r, r_hat, 0.5, 0.3)
    )


def test_equal_weights_of_randomised_rows_change_nothing_and_unequal_ones_widen_the_slack():
    assert target(0.9, R, 2.0, np.full(30, 3.0)) == pytest.approx(target(0.9, R, 2.0))
    assert target(0.9, R, 0.0, COUNTS.astype(float)) == pytest.approx(np.average(R, weights=COUNTS))
    lone = np.where(np.arange(30) == 0, 1000.0, 1.0)
    assert target(0.9, R, 2.0, lone) == 0.9
