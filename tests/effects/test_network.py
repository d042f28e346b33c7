"""Jacobians of networks against slow ones, and against weights where the network is linear."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import deconrec as dc
from deconrec.data.dataset import Dataset, Truth
from deconrec.effects.network import (
    fit_network,
    method_function,
    network_function,
    responses,
)
from deconrec.errors import DataError
from deconrec.training.samplers import user_rows

ITEMS = np.arange(40)


def test_a_linear_network_gives_its_weights(world: tuple[Dataset, Truth], exposures: np.ndarray) -> None:
    given = np.asarray(world[1].confounder, np.float64)
    net = fit_network(exposures, world[1].rating, given, hidden=(), epochs=2)
    weight = net[0].weight.detach().numpy()[:, :40].T  # type: ignore[index]  # a Sequential
    f = network_function(net, given)
    for kind in ("jacobian", "difference"):
        found = responses(f, exposures, np.arange(7), ITEMS, ITEMS, kind)  # type: ignore[arg-type]  # one of the two
        assert np.allclose(found, weight, atol=1e-4)


def test_a_bent_network_against_reverse_differentiation(
    world: tuple[Dataset, Truth], exposures: np.ndarray
) -> None:
    given = np.asarray(world[1].confounder, np.float64)
    net = fit_network(exposures, world[1].rating, given, hidden=(6,), epochs=2)
    users = np.array([3, 8])
    found = responses(network_function(net, given), exposures, users, np.array([1, 5]), np.array([0, 2]))
    slow = []
    for u in users:
        x = torch.from_numpy(np.concatenate([exposures[u], given[u]]).astype(np.float32))
        slow.append(torch.autograd.functional.jacobian(net, x).numpy().T)
    assert np.allclose(found, np.mean(slow, 0)[np.ix_([1, 5], [0, 2])], atol=1e-5)


def test_a_network_recovers_a_linear_truth(world: tuple[Dataset, Truth], exposures: np.ndarray) -> None:
    data, truth = dc.simulate.effects(n_users=1500, n_items=10, n_confounders=1, noise=0.3, seed=0)
    a, c = data.biased.pattern(data.shape).toarray(), np.asarray(truth.confounder, np.float64)
    net = fit_network(a, truth.rating, c, hidden=(20,), epochs=40, lr=1e-2)
    items = np.arange(10)
    found = responses(network_function(net, c), a, np.arange(300), items, items)
    assert np.abs(found - truth.extra["effects"]).mean() < 0.05


def logits_of(model: dc.DeepDeconf, users: np.ndarray, added: int | None) -> np.ndarray:
    """Centred logits by the method's own forward pass, its z held, an exposure added (or taken away)."""
    rows, _ = user_rows(model.rows_, users)
    z = model.z(rows)
    if added is not None:
        log, rows = model.rows_, None
        keep = log.item != abs(added) - 1
        if added > 0:
            user = np.concatenate([log.user[keep], np.arange(log.shape[0])])
            item = np.concatenate([log.item[keep], np.full(log.shape[0], added - 1)])
        else:
            user, item = log.user[keep], log.item[keep]
        changed = Dataset(
            model.users_, model.items_, dc.Log(user, item, np.ones(len(user))), task=model.task_
        )
        from deconrec.pairs import NO_TABLES
        from deconrec.training.samplers import Source

        rows, _ = user_rows(Source.of(changed, NO_TABLES), users)
    with torch.no_grad():
        model.nets_.eval()
        logits = model.nets_.outcome(rows, None, z)[0]
    return (logits - logits.mean(1, keepdim=True)).numpy()


def test_difference_of_a_fitted_method_is_that_of_its_forward_pass(
    fitted: dc.DeepDeconf, exposures: np.ndarray
) -> None:
    users = np.arange(20)
    own = np.zeros((len(exposures), 40))
    own[fitted.rows_.user, fitted.rows_.item] = 1
    found = responses(
        method_function(fitted, frozen=False), own, users, np.array([4]), ITEMS, kind="difference"
    )
    slow = (logits_of(fitted, users, 5) - logits_of(fitted, users, -5)).mean(0)
    assert np.allclose(found[0], slow, atol=1e-5)


def test_jacobian_of_a_fitted_method_at_a_frozen_scale(fitted: dc.DeepDeconf) -> None:
    own = np.zeros((fitted.rows_.shape[0], 40), np.float32)
    own[fitted.rows_.user, fitted.rows_.item] = 1
    users = np.arange(6)
    f = method_function(fitted)
    found = responses(f, own, users, ITEMS, ITEMS)
    a, step = torch.from_numpy(own[users]).double().float(), 1e-2
    up, down = a.clone(), a.clone()
    up[:, 7] += step
    down[:, 7] -= step
    with torch.no_grad():
        slow = ((f(users)(up) - f(users)(down)) / (2 * step)).mean(0).numpy()
        assert np.allclose(f(users)(a).numpy(), logits_of(fitted, users, None), atol=1e-5)
    assert np.allclose(found[7], slow, atol=2e-3)
    assert np.allclose(found.sum(1), 0, atol=1e-4)  # centred over items
    assert np.linalg.matrix_rank(found, tol=1e-4) <= 9  # a layer of 8, and the centring


def test_probabilities_sum_to_one(fitted: dc.DeepDeconf) -> None:
    own = np.zeros((fitted.rows_.shape[0], 40), np.float32)
    found = responses(method_function(fitted, output="probability"), own, np.arange(3), ITEMS, ITEMS)
    assert np.allclose(found.sum(1), 0, atol=1e-6)


def test_a_method_without_such_a_network_is_refused() -> None:
    data, _ = dc.simulate.pairs(n_users=60, n_items=20, seed=0)
    with pytest.raises(DataError, match="whole user rows"):
        dc.MF(dim=2, epochs=1).fit(data).effects()
