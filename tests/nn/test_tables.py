"""Weights as tables."""

from __future__ import annotations

import numpy as np
import torch

from deconrec.nn.tables import AdditiveWeight, ClassLogit, ItemOutcomeTable, liked, state
from deconrec.pairs import Grid, Pairs
from deconrec.training.samplers import LazyPairs
from manual import robust


def pairs(o, r):
    n = len(o)
    return Pairs(torch.arange(n) % 3, torch.arange(n) % 4, torch.tensor(o), torch.tensor(r))


def test_an_observed_zero_is_an_outcome_not_an_absence():
    p = pairs([0.0, 1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 1.0, 0.5, 1.0])
    assert state(p).tolist() == [0, 1, 2, 2, 0]
    assert liked(p).tolist() == [0, 0, 1, 1, 1]


def test_weights_are_1_at_the_start_and_by_loops_after():
    w = AdditiveWeight(3, 4, 2, largest=4.0).double()
    p, k = pairs([1.0] * 5, [0.0, 1.0, 0.0, 1.0, 1.0]), torch.tensor([0, 1, 0, 1, 1])
    assert (w(p, k) == 1).all()
    with torch.no_grad():
        for parameter in w.parameters():
            parameter.normal_(std=4)
    by_hand = robust.additive_weight(*(x.tolist() for x in (w.user, w.item, w.kind)))
    wanted = [
        robust.bounded(by_hand(u, i, c), 4.0)
        for u, i, c in zip(p.user.tolist(), p.item.tolist(), k.tolist(), strict=True)
    ]
    np.testing.assert_allclose(w(p, k).detach(), wanted, rtol=1e-12)


def test_a_rectangle_gives_what_its_pairs_give():
    w = AdditiveWeight(3, 4, 2, largest=4.0)
    with torch.no_grad():
        for parameter in w.parameters():
            parameter.normal_()
    grid = Grid(torch.tensor([2, 0]), torch.tensor([3, 1, 0]))
    k, zeros = torch.tensor([0, 1, 1, 0, 0, 1]), torch.zeros(6)
    whole = LazyPairs(o=zeros, r=zeros, tables=None, grid=grid)
    assert torch.equal(w(whole, k), w(Pairs(whole.user, whole.item, zeros, zeros), k))


def test_weights_stay_bounded_and_go_on_learning():
    # An exponential without bounds overflows; a clamp would stop learning at its ends.
    w = AdditiveWeight(1, 1, 1, largest=10.0)
    p, k = (
        Pairs(*(torch.zeros(1, dtype=torch.int64),) * 2, torch.ones(1), torch.ones(1)),
        torch.zeros(1).long(),
    )
    for start, end in ((10_000.0, 10.0), (-10_000.0, 0.1)):
        w.user.data.fill_(start)
        assert torch.allclose(w(p, k), torch.tensor(end))
    w.user.data.fill_(20.0)
    w(p, k).sum().backward()
    assert w.user.grad.abs().sum() > 0.01


def test_a_table_of_items_and_outcomes():
    table = ItemOutcomeTable(4)
    p = pairs([1.0] * 5, [0.0, 1.0, 0.4, 0.6, 1.0])
    assert (table(p) == 1).all()
    table.values.data = torch.arange(8.0).reshape(4, 2)
    assert table(p).tolist() == [0.0, 3.0, 4.0, 7.0, 1.0]
    logits = ClassLogit(3, offset=-1.0)
    assert logits(torch.tensor([2, 0])).tolist() == [-1.0, -1.0]
