"""Towers against loops, and whose the shared factors are."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from deconrec.base import Spec
from deconrec.nn.backbone import pair_net
from deconrec.nn.fm import SHARE
from deconrec.nn.towers import Head, Tower
from deconrec.pairs import Grid, Pairs, Tables
from deconrec.training.program import SGD, Mover, Nets, Step
from deconrec.training.samplers import LazyPairs
from manual.multitask import tower

SPEC = Spec(5, 4, n_user_features=2, n_item_features=3)
U, I = torch.tensor([0, 4, 2, 2]), torch.tensor([3, 0, 1, 1])
ONES = torch.ones(4)


@pytest.fixture
def tables():
    torch.manual_seed(1)
    return Tables(torch.randn(5, 2, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64))


def nets(backbone, std=0.7):
    torch.manual_seed(0)
    prediction = pair_net(backbone, SPEC, 3)
    made = Nets(prediction=prediction, propensity=Tower(prediction, SPEC, offset=-0.4)).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * std)
    return made


def by_definition(made, backbone, tables):
    """All logits of the tower, by loops."""
    over, head = made.prediction, made.propensity
    user, item = head.user.bias.detach().numpy(), head.item.bias.detach().numpy()
    if backbone == "mf":
        p, q = over.user.detach().numpy(), over.item.detach().numpy()
    else:
        x, y = (table.numpy() * np.sqrt(SHARE / table.shape[1]) for table in (tables.user, tables.item))
        p, q = (
            (side.constant + side.id).detach().numpy() + rows @ side.factors.detach().numpy()
            for side, rows in ((over.user, x), (over.item, y))
        )
        user = user + x @ head.user.weights.detach().numpy()
        item = item + y @ head.item.weights.detach().numpy()
    return np.array(tower(p, q, head.diagonal.detach().numpy(), user, item, head.offset.item()))


@pytest.mark.parametrize("backbone", ["mf", "fm"])
def test_logits_by_loops(backbone, tables):
    made = nets(backbone)
    got = made.propensity(Pairs(U, I, ONES, ONES, tables=tables)).detach().numpy()
    np.testing.assert_allclose(got, by_definition(made, backbone, tables)[U, I], atol=1e-12)


@pytest.mark.parametrize("backbone", ["mf", "fm"])
def test_grid_equals_look_ups(backbone, tables):
    head = nets(backbone).propensity
    grid = Grid(torch.tensor([4, 1]), torch.tensor([0, 2, 3]))
    whole = LazyPairs(o=torch.zeros(6), r=torch.zeros(6), tables=tables, grid=grid)
    rows = Pairs(whole.user, whole.item, torch.zeros(6), torch.zeros(6), tables=tables)
    torch.testing.assert_close(head(whole), head(rows), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backbone", ["mf", "fm"])
def test_a_fresh_tower_differs_from_its_network_by_biases_alone(backbone):
    torch.manual_seed(0)
    over = pair_net(backbone, SPEC, 3)
    pairs = Pairs(U, I, ONES, ONES)
    torch.testing.assert_close(Tower(over, SPEC, offset=0.3)(pairs), over(pairs) + 0.3)


@pytest.mark.parametrize("backbone", ["mf", "fm"])
def test_shared_factors_are_held_once_and_follow_a_copy(backbone, tables):
    made = nets(backbone)
    names = [name for name, _ in made.propensity.named_parameters()]
    assert set(names) == {"diagonal", "user.bias", "item.bias", "offset"} | (
        {"user.weights", "item.weights"} if backbone == "fm" else set()
    )
    twin = copy.deepcopy(made)
    pairs = Pairs(U, I, ONES, ONES, tables=tables)
    before = made.propensity(pairs).detach()
    with torch.no_grad():
        for parameter in twin.prediction.parameters():
            parameter.add_(1.0)
    assert torch.equal(made.propensity(pairs), before)
    assert not torch.equal(twin.propensity(pairs), before)


def test_a_step_on_the_tower_alone_leaves_the_factors_and_a_joint_one_moves_them(tables):
    from deconrec.pairs import Batch

    made, pairs = nets("mf"), Pairs(U, I, ONES, ONES, tables=tables)
    batch = Batch(pairs, pairs)

    def moved(*updates):
        trial = copy.deepcopy(made)
        step = Step(lambda n, b: {"value": n.propensity(b.space).square().sum()}, updates=updates)
        Mover.of(step, trial, SGD(0.1)).move(trial, batch)
        old, new = made.state_dict(), trial.state_dict()
        return {name for name in old if not torch.equal(old[name], new[name])}

    alone = {f"propensity.{name}" for name, _ in made.propensity.named_parameters()}
    assert moved("propensity") == alone
    assert moved("prediction", "propensity") == alone | {"prediction.user", "prediction.item"}


@pytest.mark.parametrize("backbone", ["mf", "fm"])
def test_a_head_by_loops_zero_at_the_start_and_blind_to_the_factors(backbone, tables):
    made = nets(backbone)
    head = Head(made.prediction).double()
    grid = Grid(torch.tensor([4, 1]), torch.tensor([0, 2, 3]))
    whole = LazyPairs(o=torch.zeros(6), r=torch.zeros(6), tables=tables, grid=grid)
    rows = Pairs(whole.user, whole.item, torch.zeros(6), torch.zeros(6), tables=tables)
    assert not head(rows).any()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(torch.randn_like(parameter))
    over = made.prediction
    p, q = (s[0].detach() for s in (over.user_side(tables), over.item_side(tables)))
    v, w, d = (x.tolist() for x in (head.of_user, head.of_item, head.of_both))
    p, q = p.tolist(), q.tolist()
    own = [
        sum(v[k] * p[u][k] + w[k] * q[i][k] + d[k] * p[u][k] * q[i][k] for k in range(len(v)))
        + head.offset.item()
        for u, i in zip(rows.user.tolist(), rows.item.tolist(), strict=True)
    ]
    np.testing.assert_allclose(head(rows).detach().numpy(), own, rtol=1e-9)
    torch.testing.assert_close(head(whole), head(rows))
    made.zero_grad()
    head(rows).square().sum().backward()
    assert all(p.grad is None for p in made.parameters())
    assert all(p.grad is not None and p.grad.any() for p in head.parameters())
