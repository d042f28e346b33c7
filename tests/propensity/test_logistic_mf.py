"""Logistic factorisation of exposures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deconrec.checks.fixtures import checkerboard, confounded
from deconrec.errors import ParameterError
from deconrec.methods.ips import IPS
from deconrec.propensity import LogisticMF
from deconrec.propensity.logistic_mf import LogisticMF as Module
from deconrec.training.samplers import Blocks
from manual import risks
from manual.batches import batches, dense, probabilities, scramble, tiny, value


@pytest.mark.parametrize("sampler", [None, Blocks(3, 2)])
def test_its_risk_is_l_ctr(sampler):
    data = tiny()
    model = LogisticMF(dim=2, epochs=1).fit(data)
    nets = scramble(model.nets_)
    (whole,) = batches(data)
    twin = risks.ctr(dense(data)[0], probabilities(nets.propensity, whole))
    got = np.mean([b.weight * value(model.exposure(nets, b)) for b in batches(data, sampler)])
    assert got == pytest.approx(twin, rel=1e-6)


def test_it_learns_who_is_shown_what():
    data, _ = checkerboard(likes_only=True, shown=0.9)
    fitted = LogisticMF(dim=2, epochs=150, lr=0.1, floor=1e-3).fit(data)
    from deconrec.pairs import Pairs

    u, i = np.divmod(np.arange(data.n_users * data.n_items), data.n_items)
    pairs = Pairs(torch.as_tensor(u), torch.as_tensor(i), torch.ones(len(u)), torch.ones(len(u)))
    p = fitted(pairs).numpy()
    liked = u % 2 == i % 2
    assert p[liked].mean() > 0.8
    assert p[~liked].mean() < 0.1


def test_values_are_floored_without_a_gradient_and_start_at_the_density():
    data, _ = confounded()
    fitted = LogisticMF(epochs=1, lr=1e-9, floor=0.05).fit(data)
    (batch,) = Blocks(*data.shape).batches(_source(data), np.random.default_rng(0), 0)
    p = fitted(batch.space)
    assert not p.requires_grad
    assert float(p.mean()) == pytest.approx(data.density, rel=0.05)
    raised = LogisticMF(epochs=1, floor=0.3).fit(data)
    assert float(raised(batch.space).min()) == pytest.approx(0.3)
    assert 0 < raised.overlap_.floored_share < 1.0


def _source(data):
    from deconrec.pairs import NO_TABLES
    from deconrec.training.samplers import Source

    return Source.of(data, NO_TABLES)


def test_large_spaces_are_sampled(monkeypatch):
    from deconrec.propensity import logistic_mf

    data, _ = confounded()
    monkeypatch.setattr(logistic_mf, "LARGEST_GRID", 10)
    fitted = LogisticMF(dim=2, epochs=3, batch=200).fit(data)
    assert np.isfinite(fitted.history_.curve("exposure")).all()


def test_ranges_are_checked_and_seeds_repeat():
    with pytest.raises(ParameterError, match="'floor' of LogisticMF must be a number > 0 and <= 1; got 0"):
        LogisticMF(floor=0).fit(tiny())
    with pytest.raises(ParameterError, match="'floor' of LogisticMF"):
        IPS(propensity=LogisticMF(floor=2.0)).fit(tiny())
    a, b, c = (Module(epochs=2, seed=s).fit(tiny()).nets_.propensity.user for s in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
