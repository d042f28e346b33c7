"""IPS against loops."""

from __future__ import annotations

import numpy as np
import pytest

from deconrec.methods.ips import IPS
from deconrec.propensity import Known
from deconrec.training.samplers import Blocks, UniformPairs
from manual import risks
from manual.batches import SHAPE, batches, dense, probabilities, scramble, tiny, value

P = np.linspace(0.02, 1.0, SHAPE[0] * SHAPE[1]).reshape(SHAPE).astype(np.float32)


@pytest.mark.parametrize(("kind", "ratings"), [("cross-entropy", (0.0, 1.0)), ("squared", (1.0, 3.0, 5.0))])
@pytest.mark.parametrize("floor", [1e-6, 0.3])
@pytest.mark.parametrize("sampler", [None, Blocks(3, 2), UniformPairs(4)])
def test_the_risk_equals_the_twin(kind, ratings, floor, sampler):
    data = tiny(ratings)
    o, r, _ = dense(data)
    model = IPS(dim=3, epochs=0, propensity=Known(values=P, floor=floor)).fit(data, validation=data)
    nets = scramble(model.nets_)
    (whole,) = batches(data)
    r_hat = probabilities(nets.prediction, whole)
    twin = risks.ips(kind, o, r, r_hat, risks.raised(P.astype(float), floor))
    got = np.mean([b.weight * value(model.ips_risk(nets, b)) for b in batches(data, sampler)])
    assert got == pytest.approx(twin, rel=1e-6)


def test_needs_follow_the_propensity():
    from deconrec.propensity import NaiveBayes

    assert not IPS().tags.needs_unbiased
    assert IPS(propensity=NaiveBayes()).tags.needs_unbiased
