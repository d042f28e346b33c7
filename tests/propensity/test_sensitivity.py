"""The box of weights, against the published formula and another implementation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deconrec.propensity.sensitivity import surplus, weight_bounds, worst_odds
from manual import robust

GOLDEN = Path(__file__).parents[1] / "golden" / "msm_bounds.json"


def test_bounds_of_another_implementation():
    golden = json.loads(GOLDEN.read_text())
    p = torch.tensor(golden["p"], dtype=torch.float64)
    for case in golden["cases"]:
        a, b = weight_bounds(p, case["gamma"])
        np.testing.assert_allclose(1 / b, case["lower"], rtol=1e-12)
        np.testing.assert_allclose(1 / a, case["upper"], rtol=1e-12)


@given(p=st.floats(1e-4, 0.9999), gamma=st.floats(1, 50))
def test_bounds_are_those_of_the_odds_ratio(p, gamma):
    a, b = (float(x) for x in weight_bounds(torch.tensor([p], dtype=torch.float64), gamma))
    low, high = robust.true_propensities(p, gamma)
    assert (1 / high, 1 / low) == pytest.approx((a, b), rel=1e-9)
    assert robust.box(p, gamma) == pytest.approx((a, b), rel=1e-9)
    assert 1 - 1e-12 <= a <= 1 / p * (1 + 1e-12)
    assert b >= 1 / p * (1 - 1e-12)
    for end, factor in ((low, 1 / gamma), (high, gamma)):  # the definition, not its solution
        assert end / (1 - end) == pytest.approx(factor * p / (1 - p), rel=1e-6)


def test_at_uncertainty_1_the_box_is_the_nominal_weight_exactly():
    p = torch.linspace(0.01, 1, 100)
    assert all(torch.equal(end, 1 / p) for end in weight_bounds(p, 1.0))
    assert (surplus(p, worst_odds(torch.randn(100), 1.0)) == 0).all()


def test_the_worst_weights_maximise_over_the_box():
    rng = np.random.default_rng(0)
    p, x = torch.tensor(rng.uniform(0.05, 1, 40)), torch.tensor(rng.normal(size=40))
    a, b = weight_bounds(p, 3.0)
    best = ((1 / p + surplus(p, worst_odds(x, 3.0))) * x).sum()
    for _ in range(50):
        w = a + (b - a) * torch.tensor(rng.random(40))
        assert (w * x).sum() <= best
    assert best == pytest.approx(float(torch.where(x > 0, b * x, a * x).sum()))


def test_the_worst_odds_carry_no_gradient():
    x = torch.randn(5, requires_grad=True)
    assert not worst_odds(x, 2.0).requires_grad
