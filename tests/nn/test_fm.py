"""The factorisation machine against its definition: every pair of inputs across the two sides interacts."""

from __future__ import annotations

import dataclasses
from itertools import product

import numpy as np
import polars as pl
import pytest
import torch

import deconrec as dc
from deconrec.data.dataset import Features
from deconrec.nn.fm import FM, SHARE, scaled
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
    """b + sum of single terms + sum over pairs of an input of the user's side and one of the item's, by loops."""
    total, inputs = net.offset.item(), []
    for side, code, table in ((net.user, u, tables.user), (net.item, i, tables.item)):
        total += side.bias[code].item()
        own = [(1.0, side.constant.detach().numpy()), (1.0, side.id[code].detach().numpy())]
        for f in range(table.shape[1]):
            value = table[code, f].item() * (SHARE / table.shape[1]) ** 0.5
            total += value * side.weights[f].item()
            own.append((value, side.factors[f].detach().numpy()))
        inputs.append(own)
    for (x, v), (y, w) in product(*inputs):
        total += x * y * float(v @ w)
    return total


def test_logits_by_definition(tables):
    net = machine()
    u, i = torch.tensor([0, 4, 2, 2]), torch.tensor([3, 0, 1, 1])
    got = net(Pairs(u, i, torch.ones(4), torch.ones(4), tables=tables))
    want = [by_definition(net, int(a), int(b), tables) for a, b in zip(u, i, strict=True)]
    np.testing.assert_allclose(got.detach().numpy(), want, atol=1e-12)


def test_features_of_the_row_interact_with_both_sides(tables):
    net = machine(n_row_features=2)
    torch.nn.init.normal_(net.row_weights)
    u, i, z = torch.tensor([0, 4, 2]), torch.tensor([3, 0, 1]), torch.randn(3, 2, dtype=torch.float64)
    ones = torch.ones(3)
    got = net(Pairs(u, i, ones, ones, tables=tables, context={"features": z})).tolist()
    (s_u, _), (s_i, _) = net.user_side(tables), net.item_side(tables)
    for n in range(3):
        want = by_definition(net, int(u[n]), int(i[n]), tables)
        for f in range(2):
            value = z[n, f].item() * (SHARE / 2) ** 0.5
            want += value * net.row_weights[f].item()
            for side in (s_u[u[n]], s_i[i[n]]):
                want += value * float(net.row[f].detach() @ side.detach())
        assert got[n] == pytest.approx(want)
    bare = net(Pairs(u, i, ones, ones, tables=tables)).tolist()  # rows without features: the other terms
    assert bare == pytest.approx(
        [by_definition(net, int(a), int(b), tables) for a, b in zip(u, i, strict=True)]
    )
    still = FM(5, 4, 3, n_row_features=2, offset=-0.3, still=True)
    rows = Pairs(u, i, ones, ones, context={"features": z.float()})
    assert still(rows).tolist() == pytest.approx([-0.3] * 3)


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


def test_features_on_one_side_alone_still_meet_a_constant():
    """The other side's constant has a factor, so that those features' main effect is learned by factors too."""
    torch.manual_seed(0)
    net = FM(5, 4, 3, n_user_features=2).double()
    x = torch.randn(5, 2, dtype=torch.float64)
    with torch.no_grad():
        net.item.id.zero_()
        net.user.id.zero_()
        net.user.constant.zero_()
    pairs = Pairs(torch.arange(4), torch.arange(4), torch.ones(4), torch.ones(4), tables=Tables(x))
    want = (scaled(x) @ net.user.factors @ net.item.constant)[:4]
    assert want.abs().min() > 0
    torch.testing.assert_close(net(pairs), want)


@pytest.mark.parametrize("n_features", [1, 40])
def test_a_row_of_standardised_features_weighs_the_same_however_many_they_are(n_features):
    x = torch.randn(1000, n_features, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = (x - x.mean(0)) / x.std(0, correction=0)
    assert scaled(x).square().sum(1).mean().item() == pytest.approx(SHARE)


def test_still_machine_says_its_offset_and_can_learn(tables):
    torch.manual_seed(0)
    net = FM(5, 4, 3, n_user_features=2, n_item_features=3, offset=0.7, still=True).double()
    grid = Grid(torch.arange(5), torch.arange(4))
    out = net(LazyPairs(o=torch.zeros(20), r=torch.zeros(20), tables=tables, grid=grid))
    assert (out == net.offset).all()
    out.sum().backward()
    assert net.item.id.grad.abs().sum() > 0
    assert net.item.factors.grad.abs().sum() > 0


def test_user_without_row_or_features_is_the_constant(tables):
    net = machine()
    s, b = net.new_users(2, None)
    torch.testing.assert_close(s, net.user.constant.expand(2, -1))
    assert (b == 0).all()
    everyone = net.user_side(tables)
    with torch.no_grad():
        net.user.id.zero_()
        net.user.bias.zero_()
    for got, want, kept in zip(net.new_users(5, tables.user), net.user_side(tables), everyone, strict=True):
        torch.testing.assert_close(got, want)
        assert (got != kept).all()


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


def test_many_columns_of_noise_hardly_hurt():
    """Forty columns a side together weigh less than an id; unscaled, they drown it."""
    data, truth = dc.simulate.pairs(n_users=300, n_items=100, confounding=0.0, unbiased_share=0.02, seed=1)
    rng = np.random.default_rng(0)
    names = tuple(f"noise {k}" for k in range(40))
    user, item = (
        Features(names, rng.standard_normal((n, 40), np.float32), np.zeros(n, bool)) for n in data.shape
    )
    data = dataclasses.replace(data, user_features=user, item_features=item)
    agreement = {}
    for backbone in ("mf", "fm"):
        scores = dc.MF(backbone=backbone, dim=8, seed=0).fit(data).score()
        agreement[backbone] = np.corrcoef(scores.ravel(), truth.outcome.ravel())[0, 1]
    assert agreement["fm"] > agreement["mf"] - 0.1
