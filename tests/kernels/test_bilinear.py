"""The sampler of a bilinear model against loops, the dense posterior and its own prior."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import halfcauchy, invgamma, norm

from deconrec.kernels import bilinear, tables
from deconrec.kernels.als import Entries
from deconrec.kernels.bilinear import Sampler, Side, update
from deconrec.kernels.response import Gaussian, Ordinal
from deconrec.kernels.tables import compressed, dots, parts, rescaled

NOISE = 0.5  # the variance of the rows' noise, where it is held


class Still(Gaussian):
    """Noise whose variance is known."""

    def adjusted(self, f, copies, rng):
        return self


# ---------------------------------------------------------------------- every row's block
def rows_of_a_log(n=8, m=9, k=4, seed=0):
    """(side, codes, arguments of `update`): two rows have no entry, and one pair stands twice in the log."""
    rng = np.random.default_rng(seed)
    row = rng.choice([0, 1, 2, 4, 5, 7], 45)
    column = rng.integers(0, m, 45)
    row[-1], column[-1] = row[0], column[0]
    side = Side.of(Entries.of(row, column, n), k, m)
    table, old = rng.normal(size=(m, k)), rng.normal(size=(n, k))
    prior, rest, weight = rng.uniform(0.3, 3, k), rng.normal(size=45), rng.integers(1, 4, 45) / NOISE
    given = (x.astype(np.float32) for x in (table, old, prior, rest, weight))
    return side, row, column, tuple(given)


def normal_of(u, row, column, table, old, prior, rest, weight):
    """(mean, covariance) of one row's block, entry by entry."""
    precision, right = np.diag(prior.astype(float)), np.zeros(len(prior))
    for j in np.flatnonzero(row == u):
        t = table[column[j]].astype(float)
        precision += weight[j] * np.outer(t, t)
        right += weight[j] * (rest[j] + t @ old[u]) * t
    return np.linalg.solve(precision, right), np.linalg.inv(precision)


def test_means_of_blocks_equal_loops_and_rows_without_entries_have_mean_0():
    side, row, column, given = rows_of_a_log()
    _, mean, _ = update(side, *given, np.random.default_rng(1))
    for u in range(8):
        np.testing.assert_allclose(mean[u], normal_of(u, row, column, *given)[0], rtol=1e-4, atol=1e-4)
    assert (mean[[3, 6]] == 0).all()


def test_the_change_is_that_of_the_products():
    side, row, column, given = rows_of_a_log()
    draw, _, change = update(side, *given, np.random.default_rng(1))
    table, old = given[:2]
    wanted = [table[i] @ (draw[u] - old[u]) for u, i in zip(row, column, strict=True)]
    np.testing.assert_allclose(change, wanted, atol=1e-4)


def test_draws_have_the_mean_and_the_covariance_of_the_posterior():
    side, row, column, given = rows_of_a_log()
    rng, n = np.random.default_rng(2), 4000
    draws = np.array([update(side, *given, rng)[0] for _ in range(n)], float)
    for u in (0, 4, 6):  # the last one has no entry
        mean, covariance = normal_of(u, row, column, *given)
        variance = np.diag(covariance)
        assert (np.abs(draws[:, u].mean(0) - mean) < 5 * np.sqrt(variance / n)).all()
        error = np.sqrt((np.outer(variance, variance) + covariance**2) / n)
        assert (np.abs(np.cov(draws[:, u].T) - covariance) < 5 * error).all()


def test_blocks_of_two_rows_are_drawn_apart():
    side, _, _, given = rows_of_a_log()
    rng, n = np.random.default_rng(3), 2000
    draws = np.array([update(side, *given, rng)[0][[0, 1, 6]].ravel() for _ in range(n)])
    both = np.corrcoef(draws.T)
    assert np.abs(both[:4, 4:]).max() < 5 / np.sqrt(n)
    assert np.abs(both[4:8, 8:]).max() < 5 / np.sqrt(n)


# ---------------------------------------------------------------------- a chain
def chain(n=14, m=9, f=3, h=2, s=1, size=90, dim=0, response="gaussian", seed=0, **settings):
    """A sampler of a small log in which who rates what is not random, and no row is the last user's."""
    rng = np.random.default_rng(seed)
    phi, psi = rng.normal(size=(n, f)).astype(np.float32), rng.normal(size=(m, h)).astype(np.float32)
    taste = (phi[:-1, :1] + psi[:, 0]).ravel() if f and h else np.zeros((n - 1) * m)
    cells = rng.choice((n - 1) * m, size, p=np.exp(taste) / np.exp(taste).sum())  # some of them twice
    user, item = cells // m, cells % m
    biased = rng.random(size) < 1 / (1 + np.exp(-4 * taste[cells]))
    columns = np.column_stack([biased, *(biased * rng.normal(size=size) for _ in range(s - 1))])[:, :s]
    copies = np.where(biased, 1, rng.integers(1, 3, size))
    level = rng.integers(0, 4, size)
    kinds = {
        "gaussian": Still(rng.normal(1, 1, size).astype(np.float32), NOISE),
        "free gaussian": Gaussian.of(rng.random(size)),
        "levels": Ordinal.of(level, np.linspace(0, 1, 4), np.bincount(level), 1),
        "binary": Ordinal.of(level // 2, np.array([0.0, 1.0]), np.ones(2), 0),
    }
    return Sampler(
        phi=phi,
        psi=psi,
        phi_group=np.arange(f) // 2,
        psi_group=np.arange(h),
        user=user,
        item=item,
        copies=copies,
        response=kinds[response],
        columns=columns.astype(np.float32),
        spread=np.linspace(4.0, 2.0, s),
        dim=dim,
        rng=rng,
        **settings,
    )


def regressors(sampler, user, item, s):
    """Of (G, d, a, v, b, w), by the equation of f, for one row."""
    (n, f), (m, h) = sampler.phi.shape, sampler.psi.shape
    phi_1, psi_1 = np.append(1.0, sampler.phi[user]), np.append(1.0, sampler.psi[item])
    g, a, v = np.outer(phi_1, psi_1), np.zeros(n), np.zeros((n, h))
    b, w = np.zeros(m), np.zeros((m, f))
    a[user] = b[item] = 1.0
    v[user], w[item] = sampler.psi[item], sampler.phi[user]
    return np.concatenate([g.ravel(), s, a, v.ravel(), b, w.ravel()])


def coefficients(sampler):
    h, f = sampler.psi.shape[1], sampler.phi.shape[1]
    u, i = sampler.u, sampler.i
    parts = (sampler.g, sampler.d, u[:, 0], u[:, 1 : 1 + h], i[:, 0], i[:, 1 : 1 + f])
    return np.concatenate([x.ravel() for x in parts]).astype(float)


def prior_variances(sampler):
    """Of all coefficients in the same order, written from the docstrings."""
    (n, f), (m, h), v = sampler.phi.shape, sampler.psi.shape, sampler.variance
    mine, theirs = sampler.phi_group, sampler.psi_group
    g = np.zeros((1 + f, 1 + h))
    g[0, 0] = bilinear.GRAND * NOISE
    for x in range(f):
        g[1 + x, 0] = v["alpha"][mine[x]]
        for y in range(h):
            g[0, 1 + y] = v["beta"][theirs[y]]
            g[1 + x, 1 + y] = v["g"][mine[x], theirs[y]]
    return np.concatenate(
        [
            g.ravel(),
            sampler.spread * NOISE,
            np.repeat(v["a"], n),
            np.tile(v["v"][theirs], n),
            np.repeat(v["b"], m),
            np.tile(v["w"][mine], m),
        ]
    )


def batch_error(x, batches=25):
    """Standard errors of the means (k,) of a chain (T, k)."""
    means = x[: len(x) // batches * batches].reshape(batches, -1, x.shape[1]).mean(1)
    return means.std(0, ddof=1) / np.sqrt(batches)


@pytest.mark.parametrize("interactions", [12, 1])
def test_the_chain_has_the_dense_posterior_and_its_shift(interactions, monkeypatch):
    monkeypatch.setattr(Sampler, "_variances", lambda self: None)
    monkeypatch.setattr(Sampler, "_scales", lambda self, y, w: None)
    sampler = chain(interactions=interactions)
    n, m = len(sampler.phi), len(sampler.psi)
    for name, x in sampler.variance.items():
        x[:] = np.random.default_rng(len(name)).uniform(0.1, 0.6, x.shape)
    rows = zip(sampler.user, sampler.item, sampler.columns, strict=True)
    x = np.array([regressors(sampler, *row) for row in rows])
    weight = sampler.copies / NOISE
    covariance = np.linalg.inv(x.T @ (x * weight[:, None]) + np.diag(1 / prior_variances(sampler)))
    mean = covariance @ (x.T @ (weight * sampler.response.outcome))
    pairs = np.array([regressors(sampler, u, i, np.zeros(1)) for u in range(n) for i in range(m)])
    drawn = []
    for step in range(2600):
        sampler.sweep()
        if step >= 100:
            drawn.append(coefficients(sampler))
    drawn, size = np.array(drawn), sampler.g.size
    spread = np.sqrt(np.diag(covariance))
    assert (np.abs(drawn.mean(0) - mean) < 5 * batch_error(drawn)).all()
    # A wrong shift fits the biased rows as well as the right one: it is asked for itself.
    assert batch_error(drawn)[size] < 0.1 * spread[size]
    np.testing.assert_allclose(drawn.std(0)[: size + 1], spread[: size + 1], rtol=0.1)
    for part in np.split(
        drawn.std(0) / spread, [size + 1, size + 1 + n, size + 1 + 3 * n, size + 1 + 3 * n + m]
    ):
        assert part.mean() == pytest.approx(1, abs=0.05)
    f = drawn @ pairs.T
    assert (np.abs(f.mean(0) - pairs @ mean) < 5 * batch_error(f)).all()
    wanted = np.sqrt(np.einsum("nk,kl,nl->n", pairs, covariance, pairs))
    np.testing.assert_allclose(f.std(0), wanted, rtol=0.15)


@pytest.mark.parametrize("s", [1, 3])
def test_the_coupled_part_and_the_shift_are_drawn_from_their_normal_given_the_rest(s):
    sampler = chain(s=s, dim=2, seed=1, interactions=2)
    for _ in range(3):
        sampler.sweep()
    rows = zip(sampler.user, sampler.item, sampler.columns, strict=True)
    size, coupled = sampler.g.size, np.zeros((4, 3), bool)
    coupled[:3] = True  # the third feature of users is not
    here = np.append(coupled.ravel(), np.ones(s, bool)).nonzero()[0]
    x = np.array([regressors(sampler, *row) for row in rows])[:, here]
    y, weight = sampler.response.outcome, sampler.copies / NOISE
    precision = x.T @ (x * weight[:, None]) + np.diag(1 / prior_variances(sampler)[here])
    others = sampler.f - x @ coefficients(sampler)[here]
    mean, covariance = np.linalg.solve(precision, x.T @ (weight * (y - others))), np.linalg.inv(precision)
    before, draws, n = sampler.g.copy(), [], 4000
    for _ in range(n):
        sampler._globals(y - sampler.f, weight.astype(np.float32))
        draws.append(coefficients(sampler)[: size + s])
    np.testing.assert_array_equal(sampler.g[3], before[3])
    draws, variance = np.array(draws)[:, here], np.diag(covariance)
    assert (np.abs(draws.mean(0) - mean) < 5 * np.sqrt(variance / n)).all()
    error = np.sqrt((np.outer(variance, variance) + covariance**2) / n)
    assert (np.abs(np.cov(draws.T) - covariance) < 5 * error).all()


@pytest.mark.parametrize(
    ("name", "dim"), [("a", 0), ("v", 0), ("b", 0), ("w", 0), ("q", 1), ("q", 3), ("q", 8)]
)
def test_a_block_moves_with_its_standard_deviation_as_the_rows_and_the_prior_say(name, dim):
    """All else fixed, the factor c of both has one density, which a grid of its values integrates."""
    sampler = chain(dim=dim, seed=2)
    for _ in range(5):
        sampler.sweep()
    y, w = sampler.response.outcome, (sampler.copies / NOISE).astype(np.float32)
    f, h = sampler.phi.shape[1], sampler.psi.shape[1]
    own, latent = np.array([0]), np.arange(dim)
    block, columns, table, regressor = {
        "a": (sampler.u, own, sampler.psi_1, own),
        "v": (sampler.u, own + 2, sampler.psi_1, own + 2),
        "b": (sampler.i, own, sampler.phi_1, own),
        "w": (sampler.i, own + 3, sampler.phi_1, own + 3),
        "q": (sampler.i, 1 + f + latent, sampler.u, 1 + h + latent),
    }[name]
    places = list(latent) if name == "q" else [len(sampler.variance[name]) - 1]
    if name in "vw":  # the only feature of its group
        assert (sampler.psi_group if name == "v" else sampler.phi_group).tolist().count(places[0]) == 1
    mine, other = (sampler.user, sampler.item)[:: 1 if name in "av" else -1]
    part = (block[:, columns][mine] * table[:, regressor][other]).sum(1).astype(float)
    rest, first, rate = y - sampler.f, sampler.variance[name][places].copy(), sampler.rate[name][places]
    c = np.linspace(1e-3, 12, 40_000)
    # Variances of shape 1/2: a standard deviation s has density exp(-rate / s^2) / s^2; c scales all of them at once.
    log = -(len(first) + 1) * np.log(c) - (rate / first).sum() / c**2
    log -= 0.5 * ((w @ part**2) * (c - 1) ** 2 - 2 * (w * part) @ rest * (c - 1))
    p = np.exp(log - log.max()) / np.exp(log - log.max()).sum()
    drawn = []
    for _ in range(6000):
        sampler._scale(block, columns, table, regressor, name, places, y, w)
        drawn.append(np.sqrt(sampler.variance[name][places[0]] / first[0]))
    drawn = np.array(drawn)[:, None] ** [1, 2]
    wanted = p @ c, p @ c**2
    assert (np.abs(drawn.mean(0) - wanted) < 4.5 * batch_error(drawn)).all(), (drawn.mean(0), wanted)
    assert (batch_error(drawn) < 0.04 * np.array(wanted)).all()
    np.testing.assert_allclose(sampler.f, recomputed(sampler), atol=2e-3)


def recomputed(sampler):
    """F of every row from its parts, one row at a time."""
    h, f = sampler.psi.shape[1], sampler.phi.shape[1]
    x = coefficients(sampler)
    rows = zip(sampler.user, sampler.item, sampler.columns, strict=True)
    return np.array(
        [regressors(sampler, u, i, s) @ x + sampler.u[u, 1 + h :] @ sampler.i[i, 1 + f :] for u, i, s in rows]
    )


@pytest.mark.parametrize("response", ["free gaussian", "levels", "binary"])
@pytest.mark.parametrize(
    ("dim", "s", "settings"),
    [(3, 1, {}), (0, 2, {"interactions": 1}), (2, 0, {"interactions": 0}), (1, 1, {"f": 0, "h": 0})],
    ids=["latent", "two columns", "no column", "no features"],
)
def test_f_is_the_sum_of_its_parts_after_any_sweep(response, dim, s, settings):
    sampler = chain(dim=dim, s=s, response=response, start=0.4, **settings)
    np.testing.assert_allclose(sampler.f, recomputed(sampler), atol=1e-5)
    for _ in range(30):
        sampler.sweep()
    assert np.abs(sampler.f).max() > 0.1
    np.testing.assert_allclose(sampler.f, recomputed(sampler), atol=1e-3)


def test_a_draw_stays_as_it_was_and_has_everything():
    sampler = chain(dim=2, response="levels")
    for _ in range(3):
        sampler.sweep()
    draw, x, f = sampler.draw(), coefficients(sampler), sampler.f.copy()
    np.testing.assert_array_equal(draw.parameters, sampler.response.cuts)
    np.testing.assert_allclose(draw.user_prior[0], 1 / sampler.variance["a"][0])
    np.testing.assert_allclose(draw.item_prior[-2:], 1 / sampler.variance["q"])
    sampler.sweep()
    assert not np.allclose(sampler.f, f)
    h, n_f = sampler.psi.shape[1], sampler.phi.shape[1]
    user, item = draw.user, draw.item
    parts = (draw.g, draw.d, user[:, 0], user[:, 1 : 1 + h], item[:, 0], item[:, 1 : 1 + n_f])
    np.testing.assert_array_equal(np.concatenate([p.ravel() for p in parts]), x)


def test_one_seed_is_one_chain():
    runs = [chain(dim=2, response="levels", seed=seed) for seed in (4, 4, 5)]
    for sampler in runs:
        for _ in range(4):
            sampler.sweep()
    np.testing.assert_array_equal(runs[0].f, runs[1].f)
    assert not np.array_equal(runs[0].f, runs[2].f)


# ---------------------------------------------------------------------- the prior
def from_the_prior(sampler, rng):
    """Put the sampler's state at a draw from the prior; the response stays."""
    unit, v = sampler.response.unit**2, sampler.variance
    for name in v:
        if name == "p":
            v[name] = bilinear.LATENT / rng.gamma(bilinear.LATENT, size=sampler.dim)
            continue
        rate = rates(name, rng, 400, unit)[: v[name].size].reshape(v[name].shape)
        sampler.rate[name] = rate
        v[name] = rate / rng.gamma(0.5, size=rate.shape)
    user, item = sampler.priors()

    def normal(shape, precision):
        return (rng.standard_normal(shape) / np.sqrt(precision)).astype(np.float32)

    sampler.g = normal(sampler.g.shape, sampler._g_prior())
    sampler.d = normal(sampler.d.shape, 1 / (sampler.spread * unit))
    sampler.u, sampler.i = normal(sampler.u.shape, user), normal(sampler.i.shape, item)
    sampler.swept = 0  # so that standard deviations move in every sweep


def rates(name, rng, n, unit):
    """Rates of inverse Gamma variances of shape 1/2 that make standard deviations half-Cauchy, a's and b's cut."""
    rate = rng.gamma(0.5, bilinear.SCALE**2 * unit, n)
    return rate[rate > bilinear.FLOOR * unit] if name in "ab" else rate


def quantity(sampler):
    """Numbers whose distribution under the prior is known: name, value."""
    v = {f"{k}{j}": x for k in sampler.variance for j, x in enumerate(sampler.variance[k].ravel())}
    out = {
        **v,
        "d": sampler.d[0] / np.sqrt(sampler.spread[0] * sampler.response.unit**2),
        "g": sampler.g[0, 0] / np.sqrt(bilinear.GRAND * sampler.response.unit**2),
        "u": sampler.u[0, 0] / np.sqrt(sampler.variance["a"][0]),
        "i": sampler.i[0, 0] / np.sqrt(sampler.variance["b"][0]),
    }
    return out


def quantiles(name, at, unit):
    """Of that number under the prior."""
    if name in ("d", "g", "u", "i"):
        return norm.ppf(at)
    if name[0] == "p":
        return invgamma(bilinear.LATENT, scale=bilinear.LATENT).ppf(at)
    if name[:-1] in ("a", "b"):
        rng = np.random.default_rng(0)
        rate = rates(name[:-1], rng, 1_000_000, unit)
        return np.quantile(rate / rng.gamma(0.5, size=len(rate)), at)
    return halfcauchy(scale=bilinear.SCALE * np.sqrt(unit)).ppf(at) ** 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("response", "settings"),
    [
        ("gaussian", {"dim": 0}),
        ("gaussian", {"dim": 1, "interactions": 1}),
        ("binary", {"dim": 3}),
    ],
)
def test_sweeps_with_new_outcomes_in_turn_leave_the_prior_as_it_is(response, settings):
    """Geweke's test: chains that start in the joint distribution of unknowns and outcomes must stay in it.

    Every chain is one independent observation, so that no mixing is needed for the errors to be right.
    """
    sampler = chain(n=6, m=5, f=3, h=2, size=24, response=response, **settings)
    rng, unit, at = np.random.default_rng(7), sampler.response.unit**2, np.array([0.25, 0.5, 0.75])
    if response == "binary":  # copies are ratings of one level, which outcomes of their own would not be
        sampler.copies = np.ones_like(sampler.copies)
    bounds = {name: quantiles(name, at, unit) for name in quantity(sampler)}
    chains, sweeps, below = 500, 25, {name: [] for name in bounds}
    for _ in range(chains):
        from_the_prior(sampler, rng)
        found = []
        for _ in range(sweeps):
            sampler.f = recomputed(sampler).astype(np.float32)
            noise = rng.standard_normal(len(sampler.f)) * np.sqrt(unit / sampler.copies)
            y = (sampler.f + noise).astype(np.float32)
            if response == "binary":
                sampler.response = replace(sampler.response, level=(y > 0).astype(np.int64))
            else:
                sampler.response = replace(sampler.response, outcome=y)
            sampler.sweep()
            found.append({name: value < bounds[name] for name, value in quantity(sampler).items()})
        for name in bounds:
            below[name].append(np.mean([step[name] for step in found], axis=0))
    for name, shares in below.items():
        z = (np.mean(shares, axis=0) - at) / (np.std(shares, axis=0, ddof=1) / np.sqrt(chains))
        assert np.abs(z).max() < 4.2, (name, z)


# ---------------------------------------------------------------------- products
def test_products_of_rows_are_the_same_in_any_chunks(monkeypatch):
    rng = np.random.default_rng(0)
    x, y, row, column = (
        rng.normal(size=(6, 3)),
        rng.normal(size=(5, 3)),
        rng.integers(0, 5, 20),
        rng.integers(0, 5, 20),
    )
    whole = dots(x, y, row, column)
    np.testing.assert_allclose(whole, (x @ y.T)[row, column], rtol=1e-5, atol=1e-6)
    monkeypatch.setattr(tables, "CHUNK", 7)
    np.testing.assert_array_equal(dots(x, y, row, column), whole)
    assert len(dots(x, y, row[:0], column[:0])) == 0


@pytest.mark.parametrize("rank", [1, 3, 5, 9])
def test_compressed_products_are_the_best_of_their_rank(rank):
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(n, 9)).astype(np.float32) * np.geomspace(2, 0.1, 9) for n in (12, 15))
    first, second = compressed(x, y, rank)
    assert first.dtype == second.dtype == np.float32
    assert first.shape == (12, rank)
    left, singular, right = np.linalg.svd(x @ y.T)
    wanted = (left[:, :rank] * singular[:rank]) @ right[:rank]
    np.testing.assert_allclose(first @ second.T, wanted, atol=1e-5 * singular[0])


def test_compressed_products_of_a_low_rank_are_exact_with_no_more_columns_than_needed():
    rng = np.random.default_rng(0)
    x, y, mix = rng.normal(size=(12, 3)), rng.normal(size=(4, 6)), rng.normal(size=(3, 6))
    first, second = compressed(x @ mix, y, 6)
    assert first.shape[1] == second.shape[1] == 3
    np.testing.assert_allclose(first @ second.T, x @ mix @ y.T, atol=1e-5 * np.abs(x @ mix @ y.T).max())
    np.testing.assert_allclose((first**2).sum(0), (second**2).sum(0), rtol=1e-4)
    nothing = compressed(np.zeros((4, 2)), np.ones((3, 2)), 2)
    np.testing.assert_array_equal(nothing[0] @ nothing[1].T, np.zeros((4, 3)))


def test_parts_are_means_over_the_other_side_and_rescaling_multiplies_them():
    rng = np.random.default_rng(8)
    left, right = (
        rng.standard_normal((7, 3)).astype(np.float32),
        rng.standard_normal((5, 3)).astype(np.float32),
    )
    f = left @ right.T
    by_user, by_item, level = parts(left, right)
    np.testing.assert_allclose(by_user, f.mean(1) - f.mean(), atol=1e-6)
    np.testing.assert_allclose(by_item, f.mean(0) - f.mean(), atol=1e-6)
    own = f - by_user[:, None] - by_item - level
    mine, theirs = rescaled(left, right, np.array([0.3, -0.2, 0.5]))
    wanted = level + 1.3 * by_user[:, None] + 0.8 * by_item + 1.5 * own
    np.testing.assert_allclose(mine @ theirs.T, wanted, atol=1e-5)
