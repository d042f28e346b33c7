"""SNIPS against loops."""

from __future__ import annotations

import numpy as np
import pytest

from deconrec.methods.mf import MF
from deconrec.methods.snips import SNIPS
from deconrec.propensity import Known, NaiveBayes
from deconrec.training.samplers import Blocks, UniformPairs
from manual import multitask, risks
from manual.batches import SHAPE, batches, dense, probabilities, scramble, tiny, value

P = np.linspace(0.02, 1.0, SHAPE[0] * SHAPE[1]).reshape(SHAPE).astype(np.float32)


def world(ratings=(0.0, 1.0), p=P, **parameters):
    data = tiny(ratings)
    model = SNIPS(dim=3, epochs=0, propensity=Known(values=p, floor=0.1), **parameters)
    model.fit(data, validation=data)
    return model, scramble(model.nets_), data


@pytest.mark.parametrize("backbone", ["mf", "fm"])
@pytest.mark.parametrize(("kind", "ratings"), [("cross-entropy", (0.0, 1.0)), ("squared", (1.0, 3.0, 5.0))])
def test_the_risk_equals_the_twin(kind, ratings, backbone):
    model, nets, data = world(ratings, backbone=backbone)
    o, r, _ = dense(data)
    (whole,) = batches(data)
    twin = multitask.snips(
        kind, o, r, probabilities(nets.prediction, whole), risks.raised(P.astype(float), 0.1)
    )
    for sampler in (None, UniformPairs(10_000)):  # all observed rows in one step
        (b,) = batches(data, sampler)
        assert value(model.snips_risk(nets, b)) == pytest.approx(twin, rel=1e-6)


@pytest.mark.parametrize("sampler", [None, Blocks(3, 2), UniformPairs(4)])
@pytest.mark.parametrize("p", [1.0, 0.3])
def test_a_constant_p_is_mf_whatever_its_value_and_the_sampler(p, sampler):
    model, nets, data = world(p=np.full(SHAPE, p, np.float32))
    mf = MF(dim=3, epochs=0).fit(data, validation=data)
    for b in batches(data, sampler):
        assert value(model.snips_risk(nets, b)) == pytest.approx(value(mf.biased(nets, b)), rel=1e-6)


def test_a_wrong_level_of_p_moves_nothing():
    (a, nets, data), (b, *_) = world(p=np.clip(P, 0.2, 1)), world(p=np.clip(P, 0.2, 1) / 2)
    (whole,) = batches(data)
    assert value(a.snips_risk(nets, whole)) == pytest.approx(value(b.snips_risk(nets, whole)), rel=1e-6)


def test_needs_follow_the_propensity():
    assert not SNIPS().tags.needs_unbiased
    assert SNIPS(propensity=NaiveBayes()).tags.needs_unbiased
