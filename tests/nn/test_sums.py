"""Weighted sums of table rows: against a dense product, and their gradient against the numerical one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deconrec.nn.sums import weighted_sums
from deconrec.pairs import Rows


def world(*, counts=(2, 0, 3, 1), n_items=5, seed=0):
    rng = np.random.default_rng(seed)
    item = np.concatenate([rng.choice(n_items, n, replace=False) for n in counts])
    value = torch.ones(len(item))
    offset = torch.tensor(np.concatenate([[0], np.cumsum(counts)]))
    rows = Rows(torch.arange(len(counts)), torch.tensor(item), offset, value, value, None, n_items)
    return rows, torch.tensor(rng.normal(size=len(item)))


def dense(rows, weight):
    out = torch.zeros(len(rows), rows.n_items, dtype=weight.dtype)
    for b, i, w in zip(rows.row, rows.item, weight, strict=True):
        out[b, i] += w
    return out


@pytest.mark.parametrize("dropped", [(), (0,), (0, 1), (2, 3, 4, 5), tuple(range(6))])
def test_sums_and_their_gradient_are_those_of_the_dense_product(dropped):
    rows, weight = world()
    weight[list(dropped)] = 0.0
    table = torch.randn(rows.n_items, 3, dtype=torch.float64, requires_grad=True)
    twin = table.detach().clone().requires_grad_()
    a, b = weighted_sums(table, rows, weight), dense(rows, weight) @ twin
    assert torch.allclose(a, b)
    g = torch.randn_like(a)
    a.backward(g)
    b.backward(g)
    assert torch.allclose(table.grad, twin.grad)


def test_the_gradient_is_the_numerical_one():
    rows, weight = world(seed=1)
    weight[1] = 0.0
    table = torch.randn(rows.n_items, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: weighted_sums(t, rows, weight), (table,))


def test_a_table_that_does_not_learn_gets_no_gradient():
    rows, weight = world()
    out = weighted_sums(torch.ones(rows.n_items, 2, dtype=torch.float64), rows, weight)
    assert not out.requires_grad
    assert torch.allclose(out, dense(rows, weight).sum(1, keepdim=True).expand(-1, 2))
