"""Splitting the randomised log between training and calibration (Res-IPS, Res-DR)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import deconrec as dc
from deconrec.methods.res_ips import half
from deconrec.pairs import NO_TABLES
from deconrec.training.samplers import Blocks, Source


@pytest.fixture(scope="module")
def data():
    return dc.simulate.pairs(n_users=60, n_items=40, exposure_rate=0.2, unbiased_share=0.2, seed=0)[0]


def test_halves_are_disjoint_complete_and_about_even(data):
    pairs = Source.of(data, NO_TABLES).unbiased
    assert pairs is not None
    one, two = half(pairs, 0), half(pairs, 1)
    keys = [set((p.user * data.n_items + p.item).tolist()) for p in (one, two)]
    assert not keys[0] & keys[1]
    assert len(keys[0] | keys[1]) == len(pairs)
    assert 0.35 < len(one) / len(pairs) < 0.65


@pytest.mark.parametrize("cls", [dc.ResIPS, dc.ResDR])
def test_each_loss_reads_its_own_half(data, cls):
    """The gradient of L_U in the users of the other half alone is zero, and the other way about."""
    model = cls(dim=2, epochs=1, split_unbiased=True).fit(data)
    batch = next(iter(Blocks(60, 40).batches(Source.of(data, NO_TABLES), np.random.default_rng(0), 0)))
    nets = model.nets_
    whole = {name: v.item() for name, v in cls.unbiased(model, nets, batch).items()}
    r = half(batch.unbiased, 0)
    with torch.no_grad():
        own = float(model.d(nets.prediction(r), r.r).mean())
    assert whole["unbiased"] == pytest.approx(own, rel=1e-6)
    model.split_unbiased = False
    everything = cls.unbiased(model, nets, batch)["unbiased"].item()
    assert everything != pytest.approx(own, rel=1e-4)
