"""What is kept of a chain: means, variances and draws against the chain's own states."""

import numpy as np
import pytest

from deconrec.kernels.bilinear import Sampler
from deconrec.kernels.posterior import Collected, Posterior, spread_out
from deconrec.kernels.response import Gaussian

N, M, STEPS = 30, 20, 12


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "slopes"])
def chain(request):
    rng = np.random.default_rng(0)
    slopes = request.param
    rows = 300
    user, item = rng.integers(0, N, rows), rng.integers(0, M, rows)
    phi, psi = (rng.standard_normal((size, 2)).astype(np.float32) for size in (N, M))
    sampler = Sampler(
        phi=phi,
        psi=psi,
        phi_group=np.zeros(2, np.int64),
        psi_group=np.zeros(2, np.int64),
        user=user,
        item=item,
        copies=np.ones(rows, np.int64),
        response=Gaussian.of(rng.random(rows)),
        columns=np.zeros((rows, 3 * slopes), np.float32),
        spread=np.full(3 * slopes, 0.05),
        dim=3,
        rng=rng,
        grounded=np.arange(250, rows) if slopes else np.zeros(0, np.int64),
    )
    collected = Collected(sampler, STEPS, 5, slopes=slopes)
    full = []
    for _ in range(STEPS):
        sampler.sweep()
        draw = collected.add()
        left, right = sampler.tables()
        f = (left @ right.T).astype(np.float64)
        if slopes:
            level, a, b = f.mean(), f.mean(1) - f.mean(), f.mean(0) - f.mean()
            own = f - a[:, None] - b - level
            s = draw.d[-3:].astype(np.float64)
            f = level + (1 + s[0]) * a[:, None] + (1 + s[1]) * b + (1 + s[2]) * own
        full.append(f)
    return collected.posterior(), np.array(full)


def test_a_draws_tables_have_the_scores_of_the_chain_in_that_sweep(chain):
    posterior, full = chain
    for place, draw in zip(spread_out(STEPS, 5), posterior.draws, strict=True):
        left, right = posterior.tables(draw)
        np.testing.assert_allclose(left @ right.T, full[place], atol=5e-3)  # kept in half precision


def test_new_users_with_a_training_users_table_have_that_users_scores(chain):
    posterior, full = chain
    draw = posterior.draws[-1]
    left = posterior.core_tables(draw)[0]
    np.testing.assert_allclose(posterior.rescaled(draw, left), full[-1], atol=5e-3)


def test_variances_are_those_of_the_draws_over_all_pairs(chain):
    posterior, full = chain
    # Here the grids hold everybody, and mean scores are means given the rest: near those of the draws, not the same.
    np.testing.assert_allclose(
        posterior.pairs(np.arange(M), np.arange(M)), posterior.block(np.arange(M)).diagonal(), rtol=1e-4
    )
    square = (full**2).mean(0) - posterior.block(np.arange(N)).astype(np.float64) ** 2
    np.testing.assert_allclose(posterior.user_variance, np.maximum(square.mean(1), 0), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(posterior.item_variance, np.maximum(square.mean(0), 0), rtol=1e-3, atol=1e-4)
    both = posterior.variance(posterior.user_variance[:, None], posterior.item_variance)
    users, items = np.maximum(square.mean(1), 0), np.maximum(square.mean(0), 0)
    expected = users[:, None] + items - (users.mean() + items.mean()) / 2
    np.testing.assert_allclose(both, np.maximum(expected, 0), rtol=1e-2, atol=5e-4)


def test_means_given_the_rest_are_near_the_mean_of_the_draws(chain):
    posterior, full = chain
    assert np.abs(posterior.block(np.arange(N)) - full.mean(0)).mean() < 0.5 * full.std(0).mean()


def test_what_is_saved_is_restored(chain):
    posterior, _ = chain
    again = Posterior.restored(posterior.state(), posterior.phi_1[:, 1:], posterior.psi_1[:, 1:])
    assert np.array_equal(again.block(np.arange(N)), posterior.block(np.arange(N)))
    assert np.array_equal(again.tables(again.draws[2])[0], posterior.tables(posterior.draws[2])[0])
    assert again.slopes is posterior.slopes
    assert np.array_equal(again.d, posterior.d)
