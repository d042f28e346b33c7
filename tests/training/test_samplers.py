"""Samplers: the promise that a risk is the same whatever the sampler."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from deconrec.checks.fixtures import confounded, rows_world
from deconrec.nn.mf import MF
from deconrec.pairs import NO_TABLES, Grid, Pairs, Tables
from deconrec.training import program, samplers
from deconrec.training.program import Bound, Nets, Step, evaluate_step
from deconrec.training.samplers import Blocks, LazyPairs, Source, UniformPairs, log_pairs, user_rows
from manual.batches import SHAPE, dense, tiny

VALUES = np.random.default_rng(0).normal(2, 1, SHAPE)  # x_ui, anything


def source(data=None):
    return Source.of(tiny() if data is None else data, NO_TABLES)


def passes(sampler, n=1, data=None, seed=0):
    s, rng = source(data), np.random.default_rng(seed)
    return [list(sampler.batches(s, rng, epoch)) for epoch in range(n)]


def x(pairs, values=VALUES):
    return torch.as_tensor(values[pairs.user.numpy(), pairs.item.numpy()])


def mean(batches, value):
    return float(np.mean([b.weight * float(value(b)) for b in batches]))


EXACT = [Blocks(7, 5), Blocks(3, 2), Blocks(4, 5), Blocks(7, 1), Blocks(2, 3), Blocks(1, 1), Blocks(100, 100)]


# ---------------------------------------------------------------------- expect is unbiased
@pytest.mark.parametrize("sampler", EXACT, ids=str)
def test_blocks_give_the_exact_sums_over_a_pass(sampler):
    o, r, rows = dense(tiny())
    (batches,) = passes(sampler)
    n = o.size
    assert mean(batches, lambda b: b.space.expect(x(b.space))) == pytest.approx(VALUES.mean(), rel=1e-6)
    assert mean(batches, lambda b: b.observed.expect(x(b.observed))) == pytest.approx(
        (o * VALUES).sum() / n, rel=1e-6
    )
    assert mean(batches, lambda b: b.observed.average(x(b.observed))) == pytest.approx(
        (o * VALUES).sum() / o.sum(), rel=1e-6
    )
    assert mean(batches, lambda b: b.space.expect(b.space.o * b.space.r * x(b.space))) == pytest.approx(
        (o * r * VALUES).sum() / n, rel=1e-6
    )
    uniform = np.mean([VALUES[u, i] for u, i, _ in rows])
    assert mean(batches, lambda b: b.unbiased.expect(x(b.unbiased))) == pytest.approx(uniform, rel=1e-6)
    assert np.mean([b.weight for b in batches]) == pytest.approx(1.0)


def test_a_mean_of_block_means_without_the_weight_would_be_biased():
    # The blocks of 7 x 5 by 3 x 2 are unequal: what the weight is for.
    (batches,) = passes(Blocks(3, 2))
    assert len({b.weight for b in batches}) > 1
    plain = np.mean([float(b.space.expect(x(b.space))) for b in batches])
    assert abs(plain - VALUES.mean()) > 1e-3


def test_uniform_pairs_are_unbiased():
    o, _, rows = dense(tiny())
    n = o.size
    every = passes(UniformPairs(4, 11), 400)
    assert len(every[0]) == -(-int(o.sum()) // 4)
    for batches in every[:3]:  # the observed rows are each visited once: exact
        got = mean(batches, lambda b: b.observed.expect(x(b.observed)))
        assert got == pytest.approx((o * VALUES).sum() / n, rel=1e-6)
        uniform = np.mean([VALUES[u, i] for u, i, _ in rows])
        assert mean(batches, lambda b: b.unbiased.expect(x(b.unbiased))) == pytest.approx(uniform, rel=1e-6)
    for value, truth in (
        (lambda b: b.space.expect(x(b.space)), VALUES.mean()),
        (lambda b: b.space.expect(b.space.o * x(b.space)), (o * VALUES).mean()),
    ):
        draws = np.array([mean(batches, value) for batches in every])
        standard_error = draws.std(ddof=1) / np.sqrt(len(draws))
        assert abs(draws.mean() - truth) < 4 * standard_error
        assert standard_error < 0.02 * abs(truth)


def test_row_blocks_are_exact_too():
    data = rows_world()
    values = np.random.default_rng(1).normal(size=data.shape)
    seen = np.zeros(data.shape, bool)
    seen[data.biased.user, data.biased.item] = True
    (batches,) = passes(Blocks(15), data=data)
    assert len({len(b.rows) for b in batches}) > 1
    got = mean(batches, lambda b: b.observed.expect(x(b.observed, values)))
    assert got == pytest.approx(values[seen].sum() / seen.size, rel=1e-6)
    got = mean(batches, lambda b: b.space.expect(x(b.space, values)))
    assert got == pytest.approx(values.mean(), rel=1e-6)


# ---------------------------------------------------------------------- bookkeeping
@pytest.mark.parametrize("sampler", [Blocks(3, 2), UniformPairs(4, 11), Blocks(3)], ids=str)
def test_masses_and_shares(sampler):
    o, _, _ = dense(tiny())
    for b in passes(sampler)[0]:
        assert b.observed.share == pytest.approx(o.mean())
        assert b.space.mass == b.space.share == 1.0
        assert b.unbiased.mass == b.unbiased.share == 1.0
        if isinstance(sampler, UniformPairs):
            assert b.observed.mass == pytest.approx(o.mean())
        else:
            cells = len(b.space.user)
            assert b.observed.mass == pytest.approx(len(b.observed) / cells)


@pytest.mark.parametrize("sampler", [*EXACT, UniformPairs(4, 11)], ids=str)
def test_every_observed_row_is_visited_once_with_its_outcome(sampler):
    o, r, _ = dense(tiny())
    count, label = np.zeros(SHAPE), np.zeros(SHAPE)
    for b in passes(sampler)[0]:
        np.add.at(count, (b.observed.user.numpy(), b.observed.item.numpy()), 1)
        label[b.observed.user.numpy(), b.observed.item.numpy()] = b.observed.r.numpy()
        assert (b.observed.o == 1).all()
        where = b.space.user.numpy(), b.space.item.numpy()
        np.testing.assert_array_equal(b.space.o.numpy(), o[where])
        np.testing.assert_array_equal(b.space.r.numpy(), r[where].astype(np.float32))
    np.testing.assert_array_equal(count, o)
    np.testing.assert_allclose(label, r, rtol=1e-6)


def test_passes_are_shuffled_and_repeatable():
    first, second = passes(Blocks(3, 2), 2)
    order = [[b.space.grid.users.tolist() for b in batches] for batches in (first, second)]
    assert order[0] != order[1]
    again = [b.space.grid.users.tolist() for b in passes(Blocks(3, 2))[0]]
    assert order[0] == again


def test_epochs_advance_with_the_blocks():
    first, second = passes(Blocks(3, 2), 2)
    assert [b.epoch for b in first] == pytest.approx(np.arange(len(first)) / len(first))
    assert second[0].epoch == 1.0


def test_blocks_of_about_so_many_cells():
    assert Blocks.of_cells((100, 50), 10**9) == Blocks(100, 50)
    for cells in (7, 500, 1_250):
        b = Blocks.of_cells((100, 50), cells)
        assert b.users * b.items <= 1.3 * cells + 1
        assert b.users >= b.items
    assert Blocks.of_cells((100, 50), 1_250) == Blocks(50, 25)


# ---------------------------------------------------------------------- empty samples
def empty():
    none = torch.empty(0, dtype=torch.int64)
    return Pairs(none, none, torch.empty(0), torch.empty(0), mass=0.0, share=0.3)


def test_an_empty_sample_expects_0_and_has_a_gradient():
    w = torch.ones((), requires_grad=True)
    for value in (empty().expect(w * torch.empty(0)), empty().average(w * torch.empty(0))):
        assert float(value.detach()) == 0.0
        (gradient,) = torch.autograd.grad(value, [w])
        assert gradient == 0


def test_a_share_of_0_averages_to_0():
    none = torch.empty(0, dtype=torch.int64)
    p = Pairs(none, none, torch.empty(0), torch.empty(0), mass=0.0, share=0.0)
    assert float(p.average(torch.empty(0))) == 0.0


def test_some_blocks_have_no_observed_row():
    (batches,) = passes(Blocks(1, 1))
    sizes = {len(b.observed) for b in batches}
    assert sizes == {0, 1}
    assert all(np.isfinite(float(b.observed.expect(x(b.observed)))) for b in batches)


def test_sample_weights():
    p = Pairs(*torch.zeros(2, 3, dtype=torch.int64), torch.ones(3), torch.ones(3), mass=0.5)
    weighted = Pairs(p.user, p.item, p.o, p.r, mass=0.5, weight=torch.tensor([0.0, 1.0, 2.0]))
    values = torch.tensor([1.0, 2.0, 4.0])
    assert float(p.expect(values)) == pytest.approx(0.5 * 7 / 3)
    assert float(weighted.expect(values)) == pytest.approx(0.5 * 10 / 3)


# ---------------------------------------------------------------------- grids
def test_a_grid_answers_like_look_ups():
    torch.manual_seed(0)
    net = MF(*SHAPE, 3, offset=0.3)
    torch.nn.init.normal_(net.user_bias)
    torch.nn.init.normal_(net.item_bias)
    for b in passes(Blocks(3, 2))[0]:
        plain = Pairs(b.space.user, b.space.item, b.space.o, b.space.r)
        assert plain.grid is None
        torch.testing.assert_close(net(b.space), net(plain), atol=1e-6, rtol=1e-6)
        gradients = [
            torch.autograd.grad(net(p).square().sum(), list(net.parameters())) for p in (b.space, plain)
        ]
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("sampler", [s for s in EXACT if s.items is not None], ids=str)
def test_observed_rows_know_their_place_in_the_grid(sampler):
    (batches,) = passes(sampler)
    for b in batches:
        grid, place = b.observed.within
        assert grid is b.space
        for name in ("user", "item", "r"):
            assert torch.equal(getattr(b.space, name)[place], getattr(b.observed, name))
        assert b.space.o.sum() == len(b.observed)


class Counting(MF):
    """An MF that keeps what it was asked."""

    def forward(self, pairs):
        self.asked.append("grid" if pairs.grid is not None else "rows")
        return super().forward(pairs)


@pytest.mark.parametrize("grid_first", [True, False])
def test_rows_within_a_grid_take_its_answers(grid_first, monkeypatch):
    monkeypatch.setattr(program, "CHEAPER", 0)
    torch.manual_seed(0)
    nets = Nets(prediction=Counting(*SHAPE, 3))
    first, second = passes(Blocks(4, 3))[0][:2]

    def loss(n, b):
        names = ("space", "observed") if grid_first else ("observed", "space")
        return {name: getattr(b, name).expect(n.prediction(getattr(b, name)) ** 2) for name in names}

    step = Step(loss, updates=("prediction",))
    bound = Bound.of(step, nets)
    for batch, asked in ((first, ["grid"] if grid_first else ["rows", "grid"]), (second, ["grid"])):
        nets["prediction"].asked = []
        terms, _, gradients = evaluate_step(step, nets, batch, bound)
        assert nets["prediction"].asked == asked
        apart = replace(batch, observed=replace(batch.observed, within=None))
        plain, _, expected = evaluate_step(step, nets, apart)
        for a, b in zip((*terms.values(), *gradients), (*plain.values(), *expected), strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize(("cheaper", "asked"), [(0, "rows"), (1000, "grid")])
def test_rows_are_looked_up_where_the_grid_is_not_asked_for_and_they_are_few(cheaper, asked, monkeypatch):
    monkeypatch.setattr(program, "CHEAPER", cheaper)
    nets = Nets(prediction=Counting(*SHAPE, 3))
    nets["prediction"].asked = []
    step = Step(lambda n, b: {"o": b.observed.expect(n.prediction(b.observed))}, updates=("prediction",))
    bound = Bound.of(step, nets)
    for batch in passes(Blocks(4, 3))[0][:2]:
        _, _, gradients = evaluate_step(step, nets, batch, bound)
        monkeypatch.setattr(program, "CHEAPER", 0 if cheaper else 1000)
        _, _, others = evaluate_step(step, nets, batch)
        monkeypatch.setattr(program, "CHEAPER", cheaper)
        for one, other in zip(gradients, others, strict=True):
            torch.testing.assert_close(one, other)
    assert nets["prediction"].asked[::2] == [asked, asked]


def test_lazy_pairs_make_their_indices_when_asked():
    grid = Grid(torch.tensor([4, 2]), torch.tensor([1, 0, 3]))
    lazy = LazyPairs(
        o=torch.zeros(6), r=torch.zeros(6), tables=Tables(user=torch.arange(5.0)[:, None]), grid=grid
    )
    assert "user" not in vars(lazy)
    assert lazy.user.tolist() == [4, 4, 4, 2, 2, 2]
    assert lazy.item.tolist() == [1, 0, 3, 1, 0, 3]
    assert "user" in vars(lazy)
    assert len(lazy) == 6
    assert lazy.x_user.flatten().tolist() == [4, 4, 4, 2, 2, 2]
    assert lazy.x_item is None
    with pytest.raises(AttributeError, match="colour"):
        _ = lazy.colour


# ---------------------------------------------------------------------- rows
def test_rows_sparse_and_dense_agree():
    data = rows_world()
    s = source(data)
    users = np.array([5, 0, 39, 17])
    rows, where = user_rows(s, users)
    o, r, rating = (np.zeros(data.shape, np.float32) for _ in range(3))
    log = data.biased
    o[log.user, log.item], rating[log.user, log.item] = 1, log.rating
    r[log.user, log.item] = data.outcome(log)
    for what, matrix in (("o", o), ("r", r), ("rating", rating)):
        np.testing.assert_array_equal(rows.dense(what).numpy(), matrix[users])
    assert len(rows) == 4
    np.testing.assert_array_equal(s.user[where], np.repeat(users, np.diff(rows.offset.numpy())))
    np.testing.assert_array_equal(s.item[where], rows.item.numpy())
    np.testing.assert_array_equal(rows.row.numpy(), np.repeat(np.arange(4), np.diff(rows.offset.numpy())))


def test_a_user_without_rows_is_a_row_of_zeros():
    rows, where = user_rows(source(), np.array([0]))
    assert len(rows) == 1
    assert not len(where)
    assert (rows.dense("o") == 0).all()


# ---------------------------------------------------------------------- sources
def test_the_source_is_sorted_and_writable():
    data, _ = confounded()
    s = source(data)
    key = s.user.astype(int) * data.n_items + s.item
    assert (np.diff(key) > 0).all()
    assert s.density == pytest.approx(data.density)


def test_seen_looks_cells_up():
    o, r, _ = dense(tiny())
    got_o, got_r = source().seen(np.arange(o.size))
    np.testing.assert_array_equal(got_o.reshape(SHAPE), o)
    np.testing.assert_array_equal(got_r.reshape(SHAPE), r.astype(np.float32))


def test_a_large_randomised_log_is_sampled(monkeypatch):
    monkeypatch.setattr(samplers, "LARGEST_UNBIASED", 5)
    s, rng = source(), np.random.default_rng(0)
    whole = log_pairs(tiny(), tiny().unbiased, NO_TABLES)
    draws = [float(x(s.randomised(rng)).mean()) for _ in range(600)]
    assert len(s.randomised(rng)) == 5
    standard_error = np.std(draws) / np.sqrt(len(draws))
    assert abs(np.mean(draws) - float(x(whole).mean())) < 4 * standard_error


def test_no_randomised_log_is_none():
    data = tiny()
    s = source(data.with_logs(data.biased))
    assert s.randomised(np.random.default_rng(0)) is None
    assert all(b.unbiased is None for b in Blocks(3, 2).batches(s, np.random.default_rng(0), 0))


def test_item_codes_beyond_32_bits_of_cells():
    # 100,000 users by 100,000 items: keys need 64 bits, and nothing of that size is made.
    log = tiny().biased
    far = np.array([99_999], np.int32)
    s = Source(
        (100_000, 100_000),
        far,
        far,
        np.ones(1, np.float32),
        np.ones(1, np.float32),
        np.zeros(1),
        None,
        NO_TABLES,
        torch.device("cpu"),
    )
    assert log.user.dtype == np.int32
    o, r = s.seen(np.array([99_999 * 100_000 + 99_999, 5]))
    assert o.tolist() == [1, 0]
    assert r.tolist() == [1, 0]
    (batch,) = UniformPairs(10, 1000).batches(s, np.random.default_rng(0), 0)
    assert len(batch.space) == 1000


def test_an_empty_log_has_seen_nothing():
    data = tiny()
    source = Source.of(data.with_logs(data.biased.take(np.zeros(0, np.int64))), NO_TABLES)
    o, r = source.seen(np.array([0, 3]))
    assert o.tolist() == r.tolist() == [0, 0]
