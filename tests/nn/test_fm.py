"""The factorisation machine against its definition: every pair of inputs interacts."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import polars as pl
import pytest
import torch

import deconrec as dc
from deconrec.nn.fm import FM
from deconrec.nn.mf import MF, fold_in
from deconrec.pairs import Grid, Pairs, Tables
from deconrec.training.samplers import LazyPairs


def machine(seed=0, **options):
    torch.manual_seed(seed)
    net = FM(5, 4, 3, n_user_features=2, n_item_features=3, offset=-0.3, **options).double()
    for side in (net.user, net.item):
        torch.nn.init.normal_(side.bias, std=0.5)
        torch.nn.init.normal_(side.weights, std=0.5)
    return net


@pytest.fixture
def tables():
    torch.manual_seed(1)
    return Tables(torch.randn(5, 2, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64))


def by_definition(net, u, i, tables):
    """b + sum of single terms + sum over pairs of inputs, by loops."""
    total = net.offset.item()
    inputs = []
    for side, code, table in ((net.user, u, tables.user), (net.item, i, tables.item)):
        total += side.bias[code].item()
        inputs.append((1.0, side.id[code].detach().numpy()))
        for f in range(table.shape[1]):
            value = table[code, f].item()
            total += value * side.weights[f].item()
            inputs.append((value, side.factors[f].detach().numpy()))
    for (x, v), (y, w) in combinations(inputs, 2):
        total += x * y * float(v @ w)
    return total


def test_logits_by_definition(tables):
    net = machine()
    u, i = torch.tensor([0, 4, 2, 2]), torch.tensor([3, 0, 1, 1])
    got = net(Pairs(u, i, torch.ones(4), torch.ones(4), tables=tables))
    want = [by_definition(net, int(a), int(b), tables) for a, b in zip(u, i, strict=True)]
    np.testing.assert_allclose(got.detach().numpy(), want, atol=1e-12)


def test_grid_equals_look_ups(tables):
    net = machine()
    grid = Grid(torch.tensor([4, 1]), torch.tensor([0, 2, 3]))
    whole = LazyPairs(o=torch.zeros(6), r=torch.zeros(6), tables=tables, grid=grid)
    rows = Pairs(whole.user, whole.item, torch.zeros(6), torch.zeros(6), tables=tables)
    torch.testing.assert_close(net(whole), net(rows), rtol=1e-12, atol=1e-12)


def test_without_features_it_is_mf():
    torch.manual_seed(0)
    fm = FM(5, 4, 3)
    mf = MF(5, 4, 3)
    with torch.no_grad():
        mf.user.copy_(fm.user.id)
        mf.item.copy_(fm.item.id)
    pairs = Pairs(torch.arange(4), torch.arange(4), torch.ones(4), torch.ones(4))
    torch.testing.assert_close(fm(pairs), mf(pairs))


def test_still_machine_says_its_offset_and_can_learn(tables):
    torch.manual_seed(0)
    net = FM(5, 4, 3, n_user_features=2, n_item_features=3, offset=0.7, still=True).double()
    with torch.no_grad():
        net.user.factors.zero_()
    pairs = Pairs(
        torch.arange(4), torch.arange(4), torch.ones(4), torch.ones(4), tables=Tables(None, tables.item)
    )
    out = net(pairs)
    torch.testing.assert_close(out, torch.full((4,), 0.7, dtype=torch.float64))
    out.sum().backward()
    assert net.item.id.grad.abs().sum() > 0


def test_fold_in_minimises_its_objective(tables):
    """The gradient of the machine's own objective in the new user's id vanishes at the folded-in outcome."""
    net = machine()
    x_new = torch.randn(1, 2, dtype=torch.float64)
    item, r = np.array([0, 1, 3]), np.array([1.0, 0.0, 1.0])
    sides = net.item_side(tables), net.new_users(1, x_new)
    got = fold_in(*sides, np.zeros(3, int), item, r, 0.4, rounds=200)
    net.user.id.data = torch.zeros(1, 3, dtype=torch.float64)
    net.user.bias.data = torch.zeros(1, dtype=torch.float64)
    pairs = Pairs(
        torch.zeros(3, dtype=torch.long),
        torch.tensor(item),
        torch.ones(3),
        torch.ones(3),
        tables=Tables(x_new, tables.item),
    )
    w = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    b = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [w, b], max_iter=500, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def logits(p):
        return torch.func.functional_call(net, {"user.id": w, "user.bias": b}, (p,))

    def closure():
        optimiser.zero_grad()
        value = torch.nn.functional.binary_cross_entropy_with_logits(
            logits(pairs), torch.tensor(r), reduction="sum"
        ) + 0.2 * (w.square().sum() + b.square().sum())
        value.backward()
        return value

    optimiser.step(closure)
    everything = Pairs(
        torch.zeros(4, dtype=torch.long), torch.arange(4), torch.ones(4), torch.ones(4), tables=pairs.tables
    )
    np.testing.assert_allclose(got[0], torch.sigmoid(logits(everything)).detach().numpy(), atol=1e-6)


@pytest.mark.parametrize("method", ["mf", "ips:propensity.backbone=fm", "dr-jl", "res-ips", "res-dr"])
def test_every_pair_method_reads_features_with_it(method, tmp_path):
    data, _ = dc.simulate.pairs(n_users=80, n_items=40, exposure_rate=0.2, unbiased_share=0.1, seed=0)
    model = dc.make(f"{method}{'+' if ':' in method else ':'}backbone=fm+epochs=3+dim=4").fit(data)
    assert model.tags.uses_features
    loaded = dc.load_model(model.save(tmp_path / "m"))
    assert (loaded.score() == model.score()).all()
    history = pl.DataFrame({"user_id": ["new"] * 3, "item_id": data.items.values[:3], "rating": [1, 0, 1]})
    assert np.isfinite(model.score(history=history)).all()
    plain = dc.make(f"{method}{'+' if ':' in method else ':'}epochs=3+dim=4")
    assert plain.clone().set_params(backbone="mf").fit(data).score().std() > 0


def test_features_help_where_they_carry_the_outcome():
    data, truth = dc.simulate.pairs(
        n_users=300, n_items=100, confounding=0.0, unbiased_share=0.02, idiosyncratic=1.0, seed=0
    )
    error = {}
    for backbone in ("mf", "fm"):
        scores = dc.MF(backbone=backbone, dim=8, seed=0).fit(data).score()
        error[backbone] = np.corrcoef(scores.ravel(), truth.outcome.ravel())[0, 1]
    assert error["fm"] > error["mf"] + 0.05
