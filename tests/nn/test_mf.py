"""The factorisation net: its logits, its start, and folding new users in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from deconrec.nn.mf import MF, fold_in
from deconrec.pairs import NO_TABLES, Pairs
from manual import risks


def pairs(users, items):
    u, i = torch.tensor(users), torch.tensor(items)
    return Pairs(u, i, torch.ones(len(u)), torch.ones(len(u)))


def fold(model, user, item, r, n_users, penalty, rounds=10):
    sides = model.item_side(NO_TABLES), model.new_users(n_users, None)
    return fold_in(*sides, user, item, r, penalty, rounds)


def net(dim=3, n_items=6, std=0.8, seed=0):
    torch.manual_seed(seed)
    model = MF(4, n_items, dim, std=std, offset=-0.5).double()
    torch.nn.init.normal_(model.item_bias, std=0.5)
    torch.nn.init.normal_(model.user_bias, std=0.5)
    return model


def test_logits_by_loops():
    model = net()
    p, q = model.user.detach().numpy(), model.item.detach().numpy()
    for u, i in ((0, 0), (3, 5), (2, 1)):
        dot = sum(p[u, k] * q[i, k] for k in range(3))
        wanted = dot + float(model.user_bias[u].detach() + model.item_bias[i].detach()) - 0.5
        assert float(model(pairs([u], [i])).detach()) == pytest.approx(wanted, rel=1e-9)


def test_a_still_net_starts_at_its_offset_and_can_move():
    torch.manual_seed(0)
    model = MF(4, 6, 3, still=True)
    logits = model(pairs([0, 1, 2], [3, 4, 5]))
    assert (logits == 0).all()
    logits.sum().backward()
    assert torch.any(model.item.grad != 0)
    assert not torch.any(model.user.grad != 0)


def test_starting_values_have_the_scale_that_is_asked_for():
    torch.manual_seed(0)
    model = MF(2000, 1000, 8, std=0.1, offset=1.5)
    assert float(model.user.std().detach()) == pytest.approx(0.1, rel=0.02)
    assert float(model.item.std().detach()) == pytest.approx(0.1, rel=0.02)
    assert float(model.offset.detach()) == 1.5
    assert not model.user_bias.any()


# ---------------------------------------------------------------------- fold-in
HISTORY = {  # three new users: rows (item, outcome)
    0: [(0, 1.0), (3, 0.0), (5, 1.0)],
    1: [(2, 0.0)],
    2: [],
}


def folded(model, penalty, rounds=10):
    user = np.array([u for u, rows in HISTORY.items() for _ in rows])
    item = np.array([i for rows in HISTORY.values() for i, _ in rows])
    r = np.array([y for rows in HISTORY.values() for _, y in rows])
    return fold(model, user, item, r, 3, penalty, rounds)


def recovered(model, probabilities):
    """(p, b) of a user from its expected outcomes: the item side is known."""
    q = model.item.detach().numpy()
    base = (model.item_bias + model.offset).detach().numpy()
    logits = np.log(probabilities / (1 - probabilities)) - base
    solution, *_ = np.linalg.lstsq(np.hstack([q, np.ones((len(q), 1))]), logits, rcond=None)
    return solution[:-1], solution[-1]


@pytest.mark.parametrize("penalty", [0.03, 1.0, 30.0])
def test_fold_in_is_where_the_gradient_of_its_objective_vanishes(penalty):
    model = net()
    out = folded(model, penalty)
    q = model.item.detach().numpy()
    base = (model.item_bias + model.offset).detach().numpy()
    for u in (0, 1):
        p, b = recovered(model, out[u])
        items, r = zip(*HISTORY[u], strict=True)
        gradient = risks.fold_in_gradient(q, base, items, r, p, b, penalty)
        assert np.abs(gradient).max() < 1e-6
        start = risks.fold_in_gradient(q, base, items, r, 0 * p, 0.0, penalty)
        assert np.abs(start).max() > 0.1  # the test can fail


def test_fold_in_is_what_a_general_optimiser_finds():
    model = net()
    q, base = model.item.detach().numpy(), (model.item_bias + model.offset).detach().numpy()
    items, r = zip(*HISTORY[0], strict=True)

    def objective(w):
        total = 0.5 * 0.5 * (w @ w)
        for i, y in zip(items, r, strict=True):
            total += risks.delta("cross-entropy", y, risks.sigma(q[i] @ w[:-1] + w[-1] + base[i]))
        return total

    best = minimize(objective, np.zeros(4), tol=1e-12).x
    p, b = recovered(model, folded(model, 0.5)[0])
    np.testing.assert_allclose([*p, b], best, atol=1e-4)


def test_a_new_user_without_rows_gets_the_item_side():
    model = net()
    base = (model.item_bias + model.offset).detach().numpy()
    np.testing.assert_allclose(folded(model, 1.0)[2], 1 / (1 + np.exp(-base)), rtol=1e-9)


def test_a_strong_penalty_leaves_new_users_at_the_item_side():
    model = net()
    out = folded(model, 1e9)
    np.testing.assert_allclose(out[0], out[2], atol=1e-6)


def test_fold_in_survives_separable_histories_and_no_penalty():
    model = net()
    out = fold(model, np.zeros(6, int), np.arange(6), np.ones(6), 1, 0.0, rounds=50)
    assert np.isfinite(out).all()
    assert (out > 0.9).all()


def test_folding_a_training_user_in_agrees_with_its_own_optimum():
    # Where a user's own factors are already the optimum given the items, fold-in finds them again.
    model = net()
    out = folded(model, 0.7)
    p, b = recovered(model, out[0])
    with torch.no_grad():
        model.user[0], model.user_bias[0] = torch.as_tensor(p), torch.as_tensor(b)
    logits = model(pairs([0] * 6, list(range(6)))).detach()
    np.testing.assert_allclose(torch.sigmoid(logits).numpy(), out[0], rtol=1e-6)
