"""Pointwise errors against loops, and where their gradients go."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deconrec.losses.elementwise import LARGEST, cross_entropy, error, product_error, squared
from manual import risks

finite = st.floats(-12, 12)
outcome = st.floats(0, 1)


def tensor(x):
    return torch.tensor([x], dtype=torch.float64)


@given(finite, outcome)
def test_errors_equal_the_twins(logit, r):
    for kind in ("cross-entropy", "squared"):
        wanted = risks.delta(kind, r, risks.sigma(logit))
        assert float(error(kind, tensor(logit), tensor(r))) == pytest.approx(wanted, rel=1e-6, abs=1e-9)


@given(st.floats(-8, 8), st.floats(-8, 8), st.sampled_from([0.0, 1.0]))
def test_product_errors_equal_the_twins(logit_p, logit_r, label):
    joint = risks.sigma(logit_p) * risks.sigma(logit_r)
    for kind in ("cross-entropy", "squared"):
        got = float(product_error(kind, tensor(logit_p), tensor(logit_r), tensor(label)))
        assert got == pytest.approx(risks.delta(kind, label, joint), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("kind", ["cross-entropy", "squared"])
@pytest.mark.parametrize("logit", [-200.0, 200.0, 0.0])
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_extreme_logits_stay_finite_with_finite_gradients(kind, logit, label):
    l = torch.tensor([logit], requires_grad=True)
    q = torch.tensor([logit], requires_grad=True)
    value = error(kind, l, torch.tensor([label])) + product_error(kind, l, q, torch.tensor([label]))
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(l.grad).all()
    assert torch.isfinite(q.grad).all()


def test_the_joint_probability_is_clamped_below_1():
    big = torch.tensor([40.0], dtype=torch.float64)
    assert float(product_error("cross-entropy", big, big, tensor(0.0))) == pytest.approx(-np.log(1 - LARGEST))


def test_a_soft_label_has_a_gradient_too():
    label = torch.tensor([0.3], requires_grad=True)
    logit = torch.tensor([0.8], requires_grad=True)
    cross_entropy(logit, label).backward()
    # d/dr of -r log s - (1 - r) log(1 - s) is -l
    torch.testing.assert_close(label.grad, -logit.detach())
    torch.testing.assert_close(logit.grad, torch.sigmoid(logit.detach()) - 0.3)
    hard = cross_entropy(torch.tensor([0.8]), torch.tensor([0.3]))
    torch.testing.assert_close(hard, cross_entropy(logit, label).detach())


def test_the_squared_error_is_a_brier_error():
    assert float(squared(torch.tensor([0.0]), torch.tensor([1.0]))) == 0.25


def test_empty_in_empty_out():
    none = torch.empty(0)
    for kind in ("cross-entropy", "squared"):
        assert error(kind, none, none).shape == (0,)
        assert product_error(kind, none, none, none).shape == (0,)
