"""The bound's parts against loops over a user's items."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deconrec.losses.elbo import (
    annealed,
    bernoulli_log_likelihood,
    multinomial_log_likelihood,
    negative_bound,
)
from deconrec.pairs import Rows
from manual import rows as manual

RATING = np.array([[5, 0, 1, 0], [0, 0, 0, 0], [2, 3, 4, 1.0]])
LOGITS = np.random.default_rng(0).normal(0, 3, RATING.shape)


def rows():
    a = RATING > 0
    _, item = np.nonzero(a)
    offset = np.concatenate([[0], np.cumsum(a.sum(1))])
    rating = torch.as_tensor(RATING[a])
    return Rows(torch.arange(3), torch.as_tensor(item), torch.as_tensor(offset), rating, rating, None, 4)


def test_bernoulli_equals_the_twin():
    got = bernoulli_log_likelihood(torch.as_tensor(LOGITS), rows())
    for b in range(3):
        assert float(got[b]) == pytest.approx(manual.bernoulli(RATING[b] > 0, LOGITS[b]), rel=1e-9)


def test_multinomial_equals_the_twin():
    got = multinomial_log_likelihood(torch.as_tensor(LOGITS), rows(), rows().rating)
    for b in range(3):
        assert float(got[b]) == pytest.approx(manual.multinomial(RATING[b], LOGITS[b]), rel=1e-9)
    assert float(got[1]) == 0.0  # a user without rows


def test_the_multinomial_is_shift_invariant_and_the_bernoulli_is_not():
    l = torch.as_tensor(LOGITS)
    one, two = (multinomial_log_likelihood(x, rows(), rows().rating) for x in (l, l + 5))
    torch.testing.assert_close(one, two)
    assert not torch.allclose(*(bernoulli_log_likelihood(x, rows()) for x in (l, l + 5)))


def test_extreme_logits_stay_finite():
    for big in (1e4, -1e4):
        l = torch.full((3, 4), big, dtype=torch.float64, requires_grad=True)
        value = (
            bernoulli_log_likelihood(l, rows()).sum() + multinomial_log_likelihood(l, rows(), rows().r).sum()
        )
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(l.grad).all()


@pytest.mark.parametrize(("epoch", "weight"), [(0, 0.0), (5, 0.1), (10, 0.2), (50, 0.2)])
def test_annealing(epoch, weight):
    assert annealed(epoch, 10, 0.2) == pytest.approx(weight)
    assert annealed(epoch, 10, 0.2) == pytest.approx(manual.annealed(epoch, 10, 0.2))
    assert annealed(epoch, 0, 0.2) == 0.2


def test_the_bound_is_a_weighted_mean_over_users():
    likelihood, kl, w = (torch.tensor(v) for v in ([-3.0, -1.0], [2.0, 6.0], [0.5, 1.5]))
    plain = negative_bound(rows(), likelihood, None, 0.3)
    assert {k: float(v) for k, v in plain.items()} == {"outcome": 2.0}
    terms = negative_bound(rows(), likelihood, kl, 0.5, w)
    assert float(terms["outcome"]) == pytest.approx((0.5 * 3 + 1.5 * 1) / 2)
    assert float(terms["kl"]) == pytest.approx(0.5 * (0.5 * 2 + 1.5 * 6) / 2)


def test_annealing_within_one_epoch():
    assert annealed(0.5, 1.0, 0.2) == 0.1
    assert annealed(0.0, 0.0, 0.2) == 0.2
