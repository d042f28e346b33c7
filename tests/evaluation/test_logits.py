"""Identities of probabilities in logit space, and their ends."""

from __future__ import annotations

import math

import numpy as np
import pytest

from deconrec.evaluation.logits import joint, joint_logit, logloss_of_logits, probability

A, B = (g.ravel() for g in np.meshgrid(np.linspace(-6, 6, 7), np.linspace(-6, 6, 7)))


def test_the_joint_logit_is_that_of_the_product():
    product = (1 / (1 + np.exp(-A))) * (1 / (1 + np.exp(-B)))
    np.testing.assert_allclose(joint(A, B), product, rtol=1e-12)
    np.testing.assert_allclose(joint_logit(A, B), np.log(product) - np.log1p(-product), rtol=1e-9)
    np.testing.assert_allclose(probability(joint_logit(A, B)), product, rtol=1e-9)


@pytest.mark.parametrize("a", [-60.0, 0.0, 60.0])
@pytest.mark.parametrize("b", [-60.0, 0.0, 60.0])
def test_ends_are_finite(a, b):
    z = float(joint_logit([a], [b])[0])
    assert math.isfinite(z)
    assert 0 < float(joint([a], [b])[0]) <= 1
    assert math.isfinite(logloss_of_logits([z, z], [0.0, 1.0]))
    assert z <= min(a, b)
    if a == b == 60:
        assert z == pytest.approx(60 - math.log(2), rel=1e-12)  # 1 - p q is about 2 e^-60: not 0
    if a == b == -60:
        assert z == pytest.approx(-120, rel=1e-12)


def test_one_certain_factor_leaves_the_other():
    other = np.linspace(-6, 6, 7)
    np.testing.assert_allclose(joint_logit(np.full(7, 60.0), other), other, atol=1e-15)


def test_logloss_counts_weights():
    z, y = [0.3, -1.2, 2.0], [1.0, 0.0, 0.0]
    twice = logloss_of_logits([*z, 2.0], [*y, 0.0])
    assert logloss_of_logits(z, y, [1, 1, 2]) == pytest.approx(twice, rel=1e-12)
    p = 1 / (1 + math.exp(-0.3))
    assert logloss_of_logits([0.3], [1.0]) == pytest.approx(-math.log(p))
    assert math.isnan(logloss_of_logits([], []))
