"""The network of impressions against loops; what is unseen, and what towers share."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deconrec.nn.impressions import ImpressionNet, ImpressionTower, LogSizes
from deconrec.pairs import Pairs
from deconrec.training.program import Nets
from manual import impressions as manual

SIZES = LogSizes(n_users=4, n_items=3, n_places=7, n_columns=2, n_inputs=4, dim=3)


def rows(n=6, seed=0):
    rng = np.random.default_rng(seed)
    context = {
        "places": torch.from_numpy(
            np.column_stack([rng.integers(0, 4, n), rng.integers(4, 7, n)]).astype(np.int32)
        ),
        "inputs": torch.from_numpy(rng.standard_normal((n, 4))),
    }
    user, item = torch.from_numpy(rng.integers(0, 5, n)), torch.from_numpy(rng.integers(0, 4, n))
    return Pairs(user, item, torch.ones(n), torch.zeros(n), context=context)


def scrambled(net, seed=0):
    generator = torch.Generator().manual_seed(seed)
    net.double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return net


def lists(module):
    return {name: p.detach().numpy().tolist() for name, p in module.named_parameters()}


def test_the_network_equals_the_twin():
    net, pairs = scrambled(ImpressionNet(SIZES)), rows()
    tower = scrambled(ImpressionTower(net, offset=0.3), seed=1)
    for own, answer in ((net, net.answer), (tower, tower.answer)):
        got = own(pairs).detach().numpy()
        for k in range(len(pairs)):
            expected = manual.network(
                int(pairs.user[k]),
                int(pairs.item[k]),
                pairs.context["places"][k].tolist(),
                pairs.context["inputs"][k].tolist(),
                lists(net.embeddings),
                lists(answer),
            )
            assert got[k] == pytest.approx(expected, rel=1e-9)


def test_still_is_the_offset_with_a_gradient():
    net, pairs = ImpressionNet(SIZES, offset=-0.7, still=True).double(), rows()
    logit = net(pairs)
    torch.testing.assert_close(logit, torch.full_like(logit, -0.7))
    (gradient,) = torch.autograd.grad(logit.sum(), net.answer.out)
    assert gradient.abs().min() > 0


def test_unseen_ids_have_the_embedding_0_and_no_gradient_reaches_it():
    net, pairs = ImpressionNet(SIZES), rows()
    assert not net.embeddings.user[-1].any()
    assert not net.embeddings.item[-1].any()
    seen = Pairs(pairs.user.clamp(max=3), pairs.item.clamp(max=2), pairs.o, pairs.r, context=pairs.context)
    net.double()
    gradients = torch.autograd.grad(net(seen).sum(), [net.embeddings.user, net.embeddings.item])
    assert all(not g[-1].any() for g in gradients)


def test_a_tower_shares_embeddings_and_is_saved_without_them():
    net = ImpressionNet(SIZES).double()
    tower, pairs = ImpressionTower(net).double(), rows()
    (gradient,) = torch.autograd.grad(tower(pairs).sum(), net.embeddings.user)
    assert gradient.any()
    nets = Nets(prediction=net, propensity=tower)
    assert not any("embeddings" in name for name in nets["propensity"].state_dict())


def test_no_context_at_all():
    net = ImpressionNet(LogSizes(4, 3, 0, 0, 0, 3))
    n = 5
    context = {"places": torch.zeros(n, 0, dtype=torch.int32), "inputs": torch.zeros(n, 0)}
    index = torch.zeros(n, dtype=torch.int64)
    assert torch.isfinite(net(Pairs(index, index, torch.ones(n), torch.zeros(n), context=context))).all()
