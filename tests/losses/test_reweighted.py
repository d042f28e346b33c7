"""Reweighted risks on samples: empty ones, and those of unequal size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deconrec.losses import reweighted
from deconrec.pairs import Pairs


def sample(n, mass=0.25, share=0.25, weight=None):
    index = torch.zeros(n, dtype=torch.int64)
    return Pairs(index, index, torch.ones(n), torch.zeros(n), mass=mass, share=share, weight=weight)


E, W = torch.tensor([0.5, 2.0, 1.0]), torch.tensor([4.0, 1.0, 5.0])


def test_snips_weights_sum_to_one():
    o = sample(3)
    shares = [float(reweighted.snips(o, torch.eye(3)[k], W)) for k in range(3)]
    np.testing.assert_allclose(shares, W / W.sum(), rtol=1e-6)
    assert sum(shares) == pytest.approx(1, rel=1e-6)


def test_snips_ignores_the_scale_of_the_weights_and_ips_does_not():
    o = sample(3)
    assert float(reweighted.snips(o, E, 7 * W)) == pytest.approx(float(reweighted.snips(o, E, W)), rel=1e-6)
    assert float(reweighted.ips(o, E, 7 * W)) == pytest.approx(7 * float(reweighted.ips(o, E, W)), rel=1e-6)


def test_snips_counts_sample_weights_in_both_sums():
    k = torch.tensor([1.0, 0.0, 3.0])
    got = float(reweighted.snips(sample(3, weight=k), E, W))
    assert got == pytest.approx(float((k * W * E).sum() / (k * W).sum()), rel=1e-6)


def test_an_empty_sample_gives_0_and_a_finite_gradient():
    o, d, e = sample(0, mass=0.0), sample(2, mass=1.0, share=1.0), torch.zeros(0, requires_grad=True)
    w = torch.zeros(0, requires_grad=True)
    values = [
        reweighted.ips(o, e, w),
        reweighted.snips(o, e, w),
        reweighted.imputation(o, e, e, w),
        reweighted.dr(o, d, e, e, torch.ones(2), w)["correction"],
    ]
    assert [float(v.detach()) for v in values] == [0, 0, 0, 0]
    (gradient,) = torch.autograd.grad(sum(values), [e])
    assert torch.isfinite(gradient).all()


def test_dr_and_eib_by_hand():
    o, d = sample(2, mass=0.5, share=0.5), sample(4, mass=1.0, share=1.0)
    d.o[2:] = 0
    e, e_hat, e_hat_d = torch.tensor([1.0, 3.0]), torch.tensor([0.5, 1.0]), torch.tensor([0.5, 1.0, 2.0, 4.0])
    w = torch.tensor([2.0, 4.0])
    terms = reweighted.dr(o, d, e, e_hat, e_hat_d, w)
    assert float(terms["direct"]) == (0.5 + 1 + 2 + 4) / 4
    assert float(terms["correction"]) == (2 * 0.5 + 4 * 2) / 4
    assert float(reweighted.eib(o, d, e, e_hat_d)) == (1 + 3 + 2 + 4) / 4
    assert float(reweighted.imputation(o, e, e_hat, w)) == (2 * 0.25 + 4 * 4) / 2
    assert float(reweighted.imputation(o, e, e_hat)) == (0.25 + 4) / 2
